//! What a machine needs beyond its certificate: how it joins the servers of its environment, and how
//! it is to be found there. The coordinator says it over the session; secrets in it are never shown.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{catalogue::CatalogueRole, name::EnvironmentName};

/// A text that is never shown: its `Debug` says that there is one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for who has to use it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How a machine joins the servers of its environment. What is absent is not joined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Consul.
    pub consul: Option<ConsulJoin>,
}

/// How a machine joins Consul, as one node with one token of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsulJoin {
    /// The datacenter, which has the environment's name.
    pub datacenter: EnvironmentName,
    /// The domain of Consul's DNS, without a dot at its end: the environment's.
    pub domain: String,
    /// Where its servers are found: host and serf port, as Consul's `retry_join` takes them.
    pub servers: Vec<String>,
    /// The key of its gossip, base64; absent where gossip is not encrypted.
    pub gossip_key: Option<Secret>,
    /// The CA of its servers, PEM; empty where they speak no TLS.
    pub ca_pem: String,
    /// The node's name: the instance's id.
    pub node: String,
    /// The secret of the node's own ACL token; absent where the datacenter has no ACL.
    pub token: Option<Secret>,
    /// What the certificates are for that its servers give to clients; empty where they give none. It is
    /// another one after the servers lost all their data, and no older certificate is good then.
    #[serde(default)]
    pub trust_domain: String,
}

/// How an instance is to be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// In which role. `Absent`: not at all.
    pub role: CatalogueRole,
    /// Never two of its fleet may be active: where nothing can be read of what is registered, it is
    /// registered as standby, whatever it was told last.
    pub exclusive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("b6f7".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "b6f7");
    }
}
