//! Spans and moments as people read them: two units at most, the smaller one only while it matters.

use jiff::{Timestamp, tz::TimeZone};

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// `0.4s`, `3.2s`, `42s`, `3m20s`, `2h05m`, `3d4h`: cut, not rounded.
pub(crate) fn span(ms: u64) -> String {
    if ms < 10 * SECOND_MS {
        let (whole, tenth) = (ms / SECOND_MS, ms % SECOND_MS / 100);
        return if tenth == 0 {
            format!("{whole}s")
        } else {
            format!("{whole}.{tenth}s")
        };
    }
    if ms < MINUTE_MS {
        return format!("{}s", ms / SECOND_MS);
    }
    let (large, large_unit, small, small_unit) = if ms < HOUR_MS {
        (ms / MINUTE_MS, "m", ms % MINUTE_MS / SECOND_MS, "s")
    } else if ms < DAY_MS {
        (ms / HOUR_MS, "h", ms % HOUR_MS / MINUTE_MS, "m")
    } else {
        (ms / DAY_MS, "d", ms % DAY_MS / HOUR_MS, "h")
    };
    match small {
        0 => format!("{large}{large_unit}"),
        small if large_unit == "d" => format!("{large}d{small}{small_unit}"),
        small => format!("{large}{large_unit}{small:02}{small_unit}"),
    }
}

/// The day of a moment, `2026-11-23`.
pub(crate) fn day(wall_ms: u64, zone: &TimeZone) -> String {
    format(wall_ms, zone, "%Y-%m-%d")
}

/// The time of day of a moment, `09:43:10`.
pub(crate) fn clock(wall_ms: u64, zone: &TimeZone) -> String {
    format(wall_ms, zone, "%H:%M:%S")
}

/// Day and minute of a moment, `2026-11-23 09:43`.
pub(crate) fn minute(wall_ms: u64, zone: &TimeZone) -> String {
    format(wall_ms, zone, "%Y-%m-%d %H:%M")
}

fn format(wall_ms: u64, zone: &TimeZone, pattern: &str) -> String {
    i64::try_from(wall_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            // A peer's clock may say anything; showing the number is honest.
            || format!("{wall_ms}ms"),
            |moment| moment.to_zoned(zone.clone()).strftime(pattern).to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let read = [
            0,
            400,
            3_250,
            42_900,
            200_000,
            7_500_000,
            273_600_000,
            3_600_000,
        ];
        let said = ["0s", "0.4s", "3.2s", "42s", "3m20s", "2h05m", "3d4h", "1h"];
        assert_eq!(read.map(span), said);
    }

    #[test]
    fn a_moment_out_of_range_is_shown_as_it_came() {
        assert_eq!(day(u64::MAX, &TimeZone::UTC), format!("{}ms", u64::MAX));
        assert_eq!(
            minute(1_795_426_990_000, &TimeZone::UTC),
            "2026-11-23 09:43"
        );
    }
}
