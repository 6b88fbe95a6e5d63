//! The world as the engine sees it. Each trait has one implementation that does IO, in the
//! coordinator, and one that is simulated.
//!
//! Nothing here blocks for longer than a commit to disk. What takes long is handed in (`create`,
//! `tell`) and is seen to be done by a later look (`list`, `observe`): the next pass repairs what
//! got lost on the way, so that no call has to be waited for or retried by its caller.

mod catalogue;
mod recovery;
mod set;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use calvin_model::{
    CatalogueEntry, CatalogueRole, Digest, Epoch, FleetName, InstanceId, Wanted, ZoneName,
    image::ImageRef,
};
use calvin_planner::{
    AgentObserved, Capacity, CatalogueObserved, DeleteBasis, EnvironmentRules, EnvironmentState,
    Event, FleetState, GossipObserved, LocalTime, LockSeen, MachineState, Moment, ProbeObserved,
    ProviderFault, SessionObserved,
};
use serde::{Deserialize, Serialize};

pub use catalogue::{CatalogueDebt, CatalogueFault, CatalogueWord};
pub use recovery::{AgentHeard, MachineTag, NotAdopted, Recovering, RecoveringChange};
pub use set::PortSet;

/// Time, twice: for durations and for people.
pub trait Clock: Debug {
    /// Time since some fixed moment of this process; never jumps.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970 UTC: for history lines, and for what persons gave a date or an hour,
    /// the end of a freeze and windows. No deadline rests on it.
    fn wall_ms(&self) -> u64;
    /// The day and the minute in a time zone at a moment of the wall clock; `None` if nothing is
    /// known of the zone. Who has no time zone database knows UTC.
    fn local(&self, zone: &str, wall_ms: u64) -> Option<LocalTime> {
        (zone == "UTC").then(|| LocalTime::utc(wall_ms))
    }
}

/// Counts the commits of a store; each commit names the one that it builds on.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// All that is durable of an environment's fleets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The newest commit.
    pub revision: Revision,
    /// The decision clock as of the newest commit or checkpoint.
    pub moment: Moment,
    /// When the newest commit was made, milliseconds since 1970 UTC; zero if that was not noted.
    #[serde(default)]
    pub wall_ms: u64,
    /// The newest epoch that was taken.
    pub epoch: Option<Epoch>,
    /// What was decided for the environment as a whole.
    pub environment: EnvironmentState,
    /// Every fleet.
    pub fleets: BTreeMap<FleetName, FleetState>,
    /// How many rollouts fleets had that were removed, so that one that is made again under the
    /// same name counts on.
    pub gone: BTreeMap<FleetName, u64>,
    /// The store is behind the world, or may be: nothing is decided from it until a person
    /// approves what is found.
    #[serde(default)]
    pub recovering: Option<Recovering>,
}

/// One commit: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The decision clock.
    pub moment: Moment,
    /// When, milliseconds since 1970 UTC: after a while without a coordinator, it tells when the
    /// last one was there. Nothing rests on it.
    #[serde(default)]
    pub wall_ms: u64,
    /// A newly taken epoch.
    pub epoch: Option<Epoch>,
    /// What was decided for the environment as a whole, if that changed.
    pub environment: Option<EnvironmentState>,
    /// Fleets that changed; `None` removes one, of which the store keeps the number of rollouts.
    pub fleets: BTreeMap<FleetName, Option<FleetState>>,
    /// Lines for the history, in order.
    pub history: Vec<HistoryLine>,
    /// Recovering begins or ends.
    #[serde(default)]
    pub recovering: Option<RecoveringChange>,
}

/// One line of the history, as handed to the store, which numbers and chains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Milliseconds since 1970 UTC.
    pub wall_ms: u64,
    /// Who: an operator, or `planner`.
    pub who: String,
    /// What.
    pub event: Event,
}

