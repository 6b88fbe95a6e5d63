//! Moments as operators type them: a time of today, or a moment with its offset. Only later ones.

use jiff::{Timestamp, civil::Time, tz::TimeZone};

/// Why a moment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MomentError {
    /// It is no moment.
    #[error(
        "{text:?} is no moment: name a time of today, such as 17:00, or a moment with its offset, such as 2026-11-26T17:00+01:00"
    )]
    Unreadable {
        /// What was typed.
        text: String,
    },
    /// It was before now.
    #[error("{text} is past: the coordinator's clock says {now}; name a later moment")]
    Past {
        /// What was typed.
        text: String,
        /// What time it is.
        now: String,
    },
}

/// The moment that `text` names, in milliseconds since 1970 UTC; `now` is what the coordinator's
/// clock says, and a time of day is that of today in `zone`.
pub(crate) fn later(text: &str, now: u64, zone: &TimeZone) -> Result<u64, MomentError> {
    let unreadable = || MomentError::Unreadable {
        text: text.to_owned(),
    };
    let today = i64::try_from(now)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .ok_or_else(unreadable)?
        .to_zoned(zone.clone());
    let moment = match (text.parse::<Timestamp>(), text.parse::<Time>()) {
        (Ok(moment), _) => moment,
        (Err(_), Ok(time)) if is_clock(text) => today
            .date()
            .to_datetime(time)
            .to_zoned(zone.clone())
            .map_err(|_| unreadable())?
            .timestamp(),
        (Err(_), _) => return Err(unreadable()),
    };
    match u64::try_from(moment.as_millisecond()) {
        Ok(ms) if ms > now => Ok(ms),
        Ok(_) | Err(_) => Err(MomentError::Past {
            text: text.to_owned(),
            now: today.strftime("%Y-%m-%dT%H:%M%:z").to_string(),
        }),
    }
}

/// `17:00` or `17:00:30`: other forms of a time, such as `17`, are too easily something else.
fn is_clock(text: &str) -> bool {
    text.contains(':') && text.chars().all(|c| c.is_ascii_digit() || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 09:43:10 UTC.
    const NOW: u64 = 1_795_426_990_000;

    fn berlin() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(1))
    }

    #[test]
    fn a_time_of_day_is_today_in_the_zone_of_who_types_it() {
        let minute = 60_000;
        let ends = later("17:00", NOW, &berlin()).unwrap();
        // 17:00 at +01:00 is 16:00 UTC: 6 hours, 16 minutes and 50 seconds later.
        assert_eq!(ends - NOW, 6 * 60 * minute + 16 * minute + 50_000);
    }

    #[test]
    fn a_moment_has_its_offset() {
        let same = [
            "2026-11-23T17:00+01:00",
            "2026-11-23T16:00Z",
            "2026-11-23 16:00:00+00:00",
        ];
        let wanted = later("17:00", NOW, &berlin());
        for text in same {
            assert_eq!(later(text, NOW, &TimeZone::UTC), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_past_is_refused_with_what_time_it_is() {
        for text in [
            "09:00",
            "10:43:10",
            "2026-11-22T10:00Z",
            "1969-01-01T00:00Z",
        ] {
            let error = later(text, NOW, &berlin()).unwrap_err().to_string();
            assert!(
                error.starts_with(text) && error.contains("2026-11-23T10:43+01:00"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_two_that_are() {
        for text in [
            "",
            "17",
            "1700",
            "25:00",
            "tomorrow",
            "2026-11-23T17:00",
            "5pm",
            "9:99",
        ] {
            let error = later(text, NOW, &berlin()).unwrap_err();
            assert!(
                matches!(error, MomentError::Unreadable { .. }),
                "{text}: {error}"
            );
        }
    }
}
