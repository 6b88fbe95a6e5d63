//! The durable state of one replacement of a fleet's image.

use std::time::Duration;

use calvin_model::{InstanceId, RolloutId};
use serde::{Deserialize, Serialize};

use super::Build;
use crate::{
    environment::Order,
    moment::Moment,
    people::{Aim, Approval, Gates, Pause, Promotion},
    phase::Phase,
};

/// One replacement of a fleet's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its id.
    pub id: RolloutId,
    /// What served before; `None` for a fleet's first.
    pub from: Option<Build>,
    /// What is to serve.
    pub to: Build,
    /// How many are to serve when it is done: the fleet's count when it began. A change of the
    /// count in between takes effect after it.
    pub count: u32,
    /// Where it is.
    pub phase: Phase,
    /// When that phase began.
    pub phase_since: Moment,
    /// When the rollout began.
    pub started: Moment,
    /// Restarted by each green that becomes healthy; passing it rolls back.
    pub progress_by: Moment,
    /// The wave that is under way, from 0.
    pub wave: u32,
    /// The wave's sets. Waves before it are complete: green serves, blue is gone.
    pub sets: Wave,
    /// Greens that failed and were given up, over all waves.
    pub failures: u32,
    /// Who turned it around, where a person did: that is no failure of the image.
    #[serde(default)]
    pub turned_by: Option<String>,
    /// Why it started where nobody ordered it, goes or went back, or failed.
    pub reason: Option<String>,
    /// Who started it, as the audit names operators.
    pub started_by: String,
    /// Whether it brings something new.
    #[serde(default)]
    pub aim: Aim,
    /// Who cannot wait, and why: it skips soak, waves, windows and freezes.
    #[serde(default)]
    pub emergency: Option<Order>,
    /// Who holds it where it is.
    #[serde(default)]
    pub paused: Option<Pause>,
    /// Where it asks for persons.
    #[serde(default)]
    pub gates: Gates,
    /// Who approved what, the oldest first.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Since when a person is waited for at a gate. A green that flaps meanwhile changes nothing.
    #[serde(default)]
    pub asked: Option<Moment>,
    /// Whose soak is skipped.
    #[serde(default)]
    pub promoted: Option<Promotion>,
    /// The newest time in which nobody of an exclusive fleet was active.
    #[serde(default)]
    pub gap: Option<Gap>,
}

/// A time in which nobody of an exclusive fleet was active: from when the work of one is known to
/// have stopped until another is read back as active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When it began.
    pub since: Moment,
    /// When it ended; `None` while it lasts.
    pub until: Option<Moment>,
}

impl Gap {
    /// How long it was, or is by now.
    #[must_use]
    pub fn length(&self, now: Moment) -> Duration {
        self.until.unwrap_or(now).since(self.since)
    }
}

/// The two sets of one wave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// To take over.
    pub green: Vec<InstanceId>,
    /// To be replaced.
    pub blue: Vec<InstanceId>,
    /// Greens that are reserved and not made yet: the budgets let them follow one after the other.
    #[serde(default)]
    pub to_make: u32,
    /// What comes first.
    #[serde(default)]
    pub order: WaveOrder,
    /// It goes first, alone, and soaks for `canary_soak`.
    #[serde(default)]
    pub canary: bool,
    /// Why it is smaller than it was to be, or makes room first, where that is so.
    #[serde(default)]
    pub remark: Option<String>,
}

/// What comes first in a wave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveOrder {
    /// Green is made and proves itself, then blue leaves.
    #[default]
    GreenFirst,
    /// Blue leaves first: there may be nothing on top, or there is no room for it.
    RoomFirst,
}

impl Wave {
    /// Whether the wave has its sets.
    #[must_use]
    pub fn begun(&self) -> bool {
        !self.green.is_empty() || !self.blue.is_empty() || self.to_make > 0
    }

    /// How many greens it has when all of them are made.
    #[must_use]
    pub fn size(&self) -> u32 {
        u32::try_from(self.green.len())
            .unwrap_or(u32::MAX)
            .saturating_add(self.to_make)
    }
}
