//! Durations as people write them: `500ms`, `30s`, `5m`, `1h30m`, `2d`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A duration that is read and written as people do. A bare number is refused: `5` may mean
/// seconds to one reader and minutes to the next.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

/// Longest duration accepted: 10 years. Keeps every sum of two far from overflow.
const MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: write a number and a unit (ms, s, m, h, d), such as 90s or 1h30m, of at most 10 years"
)]
pub struct DurationError {
    /// The text, cut to its first 80 characters.
    pub text: String,
}

impl HumanDuration {
    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A duration of whole milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        parse(text).ok_or_else(|| DurationError {
            text: text.chars().take(80).collect(),
        })
    }
}

fn parse(text: &str) -> Option<HumanDuration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(HumanDuration::default());
    }
    let mut total_ms: u64 = 0;
    let mut last_unit_ms = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == &rest[..letters])?;
        // Units fall from left to right, so that "1m1m" and "5s1h" are seen as the slips they are.
        if *unit_ms >= last_unit_ms {
            return None;
        }
        last_unit_ms = *unit_ms;
        total_ms = total_ms.checked_add(number.checked_mul(*unit_ms)?)?;
        rest = &rest[letters..];
    }
    let duration = Duration::from_millis(total_ms);
    (last_unit_ms != u64::MAX && duration <= MAX).then_some(HumanDuration(duration))
}

impl TryFrom<String> for HumanDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left_ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left_ms == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (name, unit_ms) in UNITS.iter().rev() {
            let count = left_ms / unit_ms;
            left_ms %= unit_ms;
            if count > 0 {
                text.push_str(&format!("{count}{name}"));
            }
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_what_may_mean_two_things_is_refused() {
        let ms = |text: &str| text.parse::<HumanDuration>().unwrap().0.as_millis();
        assert_eq!(ms("500ms"), 500);
        assert_eq!(ms("1h30m"), 5_400_000);
        assert_eq!(ms("0s"), 0);
        for bad in [
            "",
            "5",
            "5 minutes",
            "-5s",
            "1.5s",
            "5s1h",
            "1m1m",
            "11y",
            "99999d",
            "s",
            "m5",
        ] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_duration_is_read_back_as_written(ms in 0u64..315_360_000_000) {
            let duration = HumanDuration::from_millis(ms);
            proptest::prop_assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
        }
    }
}
