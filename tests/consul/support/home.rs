//! An environment whose catalogue is a datacenter of the tests.

use std::{fs, path::Path};

use calvin_consul::{
    acl::TokenRequest,
    policies::{self, CoordinatorScope, Names},
};
use serde_json::{Value, json};

use super::{Datacenter, datacenter::MANAGEMENT, environment::Environment};

/// What every environment of the tests is called, and so its datacenter.
pub(crate) const ENVIRONMENT: &str = "test";

/// What makes a datacenter that environment's. Its servers' certificates name another one.
pub(crate) fn of_environment() -> Value {
    json!({
        "datacenter": ENVIRONMENT,
        "tls": { "internal_rpc": { "verify_server_hostname": false } },
    })
}

/// The token of the environment's coordinator, of its least policy.
pub(crate) async fn coordinator_token(datacenter: &Datacenter) -> String {
    let rules = policies::coordinator(&CoordinatorScope {
        nodes: Names::Prefix("web-".to_owned()),
        services: Names::Prefix("web".to_owned()),
        keys: format!("calvin/{ENVIRONMENT}/").parse().unwrap(),
        session_nodes: Names::Exactly(vec!["server-0".to_owned()]),
    })
    .unwrap();
    let management = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let name = "calvin-coordinator".to_owned();
    management
        .policy_create(&name, "test", &rules)
        .await
        .unwrap();
    let token = management
        .token_create(&TokenRequest {
            description: "coordinator".to_owned(),
            policies: vec![name],
            ..TokenRequest::default()
        })
        .await
        .unwrap();
    token.secret.secret().to_owned()
}

/// An environment that was prepared, with this datacenter as its catalogue.
pub(crate) fn prepare(datacenter: &Datacenter, token: &str) -> Environment {
    let environment = Environment::prepare();
    let home = environment.home();
    write_certificates(datacenter, home);
    fs::write(home.join("token"), token).unwrap();
    let server = &datacenter.servers[0];
    let section = format!(
        r#"[catalogue]
kind = "consul"

[consul]
address = "{}"
servers = ["{}:{}"]
token_file = "token"
ca_file = "ca.pem"
certificate_file = "certificate.pem"
key_file = "key.pem"
"#,
        server.url(),
        server.address,
        server.ports.serf,
    );
    let file = home.join("calvin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let catalogue = "[catalogue]\nttl = \"1s\"\n";
    assert!(text.contains(catalogue), "{text}");
    // The process provider says of a machine without our first process that it is gone: an agent that
    // dies must not be missed before the test has seen what it is about.
    let reports = "report_interval = \"500ms\"";
    assert!(text.contains(reports), "{text}");
    let text = text.replace(reports, "report_interval = \"15s\"");
    fs::write(&file, text.replace(catalogue, &section)).unwrap();
    environment
}

/// New certificates, as somebody rotates them.
pub(crate) fn write_certificates(datacenter: &Datacenter, home: &Path) {
    let identity = datacenter.authority.issue(&["client"], None);
    fs::write(home.join("ca.pem"), &datacenter.authority.pem).unwrap();
    fs::write(home.join("key.pem"), identity.key_pem).unwrap();
    fs::write(home.join("certificate.pem"), identity.certificate_pem).unwrap();
}
