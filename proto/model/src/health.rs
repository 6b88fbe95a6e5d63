//! Health has three values, and every statement about it has a source.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a source says of an instance. Unknown is a value of its own: it stops what waits for
/// health, and never ends anything.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing fresh is known.
    #[default]
    Unknown,
    /// Every check that counts in its role passes.
    Healthy,
    /// At least one check fails.
    Unhealthy,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// Where an observation comes from. Sources count by what they can fail with: two statements
/// that one broken cable can forge are one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// All that the agent says.
    Agent,
    /// The network between coordinator and machine: session alive, the coordinator's own probes.
    Path,
    /// Consul's gossip between machines.
    Gossip,
    /// Who made the machine: whether it exists and is powered.
    Provider,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Path => "path",
            Self::Gossip => "gossip",
            Self::Provider => "provider",
        })
    }
}
