//! Whose an entry in Consul is. Pure.
//!
//! Consul lets every machine write what it likes into the meta of its own entries. So what an entry says is
//! believed only where it was made:
//!
//! - A machine whose Consul client the agent runs is a node of its own, called as the instance. Its entries are
//!   on that node and no other.
//! - One with a client that somebody else runs (`[consul] address`) has entries on the node on which they
//!   were first seen, and on no machine's own.
//! - The fleet is the one on record.
//!
//! An entry that only says so is neither counted nor changed, and people are shown it.

use std::collections::{BTreeMap, BTreeSet};

use calvin_consul::{
    health::{CheckStatus, ServiceHealth},
    registered,
};
use calvin_engine::ports::CatalogueFault;
use calvin_model::{EnvironmentName, FleetName, InstanceId};
use tokio::time::Instant;

use super::{
    books::Books,
    census::{Census, Client},
    faults::{Since, named},
};

/// Everybody who was on record in this run and of whom something may be left.
#[derive(Debug)]
pub(super) struct Owners {
    environment: EnvironmentName,
    records: BTreeMap<InstanceId, Record>,
    /// Tags of images whose machines have a client that somebody else runs.
    elsewhere: BTreeSet<String>,
}

#[derive(Debug)]
struct Record {
    fleet: FleetName,
    client: Client,
    /// Where its entries were first seen, if that is not its own node.
    node: Option<String>,
}

/// An entry of one of our agents.
#[derive(Debug, Clone)]
pub(super) struct Ours<'a> {
    /// What is registered.
    pub(super) entry: &'a ServiceHealth,
    /// Whose it is.
    pub(super) instance: InstanceId,
}

/// An entry that says that it is one of ours.
#[derive(Debug, Clone)]
struct Claim<'a> {
    entry: &'a ServiceHealth,
    instance: InstanceId,
    fleet: FleetName,
}

/// Entries on one node that only say that they are somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) node: String,
    pub(super) instances: BTreeSet<InstanceId>,
}

impl Owners {
    pub(super) fn new(environment: EnvironmentName) -> Self {
        Self {
            environment,
            records: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
        }
    }

    pub(super) fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    /// These are on record; of those the others something may be left.
    pub(super) fn see(
        &mut self,
        census: &Census,
        elsewhere: BTreeSet<String>,
        is_remembered: impl Fn(&InstanceId) -> bool,
    ) {
        self.elsewhere = elsewhere;
        for (fleet, instances) in census {
            for (instance, known) in instances {
                let record = self.records.entry(instance.clone());
                let record = record.or_insert_with(|| Record {
                    fleet: fleet.clone(),
                    client: Client::Own,
                    node: None,
                });
                if let Some(client) = known.client() {
                    record.client = client;
                }
            }
        }
        self.records.retain(|instance, _| is_remembered(instance));
    }

    /// Notes where the entries of those without a node of their own are, once for each.
    pub(super) fn place(&mut self, books: &Books) {
        let is_open = |record: &Record| record.client == Client::Elsewhere && record.node.is_none();
        if !self.records.values().any(is_open) {
            return;
        }
        // Of several the one that has been as it is for longest.
        let mut first: BTreeMap<InstanceId, (u64, String)> = BTreeMap::new();
        for claim in self.claims(books).filter(|claim| self.is_its(claim)) {
            let found = (
                claim.entry.service.modify_index,
                claim.entry.node.name.clone(),
            );
            let one = first.entry(claim.instance).or_insert_with(|| found.clone());
            if found < *one {
                *one = found;
            }
        }
        for (instance, (_, node)) in first {
            let record = self.records.get_mut(&instance);
            if let Some(record) = record.filter(|record| is_open(record)) {
                record.node = Some(node);
            }
        }
    }

    /// Every entry of this environment's instances. No other is ever touched.
    pub(super) fn ours<'a>(&'a self, books: &'a Books) -> impl Iterator<Item = Ours<'a>> {
        let its = self.claims(books).filter(|claim| self.is_its(claim));
        its.map(|claim| Ours {
            entry: claim.entry,
            instance: claim.instance,
        })
    }

