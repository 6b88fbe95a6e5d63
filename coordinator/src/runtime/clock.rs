//! The machine's clocks, for the engine.

use std::time::{Duration, Instant, SystemTime};

use calvin_engine::ports::Clock;
use calvin_planner::LocalTime;
use jiff::{Timestamp, tz::TimeZone};

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

    fn local(&self, zone: &str, wall_ms: u64) -> Option<LocalTime> {
        local(zone, wall_ms)
    }
}

/// The day and the minute in a time zone, by the machine's time zone database or, where it has
/// none, the one that is built in. `None` if neither knows the zone.
pub(crate) fn local(zone: &str, wall_ms: u64) -> Option<LocalTime> {
    let zone = TimeZone::get(zone).ok()?;
    let at = Timestamp::from_millisecond(i64::try_from(wall_ms).ok()?).ok()?;
    let time = zone.to_datetime(at);
    let day = time.weekday().to_monday_zero_offset();
    let minute = i16::from(time.hour()) * 60 + i16::from(time.minute());
    Some(LocalTime {
        day: usize::try_from(day).ok()?,
        minute: u16::try_from(minute).ok()?,
    })
}

/// Milliseconds since 1970 UTC; zero before.
pub(crate) fn wall_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A moment for people and programs, as RFC 3339 has it: `2026-11-26T18:00:05.25Z`.
pub(crate) fn rfc3339(wall_ms: u64) -> String {
    let at = i64::try_from(wall_ms).ok();
    let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    // Beyond the year 9999 nothing is kept; the number is honest.
    at.map_or_else(|| format!("{wall_ms} ms after 1970"), |at| at.to_string())
}

/// Milliseconds since 1970 UTC, now.
pub(crate) fn wall_ms_now() -> u64 {
    wall_ms(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_time_zone_also_when_its_clocks_change() {
        // Thursday 26 November 2026, and Saturday 27 June 2026, both at 23:30 UTC.
        let table = [
            ("UTC", 1_795_735_800_000, 3, 23 * 60 + 30),
            ("Europe/Berlin", 1_795_735_800_000, 4, 30),
            ("America/New_York", 1_795_735_800_000, 3, 18 * 60 + 30),
            ("Europe/Berlin", 1_782_603_000_000, 6, 60 + 30),
        ];
        for (zone, at, day, minute) in table {
            assert_eq!(local(zone, at), Some(LocalTime { day, minute }), "{zone}");
        }
    }

    #[test]
    fn a_zone_that_no_database_has_and_a_date_that_is_none_are_not_guessed_at() {
        assert_eq!(local("Europe/Atlantis", 0), None);
        assert_eq!(local("UTC", u64::MAX), None);
    }
}
