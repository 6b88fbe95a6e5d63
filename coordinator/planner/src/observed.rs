//! What the coordinator sees. Every statement carries its age or how long it has been true, as
//! counted on the coordinator's own monotonic clock; nothing here is durable.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use calvin_model::{CatalogueRole, FleetName, InstanceId, Report};
use serde::{Deserialize, Serialize};

/// The newest observations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Of instances. One that is missing here was never observed.
    pub instances: BTreeMap<InstanceId, InstanceObserved>,
    /// Of fleets' entries in the catalogue.
    pub catalogue: BTreeMap<FleetName, CatalogueObserved>,
    /// Age of the last complete list of machines, for each provider that has answered.
    pub provider_lists: BTreeMap<String, Duration>,
    /// How many more machines each provider can make, for each that was asked.
    #[serde(default)]
    pub capacity: BTreeMap<String, Capacity>,
    /// Whether the windows of each fleet that has some are open.
    #[serde(default)]
    pub windows: BTreeMap<FleetName, WindowObserved>,
    /// How often agents report. An observation older than three intervals is unknown.
    pub report_interval: Duration,
    /// How long this run of the coordinator has been looking. No silence is older than that.
    pub watching_for: Duration,
}

/// How many more machines a provider can make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    /// It cannot say.
    #[default]
    Unknown,
    /// This many, beside those that it lists or was asked for.
    Free(u32),
}

/// Whether a fleet's windows are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowObserved {
    /// At least one is.
    pub open: bool,
    /// Time until that changes; `None` where it does not within the next eight days.
    pub changes_in: Option<Duration>,
}

/// One instance, by source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceObserved {
    /// What its agent said last. Source *agent*.
    pub agent: Option<AgentObserved>,
    /// Whether its session lives. Source *path*.
    pub session: SessionObserved,
    /// What the coordinator's own probes of its services say. Source *path*.
    pub probe: Option<ProbeObserved>,
    /// What its provider says. Source *provider*.
    pub machine: Option<MachineObserved>,
    /// What gossip says of its machine, where there is some. Source *gossip*.
    #[serde(default)]
    pub gossip: Option<GossipObserved>,
    /// What is read of the lock of its fleet, where that is exclusive and the catalogue has locks that its
    /// agent works with. Source *lock*.
    #[serde(default)]
    pub lock: Option<LockSeen>,
    /// What its provider could not do, last.
    pub fault: Option<ProviderFault>,
    /// More than one machine carries its tag.
    #[serde(default)]
    pub doubled: bool,
    /// Its identity is revoked and no stream of it is open.
    pub revoked: bool,
    /// Something about its identity that a person must look at.
    pub alarm: Option<String>,
}

/// The newest report of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentObserved {
    /// Time since it arrived.
    pub age: Duration,
    /// What it says; its durations are as of when it was sent.
    pub report: Report,
}

/// Whether an agent's session lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionObserved {
    /// None in this run of the coordinator.
    #[default]
    Never,
    /// It lives, for this long.
    Alive(Duration),
    /// It ended, this long ago.
    Ended(Duration),
}

/// What the coordinator's own probes say of an instance: all of its services' ports together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeObserved {
    /// Time since the last probe.
    pub age: Duration,
    /// Whether it passed.
    pub passing: bool,
    /// How long all of them have said the same.
    pub same_for: Duration,
}

/// What a provider says of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineObserved {
    /// Age of the list that says so.
    pub age: Duration,
    /// Its state there. `Absent` when a complete list did not have it.
    pub state: MachineState,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
}

impl MachineObserved {
    /// Whether it is powered off or gone: nothing on it works any more.
    #[must_use]
    pub fn is_off(&self) -> bool {
        match self.state {
            MachineState::Stopped | MachineState::Absent => true,
            MachineState::Creating | MachineState::Running | MachineState::Deleting => false,
        }
    }
}

/// The state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Being made.
    Creating,
    /// Exists and is powered.
    Running,
    /// Exists and is not powered.
    Stopped,
    /// Being deleted.
    Deleting,
    /// A complete list does not have it.
    Absent,
}

/// What a provider could not do for an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderFault {
    /// What was tried and why it failed, for people.
    pub message: String,
    /// How often in a row.
    pub tries: u32,
    /// Time until it is tried again.
    pub retry_in: Duration,
    /// Trying again cannot help: the image's digest is another, for instance.
    pub permanent: bool,
    /// What it is about.
    #[serde(default)]
    pub kind: FaultKind,
}

/// What a provider's fault is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Anything else: its network, its own trouble.
    #[default]
    Other,
    /// There is no room for more: a quota is used up, or no address is left.
    Quota,
    /// The image: it is not there, or it is not the recorded one.
    Image,
}

/// What the catalogue says of a fleet, read back from where clients read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueObserved {
    /// The roles as clients see them now. Entries of unhealthy instances may be hidden; they are
    /// listed here all the same.
    pub roles: BTreeMap<InstanceId, CatalogueRole>,
    /// The instances that clients find: their entries are not hidden for health.
    pub visible: Vec<InstanceId>,
    /// Live agents that have not stored the newest names yet. Empty for Consul.
    pub unconfirmed: Vec<InstanceId>,
    /// What the catalogue's own checks say, where it has some: the embedded one has none.
    #[serde(default)]
    pub checks: BTreeMap<InstanceId, CheckObserved>,
}

/// What gossip says of an instance's machine: a source of its own, beside path and provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipObserved {
    /// Time since that was read.
    pub age: Duration,
    /// Whether the machine's member of it is alive.
    pub alive: bool,
}

/// What is read of the lock of an exclusive fleet, as one of its instances is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockSeen {
    /// Time since that was read.
    pub age: Duration,
    /// Who holds it.
    pub holder: LockHolder,
    /// At least how long the work of the instance has been over by that word: it held the lock, has lost
    /// it for longer than its runner may go on without, and has not had it since. `None` where any of that
    /// is not known.
    pub ended_for: Option<Duration>,
}

/// Who holds the lock of an exclusive fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockHolder {
    /// Nobody.
    Nobody,
    /// The instance itself.
    Itself,
    /// Another instance, or whoever took it by hand.
    Another(String),
}

/// What a catalogue's own checks say of an instance, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckObserved {
    /// Time since that was read.
    pub age: Duration,
    /// Whether they pass.
    pub passing: bool,
}
