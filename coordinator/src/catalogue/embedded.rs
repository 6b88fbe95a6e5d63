//! The embedded catalogue: snapshots of all names, published to every agent, which answers DNS
//! from the newest one that it took.
//!
//! A snapshot is published at most once for each pass of the engine, so clients never see half of a
//! switch, and not while agents still take the one before: when a hundred machines come up at once,
//! each of two hundred agents would otherwise be sent a hundred of them. Read back means
//! acknowledged: a fleet's entries are seen by clients when every live agent serves a snapshot that
//! is not older than the fleet's last change; that the agent's disk has it, too, comes later.
//! Before the engine has set every fleet in this run, nothing is published, and agents go on
//! answering from what the last run published.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use calvin_engine::ports::{Catalogue, NotPublished};
use calvin_model::{
    CatalogueEntry, CatalogueRole, Epoch, FleetName, InstanceId, NamesSnapshot, NamesVersion,
};
use calvin_planner::CatalogueObserved;
use calvin_proto::limits::NAMES_ENTRIES;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// How long a snapshot waits for agents to serve the one before, of which each says so once it
/// does. It is not waited for longer, because one that does not answer must not hold the others up.
const SPREAD: Duration = Duration::from_millis(250);

/// The newest snapshot, for who sends it to agents.
pub type NamesFeed = watch::Receiver<Option<Arc<NamesSnapshot>>>;

/// Where the catalogue publishes. It is made first: who sends snapshots to agents is also who knows
/// which ones they serve, which the catalogue needs.
#[derive(Debug, Clone, Default)]
pub struct NamesPublisher(watch::Sender<Option<Arc<NamesSnapshot>>>);

impl NamesPublisher {
    /// Where the snapshots will come.
    #[must_use]
    pub fn feed(&self) -> NamesFeed {
        self.0.subscribe()
    }
}

/// Which snapshot each agent with a live session serves.
pub trait AgentNames: Debug + Send {
    /// By instance; `None` where the agent has not reported one in this session.
    fn live_names(&self) -> BTreeMap<InstanceId, Option<NamesVersion>>;
}

/// The epoch of this run, which the engine takes when it starts; nothing is published before.
#[derive(Debug, Clone, Default)]
pub struct EpochNumber(Arc<AtomicU64>);

impl EpochNumber {
    /// Says that the engine took this epoch.
    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    /// The epoch, once the engine took one. Epochs count from 1.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            number => Some(number),
        }
    }
}

/// The embedded catalogue.
#[derive(Debug)]
pub struct EmbeddedCatalogue {
    domain: String,
    ttl: Duration,
    epoch: EpochNumber,
    agents: Box<dyn AgentNames>,
    publisher: NamesPublisher,
    /// As the engine set them since the start.
    fleets: BTreeMap<FleetName, BTreeMap<InstanceId, CatalogueEntry>>,
    hidden: BTreeSet<InstanceId>,
    /// As agents were told.
    published: BTreeMap<FleetName, Published>,
    /// Of the newest snapshot.
    number: u64,
    /// When the newest snapshot was published.
    published_at: Option<Instant>,
}

/// One fleet as agents were told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    roles: BTreeMap<InstanceId, CatalogueRole>,
    visible: Vec<CatalogueEntry>,
    /// The snapshot that first said so.
    number: u64,
}

impl EmbeddedCatalogue {
    /// An empty catalogue that publishes nothing yet.
    #[must_use]
    pub fn new(
        domain: &str,
        ttl: Duration,
        epoch: EpochNumber,
        agents: Box<dyn AgentNames>,
        publisher: NamesPublisher,
    ) -> Self {
        Self {
            domain: domain.to_owned(),
            ttl,
            epoch,
            agents,
            publisher,
            fleets: BTreeMap::new(),
            hidden: BTreeSet::new(),
            published: BTreeMap::new(),
            number: 0,
            published_at: None,
        }
    }

    /// Whether agents do not all serve the newest snapshot yet, which is still fresh.
    fn is_spreading(&self, epoch: u64, now: Instant) -> bool {
        let newest = NamesVersion {
            epoch,
            number: self.number,
        };
        let fresh = self
            .published_at
            .is_some_and(|at| now.saturating_duration_since(at) < SPREAD);
        let is_behind = |version: &Option<NamesVersion>| version.is_none_or(|it| it < newest);
        fresh && self.agents.live_names().values().any(is_behind)
    }

