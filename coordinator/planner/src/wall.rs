//! Dates for people, and the days and hours that windows are opened by. Pure: the caller says what
//! time it is.

use std::time::Duration;

use calvin_model::fleet::Window;

use crate::observed::WindowObserved;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;
/// How far ahead is looked for a change: a week, and a day for what a clock change moves.
const AHEAD_MINUTES: u64 = 8 * DAY_MINUTES;

/// A day of the week and a minute of that day, in some time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The day, 0 is Monday.
    pub day: usize,
    /// The minute of the day.
    pub minute: u16,
}

impl LocalTime {
    /// At a moment of the wall clock, in UTC.
    #[must_use]
    pub fn utc(wall_ms: u64) -> Self {
        let minutes = wall_ms / MINUTE_MS;
        // 1 January 1970 was a Thursday. Both remainders are small.
        let day = (minutes / DAY_MINUTES + 3) % 7;
        Self {
            day: usize::try_from(day).unwrap_or_default(),
            minute: u16::try_from(minutes % DAY_MINUTES).unwrap_or_default(),
        }
    }
}

/// Whether at least one of a fleet's windows is open, and when that changes. A time zone that
/// nothing is known of opens nothing.
pub fn windows_at(
    windows: &[Window],
    wall_ms: u64,
    local: impl Fn(&str, u64) -> Option<LocalTime>,
) -> WindowObserved {
    let open_at = |at: u64| {
        windows.iter().any(|window| {
            local(window.zone(), at).is_some_and(|time| window.is_open(time.day, time.minute))
        })
    };
    let open = open_at(wall_ms);
    let begun = wall_ms - wall_ms % MINUTE_MS;
    let changes = (1..=AHEAD_MINUTES)
        .map(|minutes| begun + minutes * MINUTE_MS)
        .find(|at| open_at(*at) != open);
    WindowObserved {
        open,
        changes_in: changes.map(|at| Duration::from_millis(at - wall_ms)),
    }
}

/// A moment of the wall clock, to the minute: `2026-11-26 18:00 UTC`.
#[must_use]
pub fn date(wall_ms: u64) -> String {
    let (day, hour, minute) = civil(wall_ms);
    format!("{day} {hour:02}:{minute:02} UTC")
}

/// A moment of the wall clock, to the second, as RFC 3339 has it: `2026-11-26T18:00:05Z`.
#[must_use]
pub fn instant(wall_ms: u64) -> String {
    let (day, hour, minute) = civil(wall_ms);
    let second = wall_ms % MINUTE_MS / 1_000;
    format!("{day}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The day in the Gregorian calendar, the hour and the minute.
fn civil(wall_ms: u64) -> (String, u64, u64) {
    let minutes = wall_ms / MINUTE_MS;
    let (hour, minute) = (minutes % DAY_MINUTES / 60, minutes % 60);
    // Days since 1 March of year 0, in the Gregorian calendar: leap days end its years.
    let days = minutes / DAY_MINUTES + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (format!("{year:04}-{month:02}-{day:02}"), hour, minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_694_400_000;

    fn at(windows: &[&str], wall_ms: u64) -> WindowObserved {
        let windows: Vec<Window> = windows.iter().map(|text| text.parse().unwrap()).collect();
        windows_at(&windows, wall_ms, |zone, at| {
            (zone == "UTC").then(|| LocalTime::utc(at))
        })
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (NOON, "2026-11-26 12:00 UTC"),
            (4_107_542_399_000, "2100-02-28 23:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(ms), text);
        }
        // It was a Thursday.
        let noon = LocalTime {
            day: 3,
            minute: 720,
        };
        assert_eq!(LocalTime::utc(NOON), noon);
        assert!(date(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn a_window_says_when_it_opens_and_when_it_closes() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        let work = at(&["mon-fri 09:00-16:00 UTC"], NOON);
        assert_eq!((work.open, work.changes_in), (true, hours(4)));
        let night = at(&["thu 20:00-22:00 UTC"], NOON);
        assert_eq!((night.open, night.changes_in), (false, hours(8)));
        let both = at(&["thu 11:00-13:00 UTC", "thu 13:00-15:00 UTC"], NOON);
        assert_eq!((both.open, both.changes_in), (true, hours(3)));
        let always = at(&["mon-sun 00:00-24:00 UTC"], NOON);
        assert_eq!((always.open, always.changes_in), (true, None));
        let part = at(&["thu 12:01-13:00 UTC"], NOON + 30_500);
        assert_eq!(part.changes_in, Some(Duration::from_millis(29_500)));
    }

    #[test]
    fn a_time_zone_that_is_not_known_opens_nothing() {
        let seen = at(&["mon-sun 00:00-24:00 Europe/Atlantis"], NOON);
        assert_eq!((seen.open, seen.changes_in), (false, None));
    }
}
