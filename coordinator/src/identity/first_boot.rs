//! What a new machine is to know of itself: the environment's CA, where its coordinators are, and
//! the token that it trades for a certificate.

use std::net::IpAddr;

use calvin_engine::ports::CreateOrder;
use calvin_model::Provision;

use super::Identity;
use crate::provider::FirstBoot;

/// An instance's id is never used twice, so it is made by exactly one intent.
const INTENT: u64 = 1;

/// First-boot data from an environment's identity.
#[derive(Debug, Clone)]
pub struct IdentityFirstBoot {
    identity: Identity,
    domain: String,
}

impl IdentityFirstBoot {
    /// For the machines of the environment whose DNS domain is `domain`.
    #[must_use]
    pub fn new(identity: Identity, domain: String) -> Self {
        Self { identity, domain }
    }
}

impl FirstBoot for IdentityFirstBoot {
    fn provision(
        &self,
        order: &CreateOrder,
        address: IpAddr,
    ) -> Result<Provision, Box<dyn std::error::Error + Send + Sync>> {
        let join_token = self
            .identity
            .join_token(&order.fleet, &order.instance, INTENT)?;
        Ok(Provision {
            environment: self.identity.environment().clone(),
            instance: order.instance.clone(),
            fleet: order.fleet.clone(),
            image: order.image.clone(),
            coordinators: self.identity.coordinators(),
            domain: self.domain.clone(),
            address: Some(address),
            dns: None,
            join_token,
            ca_pem: self.identity.ca_pem(),
        })
    }
}
