//! The two clocks: a monotonic one that goes on over restarts of the agent, and the wall's.

use std::time::{Duration, Instant, SystemTime};

/// Time since the host's boot. Every agent of one boot reads the same clock, so that what it
/// counts on (report sequences) goes on when it is restarted.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Duration,
    started: Instant,
}

impl Clock {
    /// Reads the host's uptime once; from then on this process's own monotonic clock counts.
    /// `/proc/uptime` is cut to 10 ms: an agent that is started more than that after the last
    /// one ended is above it, and its runner waits 100 ms at least.
    #[must_use]
    pub fn start() -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        Self {
            base: parse_uptime(&uptime).unwrap_or(since_1970()),
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

fn parse_uptime(text: &str) -> Option<Duration> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = hundredths.get(..2)?.parse().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(hundredths * 10))
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
    fn uptime_is_read_as_the_kernel_writes_it() {
        let expected = Duration::from_millis(350_735_470);
        assert_eq!(parse_uptime("350735.47 234388.90\n"), Some(expected));
        for bad in ["", "x", "1", "1.", "1.x 2"] {
            assert_eq!(parse_uptime(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_clock_that_is_started_later_shows_no_less() {
        let first = Clock::start();
        let before = first.now();
        let second = Clock::start();
        assert!(second.now() + Duration::from_millis(10) >= before);
    }
}
