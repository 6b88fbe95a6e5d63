//! When rollouts may start and switch: days and hours in a time zone.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The days of a week, from Monday.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// The longest name in the time zone database has 32 characters.
const ZONE_CHARACTERS: usize = 64;

/// `mon-fri 09:00-16:00 Europe/Berlin`: days, hours, time zone. Hours that end at or before their
/// beginning reach into the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    days: [bool; 7],
    from: u16,
    until: u16,
    zone: String,
    text: String,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a window such as \"mon-fri 09:00-16:00 Europe/Berlin\": {why}")]
pub struct WindowError {
    text: String,
    why: &'static str,
}

impl Window {
    /// Whether it is open on a day (0 is Monday) at a minute of that day, in its own time zone.
    #[must_use]
    pub fn is_open(&self, day: usize, minute: u16) -> bool {
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.from < self.until {
            return on(day) && (self.from..self.until).contains(&minute);
        }
        let yesterday = day + 6;
        on(day) && minute >= self.from || on(yesterday) && minute < self.until
    }

    /// The name of its time zone, as the time zone database has it.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let refuse = |why| WindowError {
            text: text.chars().take(80).collect(),
            why,
        };
        let mut words = text.split_whitespace();
        let (Some(days), Some(hours), Some(zone), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(refuse("it has days, hours and a time zone"));
        };
        let days =
            parse_days(days).ok_or_else(|| refuse("days are mon to sun, as mon-fri or sat,sun"))?;
        let (from, until) = hours
            .split_once('-')
            .and_then(|(from, until)| Some((parse_time(from)?, parse_time(until)?)))
            .ok_or_else(|| refuse("hours are HH:MM-HH:MM"))?;
        let from = from % DAY_MINUTES;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
        if zone.len() > ZONE_CHARACTERS || !zone.chars().all(plain) {
            return Err(refuse("a time zone is a name such as Europe/Berlin or UTC"));
        }
        Ok(Self {
            days,
            from,
            until,
            zone: zone.to_owned(),
            text: text.to_owned(),
        })
    }
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|known| *known == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let mut at = first;
        loop {
            days[at] = true;
            if at == last {
                break;
            }
            at = (at + 1) % days.len();
        }
    }
    Some(days)
}

fn parse_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= DAY_MINUTES).then_some(time)
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_within_its_hours_on_its_days() {
        let work = window("mon-fri 09:00-16:00 Europe/Berlin");
        assert!(work.is_open(0, 9 * 60) && work.is_open(4, 16 * 60 - 1));
        assert!(!work.is_open(0, 9 * 60 - 1) && !work.is_open(0, 16 * 60));
        assert!(!work.is_open(5, 12 * 60) && !work.is_open(6, 12 * 60));
        assert_eq!(work.zone(), "Europe/Berlin");
    }

    #[test]
    fn hours_over_midnight_reach_into_the_next_day() {
        let night = window("sat,sun 22:00-04:00 UTC");
        assert!(night.is_open(5, 23 * 60) && night.is_open(6, 3 * 60));
        assert!(night.is_open(0, 3 * 60) && !night.is_open(5, 3 * 60));
        let whole = window("fri-mon 00:00-24:00 UTC");
        assert!(whole.is_open(4, 0) && whole.is_open(0, 1439) && !whole.is_open(1, 0));
    }

    #[test]
    fn what_is_no_window_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "days, hours"),
            ("mon 09:00-16:00", "days, hours"),
            ("monday 09:00-16:00 UTC", "days are"),
            ("mon 9:00-16:00 UTC", "hours are"),
            ("mon 09:00-24:01 UTC", "hours are"),
            ("mon 09:61-10:00 UTC", "hours are"),
            ("mon 09:00-10:00 ../etc", "time zone"),
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
