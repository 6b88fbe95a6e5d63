//! The clocks: a monotonic one that goes on over restarts of the agent, and the wall's.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Time since the host's boot. Every agent of one boot reads the same clock, so that what it
/// counts on (report sequences) goes on when it is restarted.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Duration,
    started: Instant,
}

impl Clock {
    /// Reads the host's clock once; from then on this process's own monotonic clock counts, which
    /// stands still while the host sleeps: an agent that is started later is never behind. There
    /// is no other clock to fall back to: one that shows more, even once, would have all later
    /// reports of this boot taken for old ones.
    #[must_use]
    pub fn start() -> Self {
        Self {
            base: boottime(),
            started: Instant::now(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.base + self.started.elapsed()
    }

    /// The moment at which this clock shows `at`.
    #[must_use]
    pub fn instant(&self, at: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + at.saturating_sub(self.base))
    }
}

/// Time since the host's boot, with the time that it slept: two processes of one host read the same.
#[must_use]
pub fn boottime() -> Duration {
    let uptime = clock_gettime(ClockId::Boottime);
    // Neither is negative, and the nanoseconds are below a second (`clock_gettime(2)`).
    let seconds = u64::try_from(uptime.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(uptime.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// The wall clock, milliseconds since 1970 UTC.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_started_later_shows_no_less() {
        let mut before = Duration::ZERO;
        for _ in 0..1000 {
            let now = Clock::start().now();
            assert!(now >= before, "{now:?} after {before:?}");
            before = now;
        }
    }
}
