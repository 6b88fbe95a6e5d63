//! How a machine joins the servers of its environment, and how it is registered there.

use calvin_model::{CatalogueRole, ConsulJoin, Epoch, Join, Registration, Secret};

use super::{ConvertError, bounded_text, check_size, known, parse};
use crate::{limits, wire};

/// What an agent says in its hello that can join Consul. One that does not say it is sent neither
/// [`Join`] nor [`RegistrationOrder`]: it would end the session for a message that it does not know.
pub const CONSUL: &str = "consul";

/// How to be registered, with who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationOrder {
    /// Who speaks.
    pub epoch: Epoch,
    /// What is wanted.
    pub registration: Registration,
}

/// A role in which something can be registered, or that it is not.
fn role(field: &'static str, value: i32) -> Result<CatalogueRole, ConvertError> {
    known(field, value, |role: wire::CatalogueRole| match role {
        wire::CatalogueRole::Unspecified => None,
        wire::CatalogueRole::Absent => Some(CatalogueRole::Absent),
        wire::CatalogueRole::Standby => Some(CatalogueRole::Standby),
        wire::CatalogueRole::Entered => Some(CatalogueRole::Entered),
        wire::CatalogueRole::Active => Some(CatalogueRole::Active),
    })
}

/// A role that need not be there.
pub(super) fn maybe_catalogue_role(
    field: &'static str,
    value: i32,
) -> Result<Option<CatalogueRole>, ConvertError> {
    match wire::CatalogueRole::try_from(value) {
        Ok(wire::CatalogueRole::Unspecified) => Ok(None),
        Ok(_) | Err(_) => role(field, value).map(Some),
    }
}

pub(super) fn wire_catalogue_role(role: CatalogueRole) -> wire::CatalogueRole {
    match role {
        CatalogueRole::Absent => wire::CatalogueRole::Absent,
        CatalogueRole::Standby => wire::CatalogueRole::Standby,
        CatalogueRole::Entered => wire::CatalogueRole::Entered,
        CatalogueRole::Active => wire::CatalogueRole::Active,
    }
}

impl TryFrom<wire::Join> for Join {
    type Error = ConvertError;

    fn try_from(join: wire::Join) -> Result<Self, ConvertError> {
        Ok(Self {
            consul: join.consul.map(consul).transpose()?,
        })
    }
}

fn consul(join: wire::ConsulJoin) -> Result<ConsulJoin, ConvertError> {
    let field = "join.consul.servers";
    check_size(field, join.servers.len(), "entries", limits::CONSUL_SERVERS)?;
    if join.servers.is_empty() {
        return Err(ConvertError::Missing { field });
    }
    for server in &join.servers {
        check_size(field, server.len(), "bytes", limits::CONSUL_SERVER_BYTES)?;
    }
    let field = "join.consul.node";
    if join.node.is_empty() {
        return Err(ConvertError::Missing { field });
    }
    let ca_pem = bounded_text("join.consul.ca_pem", join.ca_pem, limits::CA_PEM_BYTES)?;
    Ok(ConsulJoin {
        datacenter: parse("join.consul.datacenter", &join.datacenter)?,
        domain: bounded_text("join.consul.domain", join.domain, limits::DOMAIN_BYTES)?,
        servers: join.servers,
        gossip_key: secret(
            "join.consul.gossip_key",
            join.gossip_key,
            limits::GOSSIP_KEY_BYTES,
        )?,
        ca_pem,
        node: bounded_text(field, join.node, limits::NODE_BYTES)?,
        token: secret("join.consul.token", join.token, limits::CONSUL_TOKEN_BYTES)?,
        trust_domain: bounded_text(
            "join.consul.trust_domain",
            join.trust_domain,
            limits::DOMAIN_BYTES,
        )?,
    })
}

/// A secret that is empty where there is none.
fn secret(field: &'static str, text: String, max: usize) -> Result<Option<Secret>, ConvertError> {
    let text = bounded_text(field, text, max)?;
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

impl From<&Join> for wire::Join {
    fn from(join: &Join) -> Self {
        Self {
            consul: join.consul.as_ref().map(wire_consul),
        }
    }
}

fn wire_consul(join: &ConsulJoin) -> wire::ConsulJoin {
    let text = |secret: &Option<Secret>| {
        let text = secret.as_ref().map_or("", Secret::expose);
        text.to_owned()
    };
    wire::ConsulJoin {
        datacenter: join.datacenter.as_str().to_owned(),
        domain: join.domain.clone(),
        servers: join.servers.clone(),
        gossip_key: text(&join.gossip_key),
        ca_pem: join.ca_pem.clone(),
        node: join.node.clone(),
        token: text(&join.token),
        trust_domain: join.trust_domain.clone(),
    }
}

impl TryFrom<wire::Registration> for RegistrationOrder {
    type Error = ConvertError;

    fn try_from(order: wire::Registration) -> Result<Self, ConvertError> {
        let field = "registration.epoch";
        let epoch = order.epoch.ok_or(ConvertError::Missing { field })?;
        Ok(Self {
            epoch: epoch.try_into()?,
            registration: Registration {
                role: role("registration.role", order.role)?,
                exclusive: order.exclusive,
            },
        })
    }
}

impl From<&RegistrationOrder> for wire::Registration {
    fn from(order: &RegistrationOrder) -> Self {
        Self {
            epoch: Some((&order.epoch).into()),
            role: wire_catalogue_role(order.registration.role).into(),
            exclusive: order.registration.exclusive,
        }
    }
}
