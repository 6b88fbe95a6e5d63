//! The token of a machine, as the coordinator makes it.

use calvin_consul::{
    Client,
    acl::{NodeIdentity, ServiceIdentity, TokenRequest},
    policies::{self, AgentScope, Names},
};

use crate::testing::ENVIRONMENT;

/// Where the locks of the environment's fleets are.
const LOCKS: &str = "calvin/build/locks/";

/// A token of a machine.
pub(in crate::joining) struct MachineToken {
    pub(in crate::joining) secret: String,
    pub(in crate::joining) accessor: String,
}

/// A token for the node and its services.
pub(super) async fn token(
    consul: &Client,
    instance: &str,
    services: &[String],
    order: &str,
) -> MachineToken {
    let name = &format!("{order}-{instance}");
    let rules = policies::agent(&AgentScope {
        nodes: Names::Exactly(vec![instance.to_owned()]),
        services: Names::Exactly(services.to_vec()),
        locks: Some(Names::Prefix(LOCKS.to_owned())),
    })
    .unwrap();
    // Policies have a name only once, and tests run beside each other.
    consul.policy_create(name, "test", &rules).await.unwrap();
    let identity = |service_name: String| ServiceIdentity {
        service_name,
        datacenters: Vec::new(),
    };
    let names = services.iter();
    let names = names.flat_map(|name| [name.clone(), format!("{name}-standby")]);
    let request = TokenRequest {
        description: name.to_owned(),
        policies: vec![name.to_owned()],
        node_identities: vec![NodeIdentity {
            node_name: instance.to_owned(),
            datacenter: ENVIRONMENT.to_owned(),
        }],
        service_identities: names.map(identity).collect(),
        ..TokenRequest::default()
    };
    let made = consul.token_create(&request).await.unwrap();
    MachineToken {
        secret: made.secret.secret().to_owned(),
        accessor: made.info.accessor,
    }
}
