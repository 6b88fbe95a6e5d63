//! The first-boot data of machines: what the environment and its identities know of each.

use std::net::IpAddr;

use calvin_engine::ports::CreateOrder;
use calvin_model::Provision;

use crate::{identity::Identity, provider::FirstBoot};

/// Instance ids are never used twice, so each has one create intent.
const INTENT: u64 = 1;

/// Makes first-boot data.
#[derive(Debug)]
pub(super) struct Provisioner {
    pub(super) identity: Identity,
    pub(super) domain: String,
}

impl FirstBoot for Provisioner {
    fn provision(
        &self,
        order: &CreateOrder,
        address: IpAddr,
    ) -> Result<Provision, Box<dyn std::error::Error + Send + Sync>> {
        let identity = &self.identity;
        Ok(Provision {
            environment: identity.environment().clone(),
            instance: order.instance.clone(),
            fleet: order.fleet.clone(),
            image: order.image.clone(),
            coordinators: identity.coordinators(),
            domain: self.domain.clone(),
            address: Some(address),
            dns: None,
            join_token: identity.join_token(&order.fleet, &order.instance, INTENT)?,
            ca_pem: identity.ca_pem(),
        })
    }
}
