//! The phases of one rollout, for each of its waves.

use std::fmt;

use calvin_model::fleet::Gate;
use serde::{Deserialize, Serialize};

/// Where a rollout is. A fleet without a rollout is idle.
///
/// A name that this version does not know is refused by name when a record is read: a store
/// written by a newer version must not be guessed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Greens are being made and are not all healthy yet.
    Provisioning,
    /// What the wave replaces leaves first: there is no room for more machines.
    MakingRoom,
    /// Every green is healthy; it must stay so for `min_healthy` without a break.
    Soaking,
    /// Green is proven; a person is to approve the switch.
    AwaitingSwitch,
    /// Greens enter the catalogue, then become active, and that is read back.
    Switching,
    /// Blue's work is being stopped: never two of this fleet may be active.
    Stopping,
    /// Blue goes on serving those who still hold its addresses.
    Settling,
    /// Blue stands by, warm, while green proves itself.
    Baking,
    /// Green has baked; a person is to approve that blue is deleted.
    AwaitingRetire,
    /// Blue finishes what it has.
    Draining,
    /// Blue's machines, identities and entries are removed.
    Retiring,
    /// Blue serves again, or still; green is on its way out.
    RollingBack,
    /// Ended well.
    Done,
    /// Ended with the old image serving.
    RolledBack,
    /// Ended without anything to go back to; greens are kept a while, to be looked at.
    Failed,
}

impl Phase {
    /// The gate that a rollout waits at in it.
    #[must_use]
    pub fn gate(self) -> Option<Gate> {
        match self {
            Self::AwaitingSwitch => Some(Gate::Switch),
            Self::AwaitingRetire => Some(Gate::Retire),
            Self::Provisioning
            | Self::MakingRoom
            | Self::Soaking
            | Self::Switching
            | Self::Stopping
            | Self::Settling
            | Self::Baking
            | Self::Draining
            | Self::Retiring
            | Self::RollingBack
            | Self::Done
            | Self::RolledBack
            | Self::Failed => None,
        }
    }

    /// All phases, in the order of a rollout.
    pub const ALL: [Self; 15] = [
        Self::Provisioning,
        Self::MakingRoom,
        Self::Soaking,
        Self::AwaitingSwitch,
        Self::Switching,
        Self::Stopping,
        Self::Settling,
        Self::Baking,
        Self::AwaitingRetire,
        Self::Draining,
        Self::Retiring,
        Self::RollingBack,
        Self::Done,
        Self::RolledBack,
        Self::Failed,
    ];

    /// Whether the rollout has ended.
    #[must_use]
    pub fn ended(self) -> bool {
        match self {
            Self::Done | Self::RolledBack | Self::Failed => true,
            Self::Provisioning
            | Self::MakingRoom
            | Self::Soaking
            | Self::AwaitingSwitch
            | Self::Switching
            | Self::Stopping
            | Self::Settling
            | Self::Baking
            | Self::AwaitingRetire
            | Self::Draining
            | Self::Retiring
            | Self::RollingBack => false,
        }
    }

    /// The name on the wire, in the store and for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MakingRoom => "making_room",
            Self::Provisioning => "provisioning",
            Self::AwaitingSwitch => "awaiting_switch",
            Self::Soaking => "soaking",
            Self::Stopping => "stopping",
            Self::Switching => "switching",
            Self::Settling => "settling",
            Self::AwaitingRetire => "awaiting_retire",
            Self::Baking => "baking",
            Self::Draining => "draining",
            Self::Retiring => "retiring",
            Self::RollingBack => "rolling_back",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