/// Why a commit did not happen. Nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else committed.
    #[error(
        "the store is at revision {}, not at {}: another coordinator writes to it; find it, and let only one of the two run",
        found.0, expected.0
    )]
    Conflict {
        /// The revision that the commit builds on.
        expected: Revision,
        /// The revision found.
        found: Revision,
    },
    /// The store could not be read or written.
    #[error("could not {doing} the store")]
    Failed {
        /// `read` or `write`.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Durable state, by compare and set.
pub trait Store: Debug {
    /// Reads everything.
    ///
    /// # Errors
    /// Where the store cannot be read, or holds what this version does not know.
    fn load(&mut self) -> Result<Stored, StoreError>;
    /// Commits `batch` if the store is still at `expected`; durable when it returns.
    ///
    /// # Errors
    /// Nothing was committed, or (after `Failed`) it is not known: `load` tells.
    fn commit(&mut self, expected: Revision, batch: &Batch) -> Result<Revision, StoreError>;
}

/// What a machine is to be made from and for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrder {
    /// Which instance: idempotency token and tag.
    pub instance: InstanceId,
    /// Its fleet.
    pub fleet: FleetName,
    /// The image, with the digest that the provider checks.
    pub image: ImageRef,
    /// The epoch of who asks, for the tag.
    #[serde(default)]
    pub epoch: u64,
    /// In which zone; the provider chooses if none is named.
    pub zone: Option<ZoneName>,
}

/// A machine that carries our tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The instance that it was made for, from its tag.
    pub instance: InstanceId,
    /// Its state.
    pub state: MachineState,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
}

/// A provider's last complete list of our machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineList {
    /// Its age; `None` when no list was ever complete in this run.
    pub age: Option<Duration>,
    /// The machines, in the order of their instance ids.
    pub machines: Vec<Machine>,
    /// What could not be done, by instance.
    pub faults: BTreeMap<InstanceId, ProviderFault>,
}

/// What makes and deletes machines.
pub trait Provider: Debug {
    /// Asks for a machine. Asking again for the same instance is the same request. Once asked for,
    /// it is in every list until it is gone, at first as `Creating`: when a list that is younger
    /// than the order to remove an instance lacks its machine, its record is forgotten.
    fn create(&mut self, order: &CreateOrder);
    /// Asks for a machine to be deleted with all on it. Asking again is harmless.
    fn delete(&mut self, instance: &InstanceId, basis: &DeleteBasis);
    /// The newest complete list.
    fn list(&self) -> MachineList;
    /// What the tags of its machines say beyond the instance. Asked for only while recovering;
    /// a provider whose tags say no more has nothing to answer.
    fn tags(&self) -> BTreeMap<InstanceId, MachineTag> {
        BTreeMap::new()
    }
    /// How many more machines it can make, beside those that it lists or was asked for.
    fn capacity(&self) -> Capacity {
        Capacity::Unknown
    }
}

/// Why clients are not shown what was set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPublished(pub String);

/// Where clients look instances up.
pub trait Catalogue: Debug {
    /// Sets every role of one fleet as one change. `entries` are all that the fleet is to have;
    /// what is not in it leaves. Asking again for the same is harmless.
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]);
    /// Hides or shows an entry for its health, without a change of its role.
    fn set_visible(&mut self, hidden: &[InstanceId]);
    /// What clients see now, by fleet.
    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved>;
    /// Every instance that has an entry, also of fleets that are no more.
    fn list(&self) -> Vec<(InstanceId, CatalogueRole)>;
    /// Removes the entry of an instance that is gone.
    fn remove_ghost(&mut self, instance: &InstanceId);
    /// Called after the changes of one pass: what was set since the last call may now be shown
    /// to clients. A catalogue that publishes whole snapshots waits for it, so that after a start
    /// no client sees a snapshot in which some fleets are still missing.
    ///
    /// # Errors
    /// Clients cannot be shown what was set, and go on seeing what they were shown before.
    fn publish(&mut self) -> Result<(), NotPublished> {
        Ok(())
    }
    /// This run speaks with another epoch from now on: what it published before counts no more.
    fn speak(&mut self, epoch: &Epoch) {
        let _ = epoch;
    }
    /// Why nothing may be decided now: this coordinator has not, or no longer, the environment's lock,
    /// or what the catalogue says cannot be relied on. One sentence. Deadlines stand still meanwhile.
    fn holds(&self) -> Option<String> {
        None
    }
    /// What gossip says of the machines of instances, where there is some.
    fn gossip(&self) -> BTreeMap<InstanceId, GossipObserved> {
        BTreeMap::new()
    }
    /// What it cannot do now, and what is still open of who is gone.
    fn word(&self) -> CatalogueWord {
        CatalogueWord::default()
    }
    /// What it did by itself since it was asked last, for the history.
    fn deeds(&mut self) -> Vec<Event> {
        Vec::new()
    }
    /// What is read of the locks of exclusive fleets, for each instance of them whose agent works with its
    /// fleet's, where there are some.
    fn locks(&self) -> BTreeMap<InstanceId, LockSeen> {
        BTreeMap::new()
    }
}

