//! What an agent says of itself, each few seconds and at each change.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    catalogue::{CatalogueRole, NamesVersion},
    epoch::Generation,
    health::Health,
    id::BootId,
    wanted::Role,
};

/// One statement of an agent. All durations are counted on the agent's own monotonic clock, so
/// that nothing that happened between two reports is lost and no two clocks are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The machine's boot.
    pub boot: BootId,
    /// Grows with each report of one boot; a coordinator ignores one that is not newer.
    pub sequence: u64,
    /// The last wanted state that was fully applied; zero when none was.
    pub generation_applied: Generation,
    /// The role of that state.
    pub role_applied: Option<Role>,
    /// Health in that role.
    pub health: Health,
    /// How long health has had this value without a break.
    pub health_for: Duration,
    /// How often health turned from healthy to unhealthy in this boot.
    pub flaps: u64,
    /// The machine's wall clock minus the coordinator's, as the agent measured it, milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// The workload's process.
    pub workload: WorkloadState,
    /// The newest names snapshot that the agent serves.
    pub names: Option<NamesVersion>,
    /// How draining goes, while and after it drains.
    pub drain: Option<DrainProgress>,
    /// Each check that fails and why, one sentence each; bounded by the wire (16 of 256 bytes).
    pub failing: Vec<String>,
    /// Who is connected to the services' ports, in every role; `None` where it cannot be counted.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// The newest thing that a coordinator said and the agent refused in this boot, and why; one
    /// sentence of at most 256 bytes.
    #[serde(default)]
    pub refused: Option<String>,
    /// Why the names that are served could not be kept on disk so far; one sentence of at most 256
    /// bytes. Until then a restart of the agent brings back older ones.
    #[serde(default)]
    pub names_unsaved: Option<String>,
    /// What its own quorum command said last; `None` where the image has none, and once that is too
    /// old or the newest run failed.
    #[serde(default)]
    pub quorum: Option<QuorumReport>,
    /// How it is registered with its Consul client; `None` where it joins no Consul.
    #[serde(default)]
    pub consul: Option<ConsulReport>,
}

/// How an instance is registered with the Consul client of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsulReport {
    /// The role in which all of its services were found registered there last; `None` before that.
    pub registered: Option<CatalogueRole>,
    /// Why that is not as it should be; one sentence of at most 256 bytes.
    pub fault: Option<String>,
}

/// What one member of a quorum knows of its voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumReport {
    /// Voters that it sees alive, itself included.
    pub voters: u32,
    /// Voters that must agree.
    pub needed: u32,
    /// It leads.
    pub leader: bool,
    /// It has all that the others have agreed on.
    pub caught_up: bool,
    /// How old that is, by its agent's own clock.
    pub age: Duration,
}

/// Established connections to the services' ports on the instance's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many.
    pub count: u32,
    /// The other ends of some of them, the first in the order of address and port; bounded by the
    /// wire (16).
    pub peers: Vec<SocketAddr>,
}

/// The workload's process, as its runner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadState {
    /// Not to run now: `on_active` and not active, or the image has none.
    NotWanted,
    /// About to start, or started a moment ago.
    Starting,
    /// Runs.
    Running,
    /// Ended by itself; started again after a pause.
    Backoff,
    /// Told to stop, and not gone yet.
    Stopping,
    /// Stopped as told.
    Stopped,
}

/// How draining goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// Nothing is left: the drain hook ended well, or there is none and no connection is open.
    pub done: bool,
    /// Open connections to the services' ports, where it can be counted.
    pub connections: Option<u32>,
    /// Time left of the order.
    pub time_left: Duration,
}
