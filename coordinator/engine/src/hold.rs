//! Why the engine does not decide now, and when it tries again.
//!
//! A store that fails holds the engine: without a commit nothing may be acted on. It is tried
//! again after a pause that doubles; only a commit that succeeded ends the hold, because a disk
//! that can be read can still be full.

use std::{error::Error, fmt::Write as _, time::Duration};

/// First pause before the store is tried again: one pass.
pub const RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause: a repaired disk is noticed within this time.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// The engine decides nothing now, for this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What failed, with every cause, for people.
    pub reason: String,
    /// When that began, milliseconds since 1970 UTC.
    pub since_wall_ms: u64,
    /// How often it was tried since.
    pub tries: u32,
    /// It is not tried again: this run has ended for good.
    pub stopped: bool,
}

/// Whether the engine decides.
#[derive(Debug)]
pub(crate) enum Hold {
    /// It does.
    None,
    /// Not until the store works again.
    Until { held: Held, retry_at: Duration },
    /// Never again.
    Stopped(Held),
}

impl Hold {
    /// What operators are shown.
    pub(crate) fn shown(&self) -> Option<&Held> {
        match self {
            Self::None => None,
            Self::Until { held, .. } | Self::Stopped(held) => Some(held),
        }
    }

    /// Begins a hold, or counts one more failure of the one that is.
    pub(crate) fn fail(&mut self, reason: String, now: Duration, wall_ms: u64) {
        match self {
            Self::None => {
                tracing::error!(%reason, "holding: nothing is decided until the store works again");
                *self = Self::Until {
                    held: Held {
                        reason,
                        since_wall_ms: wall_ms,
                        tries: 1,
                        stopped: false,
                    },
                    retry_at: now + RETRY_MIN,
                };
            }
            Self::Until { held, retry_at } => {
                let doubled = RETRY_MIN.saturating_mul(1_u32 << held.tries.min(16));
                *retry_at = now + doubled.min(RETRY_MAX);
                held.tries = held.tries.saturating_add(1);
                held.reason = reason;
            }
            Self::Stopped(_) => {}
        }
    }

    /// Ends this run for good.
    pub(crate) fn stop(&mut self, reason: String, wall_ms: u64) {
        tracing::error!(%reason, "stopping for good");
        *self = Self::Stopped(Held {
            reason,
            since_wall_ms: wall_ms,
            tries: 1,
            stopped: true,
        });
    }

    /// The store works again.
    pub(crate) fn end(&mut self) {
        if let Self::Until { held, .. } = self {
            tracing::warn!(tries = held.tries, "the store works again: deciding");
            *self = Self::None;
        }
    }
}

/// An error with all its causes in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let mut hold = Hold::None;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            hold.fail("disk full".into(), Duration::ZERO, 5);
            let Hold::Until { retry_at, .. } = &hold else {
                panic!("not held: {hold:?}")
            };
            pauses.push(retry_at.as_millis());
        }
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(hold.shown().unwrap().tries, 7);
        assert_eq!(hold.shown().unwrap().since_wall_ms, 5);
    }

    #[test]
    fn what_stopped_for_good_stays_stopped() {
        let mut hold = Hold::None;
        hold.stop("another coordinator".into(), 1);
        hold.fail("disk full".into(), Duration::ZERO, 2);
        hold.end();
        assert_eq!(hold.shown().unwrap().reason, "another coordinator");
    }
}