    /// What only says that it is of somebody who is on record or was, by node.
    pub(super) fn foreign(&self, books: &Books) -> Vec<Foreign> {
        let mut foreign: BTreeMap<String, BTreeSet<InstanceId>> = BTreeMap::new();
        for claim in self.claims(books) {
            if self.records.contains_key(&claim.instance) && !self.is_its(&claim) {
                let node = claim.entry.node.name.clone();
                foreign.entry(node).or_default().insert(claim.instance);
            }
        }
        let foreign = foreign.into_iter();
        foreign
            .map(|(node, instances)| Foreign { node, instances })
            .collect()
    }

    fn claims<'a>(&'a self, books: &'a Books) -> impl Iterator<Item = Claim<'a>> {
        books.entries().filter_map(|entry| {
            let (instance, fleet) = claimed(&self.environment, &entry.service.meta)?;
            // An id that none of ours has was made by somebody else, whatever its meta says; so was one
            // whose tags are not the coordinator's.
            let id = registered::id(&entry.service.service, &instance);
            let claims = id == entry.service.id && entry.service.enable_tag_override;
            claims.then_some(Claim {
                entry,
                instance,
                fleet,
            })
        })
    }

    fn is_its(&self, claim: &Claim<'_>) -> bool {
        let node = &*claim.entry.node.name;
        let own = node == claim.instance.as_str();
        let Some(record) = self.records.get(&claim.instance) else {
            // Nobody knows any more how it joined, but by its image.
            let image = claim.entry.service.meta.get(registered::IMAGE);
            let elsewhere = image.is_some_and(|image| self.elsewhere.contains(image));
            return own || elsewhere && !self.is_a_machine(node);
        };
        let there = match (record.client, &record.node) {
            (Client::Own, _) => own,
            (Client::Elsewhere, Some(first)) => node == first,
            (Client::Elsewhere, None) => !self.is_a_machine(node),
        };
        there && claim.fleet == record.fleet
    }

    /// Whether a node is that of a machine with a client of its own.
    fn is_a_machine(&self, node: &str) -> bool {
        let record = node.parse::<InstanceId>().ok();
        let record = record.and_then(|instance| self.records.get(&instance));
        record.is_some_and(|record| record.client == Client::Own)
    }
}

impl Ours<'_> {
    /// Whether gossip says that its machine lives.
    pub(super) fn lives(&self) -> bool {
        self.entry.gossip() == Some(CheckStatus::Passing)
    }
}

impl Foreign {
    /// What people are shown.
    pub(super) fn shown(&self, since: Since, now: Instant) -> CatalogueFault {
        let instances = self.instances.iter().map(InstanceId::as_str).collect();
        CatalogueFault {
            fleets: BTreeSet::new(),
            what: format!(
                "entries in Consul on node {} say that they are of {}, and are not where these are registered or not of their fleet: they are neither counted nor changed",
                self.node,
                named(&instances)
            ),
            advice: format!(
                "look who registers them there (consul catalog services -node={}): if that is a machine of an instance, do not trust it, and replace it",
                self.node
            ),
            lasts: now.duration_since(since.at),
            since_wall_ms: since.wall_ms,
        }
    }
}

/// Instance and fleet that meta names, where it is of this environment.
fn claimed(
    environment: &EnvironmentName,
    meta: &BTreeMap<String, String>,
) -> Option<(InstanceId, FleetName)> {
    let theirs = meta.get(registered::ENVIRONMENT)?;
    let fleet = meta.get(registered::FLEET)?.parse().ok()?;
    let instance = meta.get(registered::INSTANCE)?.parse().ok()?;
    (theirs == environment.as_str()).then_some((instance, fleet))
}

/// The instance that meta names, where it is one of this environment.
pub(super) fn instance_of(
    environment: &EnvironmentName,
    meta: &BTreeMap<String, String>,
) -> Option<InstanceId> {
    claimed(environment, meta).map(|(instance, _)| instance)
}

#[cfg(test)]
mod tests;