/// What one agent link shows of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSeen {
    /// The newest report.
    pub agent: Option<AgentObserved>,
    /// Whether the session lives.
    pub session: SessionObserved,
    /// From where its newest session came.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// The identity is revoked and no stream is open.
    pub revoked: bool,
    /// Something about the identity that a person must look at.
    pub alarm: Option<String>,
}

/// The way to the agents.
pub trait AgentLink: Debug {
    /// Sends the wanted state, if the agent's session lives. The newest replaces the older.
    fn tell(&mut self, instance: &InstanceId, wanted: &Wanted);
    /// Which instances may enrol and hold sessions, with what each may be told.
    fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>);
    /// Revokes an identity for good and closes its streams.
    fn revoke(&mut self, instance: &InstanceId);
    /// What is seen of every instance that was ever heard of in this run.
    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen>;
    /// How often agents are asked to report.
    fn report_interval(&self) -> Duration;
    /// From now on nothing is told to anybody, for this reason: sessions end, no new one begins,
    /// and what each agent says when it comes is kept for [`AgentLink::heard`]. `None` ends that.
    fn only_listen(&mut self, why: Option<&str>) {
        let _ = why;
    }
    /// What agents said when they came: while only listening every one, else those that have heard
    /// more than this coordinator ever said.
    fn heard(&self) -> BTreeMap<InstanceId, AgentHeard> {
        BTreeMap::new()
    }
    /// Takes over the identities that these instances showed when they were heard. Asking again is
    /// harmless.
    ///
    /// # Errors
    /// It could not be made durable, for one of them; nothing else was changed.
    fn adopt(&mut self, instances: &[InstanceId]) -> Result<(), NotAdopted> {
        let _ = instances;
        Ok(())
    }
    /// This run speaks with another epoch from now on.
    fn speak(&mut self, epoch: &Epoch) {
        let _ = epoch;
    }
}

/// What the agent service must know of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Its fleet.
    pub fleet: FleetName,
    /// Its image: build id and digest that the agent shows must be the recorded ones.
    pub image: ImageRef,
    /// The newest wanted state, sent at the start of each session.
    pub wanted: Wanted,
}

/// What to probe of an instance: all of its services' ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTarget {
    /// Where.
    pub address: SocketAddr,
    /// `GET` this path, or only connect.
    pub http_path: Option<String>,
    /// Time to answer in, as the image's own check of this port has it. Who probes may bound it.
    pub timeout: Duration,
}

/// The coordinator's own probes.
pub trait Probe: Debug {
    /// What to probe from now on.
    fn watch(&mut self, targets: &BTreeMap<InstanceId, Vec<ProbeTarget>>);
    /// The newest results.
    fn results(&self) -> BTreeMap<InstanceId, ProbeObserved>;
}

/// What the engine must know of an image beyond its name: from its `image.toml`.
pub trait Images: Debug {
    /// The manifest that `image add` recorded.
    fn manifest(&self, image: &ImageRef) -> Option<calvin_model::ImageManifest>;
    /// The digest of that manifest, which agents show. `None` where it is not known.
    fn manifest_digest(&self, image: &ImageRef) -> Option<Digest> {
        let _ = image;
        None
    }
}

/// All ports together. The engine borrows them one at a time, so an implementation may be a
/// struct of its own types, or [`PortSet`].
pub trait Ports: Debug {
    /// Time.
    fn clock(&self) -> &dyn Clock;
    /// What `calvin.toml` says that decisions rest on.
    fn rules(&self) -> EnvironmentRules;
    /// Durable state.
    fn store(&mut self) -> &mut dyn Store;
    /// Every provider of `calvin.toml` with its name, in the order of the names.
    fn providers(&self) -> Vec<(&str, &dyn Provider)>;
    /// The provider of that name, if there is one.
    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider>;
    /// Where clients look instances up.
    fn catalogue(&mut self) -> &mut dyn Catalogue;
    /// The way to the agents.
    fn agents(&mut self) -> &mut dyn AgentLink;
    /// The coordinator's own probes.
    fn probe(&mut self) -> &mut dyn Probe;
    /// Recorded images.
    fn images(&self) -> &dyn Images;
}