    /// What a snapshot made now would say, by fleet.
    fn wanted(&self) -> BTreeMap<FleetName, Published> {
        let fleet = |entries: &BTreeMap<InstanceId, CatalogueEntry>| {
            let shown = |entry: &&CatalogueEntry| {
                entry.role != CatalogueRole::Absent && !self.hidden.contains(&entry.instance)
            };
            Published {
                roles: entries
                    .iter()
                    .map(|(id, entry)| (id.clone(), entry.role))
                    .collect(),
                visible: entries.values().filter(shown).cloned().collect(),
                number: self.number + 1,
            }
        };
        self.fleets
            .iter()
            .map(|(name, entries)| (name.clone(), fleet(entries)))
            .collect()
    }
}

impl Catalogue for EmbeddedCatalogue {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        let entries = entries
            .iter()
            .map(|entry| (entry.instance.clone(), entry.clone()))
            .collect();
        self.fleets.insert(fleet.clone(), entries);
    }

    fn set_visible(&mut self, hidden: &[InstanceId]) {
        self.hidden = hidden.iter().cloned().collect();
    }

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        let Some(epoch) = self.epoch.get() else {
            return BTreeMap::new();
        };
        let agents = self.agents.live_names();
        let observed = |published: &Published| {
            let needed = NamesVersion {
                epoch,
                number: published.number,
            };
            let confirmed =
                |version: Option<NamesVersion>| version.is_some_and(|version| version >= needed);
            CatalogueObserved {
                roles: published.roles.clone(),
                visible: published
                    .visible
                    .iter()
                    .map(|entry| entry.instance.clone())
                    .collect(),
                unconfirmed: agents
                    .iter()
                    .filter(|(_, version)| !confirmed(**version))
                    .map(|(id, _)| id.clone())
                    .collect(),
                checks: BTreeMap::new(),
            }
        };
        self.published
            .iter()
            .map(|(name, published)| (name.clone(), observed(published)))
            .collect()
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        self.fleets
            .values()
            .flatten()
            .map(|(id, entry)| (id.clone(), entry.role))
            .collect()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        for entries in self.fleets.values_mut() {
            entries.remove(instance);
        }
    }

    fn publish(&mut self) -> Result<(), NotPublished> {
        self.publish_at(Instant::now())
    }

    /// What was published with an older epoch may be older than what agents have: all of it is set
    /// and published again.
    fn speak(&mut self, epoch: &Epoch) {
        self.epoch.set(epoch.number);
        self.fleets.clear();
        self.published.clear();
    }
}

impl EmbeddedCatalogue {
    fn publish_at(&mut self, now: Instant) -> Result<(), NotPublished> {
        let Some(epoch) = self.epoch.get() else {
            return Ok(());
        };
        let mut wanted = self.wanted();
        let mut changed = self.number == 0 || wanted.len() != self.published.len();
        for (name, fleet) in &mut wanted {
            match self.published.get(name) {
                Some(before) if before.visible == fleet.visible => fleet.number = before.number,
                Some(_) | None => changed = true,
            }
        }
        if !changed {
            // Roles of hidden entries may differ; no client sees them.
            self.published = wanted;
            return Ok(());
        }
        if self.is_spreading(epoch, now) {
            return Ok(());
        }
        let mut entries: Vec<_> = wanted
            .values()
            .flat_map(|fleet| fleet.visible.iter().cloned())
            .collect();
        if entries.len() > NAMES_ENTRIES {
            return Err(NotPublished(format!(
                "the embedded catalogue holds {NAMES_ENTRIES} instances, and there are {}: make \
                 fleets smaller, or divide the environment",
                entries.len()
            )));
        }
        entries.sort_by(|a, b| a.instance.cmp(&b.instance));
        self.number += 1;
        self.published_at = Some(now);
        self.published = wanted;
        let version = NamesVersion {
            epoch,
            number: self.number,
        };
        tracing::debug!(%version, entries = entries.len(), "publishing names");
        self.publisher.0.send_replace(Some(Arc::new(NamesSnapshot {
            version,
            domain: self.domain.clone(),
            ttl: self.ttl,
            entries,
        })));
        Ok(())
    }
}
