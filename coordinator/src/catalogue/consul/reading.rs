//! How new what is shown of one watched name is. Pure: it is told the time.
//!
//! What is shown is as new as the last answer that says it. An answer that waits for its turn says
//! something else, so from then on nothing makes newer what is shown, and soon it counts no longer: a
//! machine that is back must not go on being called dead because nobody has looked.

use std::time::Duration;

use calvin_consul::Error;
use tokio::time::Instant;

use super::{faults::Failing, holds::NameHealth};

/// An answer is looked at within so long, unless something at Consul takes its time: one change of the
/// tags of a whole fleet is below a second.
pub(super) const LOOKED_AT_WITHIN: Duration = Duration::from_secs(2);

/// One watched name.
#[derive(Debug)]
pub(super) struct Reading {
    /// Whether somebody on record can be found under it.
    pub(super) used: bool,
    /// Values of this watch have higher numbers: one of an earlier watch of the same name may be on its
    /// way still.
    begins: u64,
    /// The newest value.
    given: u64,
    /// The one that is shown.
    shown: u64,
    /// When Consul answered last.
    answered: Option<Instant>,
    /// When it last said what is shown.
    confirmed: Option<Instant>,
    /// Since when there is a newer value than that.
    waits: Option<Instant>,
    fault: Option<Failing>,
}

impl Reading {
    /// Of which nothing was read yet.
    pub(super) fn new(begins: u64) -> Self {
        Self {
            used: true,
            begins,
            given: begins,
            shown: begins,
            answered: None,
            confirmed: None,
            waits: None,
            fault: None,
        }
    }

    /// Consul answered with this value, which now waits for its turn.
    pub(super) fn gives(&mut self, number: u64, now: Instant) {
        self.given = number;
        self.answered = Some(now);
        self.waits.get_or_insert(now);
        self.fault = None;
    }

    /// Consul answered that nothing has changed.
    pub(super) fn is_same(&mut self, now: Instant) {
        self.answered = Some(now);
        if self.waits.is_none() {
            self.confirmed = Some(now);
        }
        self.fault = None;
    }

    /// Whether a value is one of this watch.
    pub(super) fn is_its(&self, number: u64) -> bool {
        number > self.begins
    }

    /// What is shown from now on was made from this value, which was given at that time.
    pub(super) fn shows(&mut self, number: u64, at: Instant, now: Instant) {
        if number <= self.shown {
            return;
        }
        self.shown = number;
        if number == self.given {
            self.confirmed = self.answered;
            self.waits = None;
        } else {
            self.confirmed = Some(at);
            // What waits now came while this one was looked at.
            self.waits = Some(now);
        }
    }

    pub(super) fn failed(&mut self, error: &Error, now: Instant) {
        self.fault = Some(Failing::again(self.fault.as_ref(), error, now));
    }

    /// How old what is shown is; none where it is nothing, or something else has waited for too long.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let waits = self.waits.map(|since| now.duration_since(since));
        if waits.is_some_and(|waits| waits > LOOKED_AT_WITHIN) {
            return None;
        }
        self.confirmed.map(|at| now.duration_since(at))
    }

    /// What decisions in general rest on.
    pub(super) fn health(&self, now: Instant) -> NameHealth {
        NameHealth {
            age: self.answered.map(|at| now.duration_since(at)),
            waits: self.waits.map(|since| now.duration_since(since)),
            fault: self.fault.as_ref().map(Failing::fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_that_nothing_has_changed_makes_newer_only_what_nothing_newer_waits_behind() {
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut reading = Reading::new(7);
        assert_eq!(reading.age(at(0)), None);
        reading.gives(8, at(0));
        assert_eq!(reading.age(at(0)), None, "it was not shown yet");
        reading.shows(8, at(0), at(1));
        assert_eq!(reading.age(at(1)), Some(SECOND));
        reading.is_same(at(20));
        assert_eq!(reading.age(at(21)), Some(SECOND));

        // Something else is said, and nobody looks: for a moment it is as old as it is, then it is nothing.
        reading.gives(9, at(22));
        assert_eq!(reading.age(at(24)), Some(SECOND * 4));
        assert_eq!(reading.age(at(25)), None);
        reading.is_same(at(40));
        assert_eq!(reading.age(at(40)), None);
        assert_eq!(reading.health(at(40)).waits, Some(SECOND * 18));
        assert_eq!(reading.health(at(40)).age, Some(Duration::ZERO));
        // It is looked at: what it said was said again since.
        reading.shows(9, at(22), at(41));
        assert_eq!(reading.age(at(41)), Some(SECOND));
        assert_eq!(reading.health(at(41)).waits, None);
    }

    #[test]
    fn a_value_that_was_overtaken_is_as_old_as_it_is() {
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut reading = Reading::new(0);
        reading.gives(1, at(0));
        reading.gives(2, at(9));
        reading.shows(1, at(0), at(10));
        assert_eq!(reading.age(at(11)), Some(SECOND * 11));
        // Showing the same again says nothing new.
        reading.shows(1, at(0), at(12));
        assert_eq!(reading.age(at(13)), None);
        reading.shows(2, at(9), at(13));
        assert_eq!(reading.age(at(13)), Some(SECOND * 4));
    }

    #[test]
    fn a_value_of_an_earlier_watch_is_not_its() {
        let mut reading = Reading::new(7);
        assert!(!reading.is_its(7));
        reading.gives(8, Instant::now());
        assert!(reading.is_its(8));
    }
}
