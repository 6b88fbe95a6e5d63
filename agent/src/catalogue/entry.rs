//! What is registered of one service under one name. Pure.

use std::{net::SocketAddr, time::Duration};

use calvin_consul::{
    agent::{CheckKind, CheckRegistration, ServiceRegistration},
    catalog::{CatalogService, TaggedAddress, Weights},
    health::CheckStatus,
    registered,
};
use calvin_model::image::{self, CheckSpec, ServiceSpec};

use super::plan::Facts;

/// How long the agent's word holds. Only an explicit failure takes an instance out; an agent that is
/// silent for a day has been looked for by then.
pub(super) const TTL: Duration = Duration::from_secs(24 * 3600);
/// Shortest interval of a check that Consul runs.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

const AGENT_CHECK_NAME: &str = "what only calvin-agent knows";
const AGENT_CHECK_NOTES: &str = "Said by calvin-agent: the workload's process, and the checks of \
     image.toml that are commands. Critical only when one of them fails as often as image.toml says; \
     an agent that is silent changes nothing for a day.";
const CHECK_NOTES: &str =
    "A check of image.toml, run by Consul: it does not depend on calvin-agent.";

/// A name that a service is registered under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) service: &'a ServiceSpec,
    pub(super) name: String,
    pub(super) id: String,
}

impl<'a> Place<'a> {
    pub(super) fn new(facts: &Facts<'_>, service: &'a ServiceSpec, name: String) -> Self {
        let id = registered::id(&name, &facts.provision.instance);
        Self { service, name, id }
    }

    /// Whether its role tags are the coordinator's to change.
    pub(super) fn is_own_name(&self) -> bool {
        self.name == self.service.name.as_str()
    }

    /// All of it but what depends on what is there already.
    pub(super) fn registration(
        &self,
        facts: &Facts<'_>,
        tags: Vec<String>,
        checks: Vec<CheckRegistration>,
    ) -> ServiceRegistration {
        let service = self.service;
        ServiceRegistration {
            id: self.id.clone(),
            name: self.name.clone(),
            tags,
            address: facts.address.to_string(),
            port: service.port,
            meta: registered::meta(service, facts.provision, facts.boot.as_str()),
            tagged_addresses: service
                .tagged_addresses
                .iter()
                .map(|(name, address)| (name.clone(), tagged(*address)))
                .collect(),
            weights: weights(service),
            enable_tag_override: true,
            checks,
        }
    }

    /// Whether what is registered is that, its tags and checks aside.
    pub(super) fn is_as(&self, facts: &Facts<'_>, found: &CatalogService) -> bool {
        let wanted = self.registration(facts, Vec::new(), Vec::new());
        // Consul adds addresses of its own.
        let mut tagged = wanted.tagged_addresses.iter();
        found.service == wanted.name
            && found.address == wanted.address
            && found.port == wanted.port
            && found.meta == wanted.meta
            && found.weights == wanted.weights
            && found.enable_tag_override
            && tagged.all(|(name, address)| found.tagged_addresses.get(name) == Some(address))
    }

    /// The check that says what only the agent knows.
    pub(super) fn agent_check(&self, status: CheckStatus) -> CheckRegistration {
        CheckRegistration {
            id: registered::agent_check_id(&self.id),
            name: AGENT_CHECK_NAME.to_owned(),
            notes: AGENT_CHECK_NOTES.to_owned(),
            status,
            kind: CheckKind::Ttl { ttl: TTL },
            success_before_passing: 0,
            failures_before_critical: 0,
        }
    }

    /// A check of the image that Consul runs; none where it cannot.
    pub(super) fn check(
        &self,
        facts: &Facts<'_>,
        place: usize,
        status: CheckStatus,
    ) -> Option<CheckRegistration> {
        let spec = facts.manifest.checks.get(place)?;
        Some(CheckRegistration {
            id: registered::check_id(&self.id, place),
            name: spec.name.clone(),
            notes: CHECK_NOTES.to_owned(),
            status,
            kind: kind(facts, spec)?,
            success_before_passing: spec.rise.get(),
            failures_before_critical: spec.fall.get(),
        })
    }
}

fn kind(facts: &Facts<'_>, spec: &CheckSpec) -> Option<CheckKind> {
    let interval = spec.interval.0.max(INTERVAL_MIN);
    let timeout = spec.timeout.0;
    match spec.kind()? {
        image::CheckKind::Http {
            path,
            port,
            method,
            headers,
        } => Some(CheckKind::Http {
            url: format!("http://{}{path}", SocketAddr::new(facts.address, port)),
            method: method.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), vec![value.clone()]))
                .collect(),
            interval,
            timeout,
        }),
        image::CheckKind::Tcp { port } => Some(CheckKind::Tcp {
            address: SocketAddr::new(facts.address, port),
            interval,
            timeout,
        }),
        image::CheckKind::Grpc { service, port } => Some(CheckKind::Grpc {
            address: SocketAddr::new(facts.address, port),
            service: service.to_owned(),
            interval,
            timeout,
        }),
        image::CheckKind::Exec { .. } => None,
    }
}

fn tagged(address: SocketAddr) -> TaggedAddress {
    TaggedAddress {
        address: address.ip().to_string(),
        port: address.port(),
    }
}

fn weights(service: &ServiceSpec) -> Weights {
    service
        .weights
        .map_or_else(Weights::default, |weights| Weights {
            passing: weights.passing.into(),
            warning: weights.warning.into(),
        })
}
