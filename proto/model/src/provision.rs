//! `provision.toml`: who this machine is. Written by the coordinator for each instance, comes
//! with the first boot.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    config::{ConfigError, parse_toml},
    id::InstanceId,
    image::ImageRef,
    name::{EnvironmentName, FleetName},
};

/// The content of `provision.toml`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// The environment.
    pub environment: EnvironmentName,
    /// The instance that this machine is.
    pub instance: InstanceId,
    /// Its fleet.
    pub fleet: FleetName,
    /// The image that it was made from.
    pub image: ImageRef,
    /// The coordinators' agent listeners, by address: names need DNS, and DNS needs the session.
    pub coordinators: Vec<SocketAddr>,
    /// The environment's DNS domain.
    pub domain: String,
    /// The instance's own address, where the machine cannot ask its network.
    pub address: Option<IpAddr>,
    /// Where the agent answers DNS. Loopback port 8653 if absent.
    pub dns: Option<SocketAddr>,
    /// Trades once for a certificate; bound to the instance.
    pub join_token: String,
    /// The environment's CA certificates, PEM.
    pub ca_pem: String,
}

impl std::fmt::Debug for Provision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The join token stays out of logs and panics.
        f.debug_struct("Provision")
            .field("environment", &self.environment)
            .field("instance", &self.instance)
            .field("image", &self.image)
            .field("coordinators", &self.coordinators)
            .finish_non_exhaustive()
    }
}

impl Provision {
    /// Reads `provision.toml`.
    ///
    /// # Errors
    /// What TOML and types refuse, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let provision: Self = parse_toml(file, text)?;
        if provision.coordinators.is_empty() {
            let message = "coordinators is empty: the machine could never join";
            return Err(ConfigError::about(file, text, "coordinators", message));
        }
        Ok(provision)
    }
}
