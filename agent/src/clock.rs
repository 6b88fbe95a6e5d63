//! The two clocks: a monotonic one that goes on over restarts of the agent, and the wall's.

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
    /// Reads the host's clock once; from then on this process's own monotonic clock counts. It is
    /// read in nanoseconds (`/proc/uptime` is cut to 10 ms, and an agent that is started again
    /// within that would count below what it said before).
    #[must_use]
    pub fn start() -> Self {
        let up = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(up.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(up.tv_nsec).unwrap_or_default();
        Self {
            base: Duration::new(seconds, nanoseconds),
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

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The wall clock, milliseconds since 1970 UTC.
#[must_use]
pub fn wall_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_started_later_shows_no_less() {
        let first = Clock::start();
        for _ in 0..1_000 {
            let before = first.now();
            let second = Clock::start();
            assert!(second.now() >= before);
        }
    }
}
