//! Reads the coordinator's log: when it did something, and how long that took.

use std::time::Duration;

/// The time of day of a line of the coordinator's: `2026-01-02T03:04:05.678901Z  INFO ...`.
pub(crate) fn time_of_day(line: &str) -> Option<Duration> {
    let time = line.get(..27)?.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = time.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(Duration::from_secs(hours * 3_600 + minutes * 60) + Duration::from_secs_f64(seconds))
}

/// From one time of day to a later one, also over midnight.
pub(crate) fn between(from: Duration, to: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    to.checked_sub(from).unwrap_or_else(|| to + DAY - from)
}

/// The value of `took=`, as Rust shows a duration: `12.5ms`, `1.2s`, `900µs`.
pub(crate) fn took(line: &str) -> Option<Duration> {
    let word = line.split("took=").nth(1)?.split_whitespace().next()?;
    let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds: f64 = digits.parse().ok()?;
    let unit = match &word[digits.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Some(Duration::from_secs_f64(seconds * unit))
}
