//! A context with a certificate: the way of every operator who is not on the coordinator's machine.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use calvin_proto::{
    limits::OPERATOR_STREAMS,
    transport::{Trusted, coordinator_dns_name, incoming, new_key, server_builder, server_config},
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    fake::Fake,
    run::{Ended, bare, finish},
};

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate and its key.
    fn issue(&self, name: SanType, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key_pem = new_key().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::from_pem(&key_pem).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key_pem)
    }

    fn operator(&self) -> (String, String) {
        let uri = "spiffe://test/operator/alice/role/operator"
            .try_into()
            .unwrap();
        self.issue(SanType::URI(uri), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Serves the fake's script over TLS.
    async fn serve(&self, fake: &Fake) -> (SocketAddr, JoinHandle<()>) {
        let name = coordinator_dns_name(&"test".parse().unwrap());
        let name = SanType::DnsName(name.try_into().unwrap());
        let (certificate, key) = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        let trusted = Trusted::from_pem(&self.pem).unwrap();
        let config = server_config(&trusted, &certificate, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = incoming(
            listener,
            Arc::new(ArcSwap::from_pointee(config)),
            Arc::new(|_| {}),
        );
        let server = server_builder(OPERATOR_STREAMS)
            .add_service(fake.service())
            .serve_with_incoming(connections);
        (address, tokio::spawn(async { server.await.unwrap() }))
    }
}

/// Writes what `operator add` hands over, and adds it as a context.
async fn add_context(
    home: &Path,
    address: SocketAddr,
    environment: &str,
    ca: &str,
    own: &(String, String),
) {
    let handed = home.join("handed");
    fs::create_dir(&handed).unwrap();
    fs::write(handed.join("ca.pem"), ca).unwrap();
    fs::write(handed.join("certificate.pem"), &own.0).unwrap();
    fs::write(handed.join("key.pem"), &own.1).unwrap();
    let context = format!(
        "environment = \"{environment}\"\naddress = \"{address}\"\nca = \"ca.pem\"\n\
         certificate = \"certificate.pem\"\nkey = \"key.pem\"\n"
    );
    fs::write(handed.join("context.toml"), context).unwrap();
    let ended = calvin(home, &["context", "add", "prod", "--from", "handed"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
}

async fn calvin(home: &Path, arguments: &[&str]) -> Ended {
    let mut command = bare(home);
    command.args(arguments);
    finish(command).await
}

#[tokio::test]
async fn the_current_context_is_asked_over_mutual_tls() {
    let (fake, ca) = (Fake::start(), Ca::new());
    let (address, _server) = ca.serve(&fake).await;
    add_context(fake.directory(), address, "test", &ca.pem, &ca.operator()).await;
    let ended = calvin(fake.directory(), &["fleet", "scale", "web", "3"]).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "[test] fleet web is to have 3 instances\n")
    );
    let doctor = calvin(fake.directory(), &["doctor", "--output", "json"])
        .await
        .json();
    let checks = doctor["checks"].as_array().unwrap();
    for name in ["private key", "certificate", "coordinator"] {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(check["ok"], true, "{check}");
    }
}

#[tokio::test]
async fn a_coordinator_of_another_environment_is_not_asked() {
    let (fake, ca) = (Fake::start(), Ca::new());
    let (address, _server) = ca.serve(&fake).await;
    add_context(fake.directory(), address, "prod", &ca.pem, &ca.operator()).await;
    let ended = calvin(fake.directory(), &["fleet", "scale", "web", "3"]).await;
    assert_eq!(ended.code, 6, "{}", ended.err);
    assert!(
        ended
            .err
            .contains("the certificate is not that of this environment's coordinator"),
        "{}",
        ended.err
    );
    assert_eq!(fake.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_with_the_reason() {
    let (fake, ca, other) = (Fake::start(), Ca::new(), Ca::new());
    let (address, _server) = ca.serve(&fake).await;
    add_context(
        fake.directory(),
        address,
        "test",
        &ca.pem,
        &other.operator(),
    )
    .await;
    let ended = calvin(fake.directory(), &["status"]).await;
    assert_eq!(ended.code, 6, "{}", ended.err);
    assert!(
        ended
            .err
            .contains("certificate is not of this environment's CA"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named_with_its_context() {
    let (fake, ca) = (Fake::start(), Ca::new());
    let (address, server) = ca.serve(&fake).await;
    server.abort();
    let _ = server.await;
    add_context(fake.directory(), address, "test", &ca.pem, &ca.operator()).await;
    let ended = calvin(fake.directory(), &["status"]).await;
    assert_eq!(ended.code, 6, "{}", ended.err);
    let expected = format!("could not reach the coordinator at {address} (context prod)");
    assert!(ended.err.contains(&expected), "{}", ended.err);
}
