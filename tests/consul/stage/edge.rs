//! The Consul client beside a consumer: it may look everything up and change nothing.

use std::net::SocketAddr;

use calvin_consul::acl::TokenRequest;
use serde_json::json;

use crate::support::{Datacenter, datacenter::MANAGEMENT};

/// The node of a consumer.
const NODE: &str = "edge";

/// What looking up takes.
const POLICY: &str = "node_prefix \"\" { policy = \"read\" }\n\
    service_prefix \"\" { policy = \"read\" }\n";

/// A consumer's Consul client.
pub(crate) struct Edge {
    /// Its place among the datacenter's clients.
    pub(crate) index: usize,
    /// Where its DNS answers.
    pub(crate) dns: SocketAddr,
    /// Where its API answers.
    pub(crate) api: SocketAddr,
    /// Its token.
    pub(crate) token: String,
}

impl Edge {
    /// Starts it.
    pub(crate) async fn start(datacenter: &mut Datacenter) -> Self {
        let management = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
        management
            .policy_create("consumer", "test", POLICY)
            .await
            .unwrap();
        let token = management
            .token_create(&TokenRequest {
                description: "consumer".to_owned(),
                policies: vec!["consumer".to_owned()],
                ..TokenRequest::default()
            })
            .await
            .unwrap();
        let token = token.secret.secret().to_owned();
        // Who asks the DNS shows no token; the default one counts.
        let more = json!({ "acl": { "tokens": { "default": token } } });
        datacenter.add_agent_with(NODE, more).await;
        let index = datacenter.agents.len() - 1;
        let process = &datacenter.agents[index];
        Self {
            index,
            dns: SocketAddr::new(process.address, process.ports.dns),
            api: SocketAddr::new(process.address, process.ports.https),
            token,
        }
    }
}
