//! What the ports say and take while the coordinator recovers: the numbers and roles that the world
//! has, when its own store may be behind them.

use std::time::Duration;

use calvin_model::{Digest, Epoch, FleetName, Generation, Health, ImageRef, Role};
use serde::{Deserialize, Serialize};

/// The store is behind the world, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovering {
    /// How that is known, for people.
    pub reason: String,
    /// Since when, milliseconds since 1970 UTC.
    pub since_wall_ms: u64,
}

/// Recovering begins or ends, with a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveringChange {
    /// It begins.
    Begins(Recovering),
    /// A person approved what was found.
    Ends,
}

impl RecoveringChange {
    /// What the store holds after it.
    #[must_use]
    pub fn after(&self) -> Option<Recovering> {
        match self {
            Self::Begins(recovering) => Some(recovering.clone()),
            Self::Ends => None,
        }
    }
}

/// What a machine's tag says beyond its instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineTag {
    /// The fleet that it was made for.
    pub fleet: FleetName,
    /// What it was made from.
    pub image: ImageRef,
    /// The epoch of the coordinator that made it; zero where the tag does not say.
    #[serde(default)]
    pub epoch: u64,
}

/// What an agent said when it came, and what it showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHeard {
    /// Time since it came last.
    pub age: Duration,
    /// Its fleet, by its certificate.
    pub fleet: FleetName,
    /// The highest epoch that it has listened to.
    pub epoch: Option<Epoch>,
    /// The highest generation that it was told.
    pub generation: Generation,
    /// The role that it works in.
    pub role: Option<Role>,
    /// Its health in that role.
    pub health: Health,
    /// Digest of the `image.toml` that it runs by.
    pub manifest: Digest,
    /// The build id that is baked into its image.
    pub build: Option<String>,
}

/// Why the identities of instances could not be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAdopted(pub String);
