//! The decision clock: milliseconds for which the coordinator of this environment has been
//! deciding, over all its runs.
//!
//! It stands still while the coordinator is down and while it holds (its store fails, something
//! that a proof depends on is away). A deadline that is kept as a moment on this clock is
//! therefore kept as time left: no outage uses it up, and no jump of a wall clock reaches it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A moment on the decision clock.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment {
    /// Milliseconds since the environment's first decision.
    pub ms: u64,
}

impl Moment {
    /// The moment this much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            ms: self.ms.saturating_add(ms),
        }
    }

    /// Time since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.ms.saturating_sub(earlier.ms))
    }

    /// Time left until `self`, seen at `now`; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Self) -> Duration {
        self.since(now)
    }

    /// Whether `self` has come, seen at `now`.
    #[must_use]
    pub fn reached(self, now: Self) -> bool {
        now >= self
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.ms / 1000, self.ms % 1000)
    }
}
