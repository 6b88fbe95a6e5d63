//! A coordinator and an agent, each with a token of its least policy and nothing more.

use calvin_consul::{
    Client,
    acl::{NodeIdentity, ServiceIdentity, TokenRequest},
    policies::{self, AgentScope, CoordinatorScope, Names},
};

use super::{
    Datacenter,
    datacenter::{MANAGEMENT, NAME},
    shared::NODE,
};

/// The coordinator of a test: asks the server, and works with services and keys that begin with
/// `own`.
pub(crate) async fn coordinator(datacenter: &Datacenter, own: &str) -> Client {
    let rules = policies::coordinator(&CoordinatorScope {
        nodes: Names::Prefix("calvin-".to_owned()),
        services: Names::Prefix(own.to_owned()),
        keys: format!("calvin/{own}/").parse().unwrap(),
        session_nodes: Names::Exactly(vec!["server-0".to_owned()]),
    })
    .unwrap();
    let server = &datacenter.servers[0];
    let management = datacenter.client(server, Some(MANAGEMENT));
    let name = format!("{own}-coordinator");
    management
        .policy_create(&name, "test", &rules)
        .await
        .unwrap();
    let token = management
        .token_create(&TokenRequest {
            description: name.clone(),
            policies: vec![name],
            ..TokenRequest::default()
        })
        .await
        .unwrap();
    datacenter.client(server, Some(token.secret.secret()))
}

/// The agent of a test: asks the Consul client on its node, and has these services. Its token is made
/// by the coordinator.
pub(crate) async fn agent(
    datacenter: &Datacenter,
    coordinator: &Client,
    own: &str,
    services: &[&str],
) -> Client {
    let services: Vec<_> = services.iter().map(ToString::to_string).collect();
    let rules = policies::agent(&AgentScope {
        nodes: Names::Exactly(vec![NODE.to_owned()]),
        services: Names::Exactly(services.clone()),
        locks: Some(Names::Prefix(format!("calvin/{own}/locks/"))),
    })
    .unwrap();
    let name = format!("{own}-agent");
    coordinator
        .policy_create(&name, "test", &rules)
        .await
        .unwrap();
    let identity = |service: &String| ServiceIdentity {
        service_name: service.clone(),
        datacenters: Vec::new(),
    };
    let token = coordinator
        .token_create(&TokenRequest {
            description: name.clone(),
            policies: vec![name],
            node_identities: vec![NodeIdentity {
                node_name: NODE.to_owned(),
                datacenter: NAME.to_owned(),
            }],
            service_identities: services.iter().map(identity).collect(),
            ..TokenRequest::default()
        })
        .await
        .unwrap();
    datacenter.client(&datacenter.agents[0], Some(token.secret.secret()))
}
