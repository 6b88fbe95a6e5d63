//! The machine's clocks, for the engine.

use std::time::{Duration, Instant, SystemTime};

use calvin_engine::ports::Clock;

/// The machine's clocks. Monotonic time counts from when this was made.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        wall_ms(SystemTime::now())
    }
}

/// Milliseconds since 1970 UTC; zero before.
pub(crate) fn wall_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Milliseconds since 1970 UTC, now.
pub(crate) fn wall_ms_now() -> u64 {
    wall_ms(SystemTime::now())
}
