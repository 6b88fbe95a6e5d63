//! What the coordinator wants of an instance. A state, not a command: a lost message costs time,
//! never correctness.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::epoch::Generation;

/// What an instance is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ready to take over, and found only as `<service>-standby`.
    Standby,
    /// Serves.
    Active,
    /// Finishes what it has and takes nothing new, until its deadline.
    Draining,
    /// Has stopped its work and waits for its machine to be deleted.
    Retired,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Retired => "retired",
        })
    }
}

/// Why an instance drains. Told to its hooks, so that a workload may tell apart what comes back
/// from what is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// A rollout replaced it.
    Replaced,
    /// A rollout to it was rolled back.
    RolledBack,
    /// The fleet was made smaller.
    ScaledDown,
    /// The fleet is being deleted.
    FleetDeleted,
    /// It was repaired by another instance, or an operator asked for that.
    Repaired,
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Replaced => "replaced",
            Self::RolledBack => "rolled_back",
            Self::ScaledDown => "scaled_down",
            Self::FleetDeleted => "fleet_deleted",
            Self::Repaired => "repaired",
        })
    }
}

/// Why and for how long to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// Why.
    pub reason: DrainReason,
    /// Time that the coordinator gives from when the agent applies it.
    pub timeout: Duration,
}

/// The newest wanted state of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Grows with each change; an agent refuses an older one.
    pub generation: Generation,
    /// What to be.
    pub role: Role,
    /// With `Role::Draining` only.
    pub drain: Option<DrainOrder>,
}
