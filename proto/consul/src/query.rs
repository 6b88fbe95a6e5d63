//! How a read is asked, and where a query that waits goes on. Pure.
//!
//! The rules are those of the documentation's page "Blocking queries": an index that goes backwards
//! or is zero is begun anew, the answer to a waiting query may hold no change, Consul itself waits up
//! to a sixteenth longer than it was told, and a client must limit how often it asks when what it
//! watches changes without a pause.

use std::time::Duration;

/// How new the answer to a read must be (the documentation's page "Consistency modes").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// From the leader; for a moment after a partition it may be an old one.
    #[default]
    Default,
    /// From the leader, which first asks the others whether it still is that. Whatever is decided on
    /// must be read so.
    Consistent,
    /// From any server, however old; works without a leader.
    Stale,
}

/// A value with what Consul said about its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// Consul's index of it: grows with each change, until servers are restored.
    pub index: u64,
    /// Whether the server that answered knew a leader.
    pub known_leader: bool,
    /// How long ago that server heard of its leader; zero when it was the leader.
    pub last_contact: Duration,
}

/// Longest wait of one query; Consul's own limit is 10 min.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// What the index of an answer says about the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The first answer.
    First,
    /// Nothing has changed: the wait was over.
    Same,
    /// Something has changed.
    Changed,
    /// The index went backwards: servers were restored or replaced, and everything may have changed.
    Reset,
}

/// Where a query that waits goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Of the newest answer; zero before the first.
    newest: u64,
    /// Whether the next query must not wait: there was none yet, or nobody knows what was missed.
    at_once: bool,
}

impl Cursor {
    /// Before the first query.
    #[must_use]
    pub fn new() -> Self {
        Self {
            newest: 0,
            at_once: true,
        }
    }

    /// The index to wait for a change from; none for a query that must not wait.
    #[must_use]
    pub fn wait_from(&self) -> Option<u64> {
        (!self.at_once).then_some(self.newest.max(1))
    }

    /// Takes the index of an answer. An absent one, or zero, is a fault of Consul's; it is taken
    /// for 1, so that the next query waits all the same and does not become a busy loop.
    pub fn advance(&mut self, index: Option<u64>) -> Advance {
        let index = index.unwrap_or(0).max(1);
        let before = self.newest;
        self.newest = index;
        // After a step back the value is as new as it gets, and may yet change: read again at once
        // would only be the same answer.
        self.at_once = false;
        match before {
            0 => Advance::First,
            _ if index < before => Advance::Reset,
            _ if index == before => Advance::Same,
            _ => Advance::Changed,
        }
    }

    /// A query failed, or none was under way for a while. The next one asks without waiting: servers
    /// that came back with a lower index would let one that waits for a higher one wait to its end.
    pub fn look(&mut self) {
        self.at_once = true;
    }
}

/// How long one query waits. `random` is from 0 to 1: up to a tenth less than was asked for, so that
/// watches that began together do not ask together for ever.
#[must_use]
pub fn jittered_wait(wait: Duration, random: f64) -> Duration {
    wait.min(WAIT_MAX)
        .mul_f64(1.0 - random.clamp(0.0, 1.0) / 10.0)
}

/// How long the answer to a query that waits may take: Consul waits up to a sixteenth longer, and
/// then it needs as long as any other answer.
#[must_use]
pub fn wait_limit(wait: Duration, limit: Duration) -> Duration {
    wait + wait / 16 + limit
}

/// So long no query may be under way without a look at what is there: no server is ended, emptied,
/// started and elected in less.
pub const UNWATCHED_MAX: Duration = Duration::from_millis(500);
/// Shortest time from one query of a watch to the next: twenty a second, whatever changes.
pub const SPACING: Duration = Duration::from_millis(50);
/// First pause after a failed query; doubles with each further one.
pub const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(15);

/// The pause before the next query: `took` is how long the last one took, `failures` how many failed
/// in a row. `random` is from 0 to 1.
#[must_use]
pub fn pause(failures: u32, took: Duration, random: f64) -> Duration {
    let random = random.clamp(0.0, 1.0);
    if failures == 0 {
        return SPACING.saturating_sub(took);
    }
    let doubled = PAUSE_MIN.saturating_mul(1 << (failures - 1).min(16));
    doubled.min(PAUSE_MAX).mul_f64(0.5 + random / 2.0)
}

/// A duration as Consul reads it, in whole milliseconds.
pub(crate) fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_query_does_not_wait_and_later_ones_do() {
        let mut cursor = Cursor::new();
        assert_eq!(cursor.wait_from(), None);
        assert_eq!(cursor.advance(Some(7)), Advance::First);
        assert_eq!(cursor.wait_from(), Some(7));
        assert_eq!(cursor.advance(Some(7)), Advance::Same);
        assert_eq!(cursor.advance(Some(9)), Advance::Changed);
    }

    #[test]
    fn an_index_that_goes_backwards_is_told_and_begun_anew() {
        let mut cursor = Cursor::new();
        cursor.advance(Some(900));
        assert_eq!(cursor.advance(Some(12)), Advance::Reset);
        assert_eq!(cursor.wait_from(), Some(12));
        assert_eq!(cursor.advance(Some(13)), Advance::Changed);
    }

    #[test]
    fn without_an_index_the_next_query_still_waits() {
        for index in [None, Some(0)] {
            let mut cursor = Cursor::new();
            cursor.advance(index);
            assert_eq!(cursor.wait_from(), Some(1));
        }
    }

    #[test]
    fn after_a_failure_nothing_is_waited_for() {
        let mut cursor = Cursor::new();
        cursor.advance(Some(900));
        cursor.look();
        assert_eq!(cursor.wait_from(), None);
        assert_eq!(cursor.advance(Some(900)), Advance::Same);
    }

    #[test]
    fn the_limit_lies_above_the_longest_wait_of_consul() {
        let (wait, limit) = (Duration::from_secs(160), Duration::from_secs(5));
        assert_eq!(wait_limit(wait, limit), Duration::from_secs(175));
    }

    #[test]
    fn pauses_grow_with_failures_and_keep_a_distance_without() {
        let none = Duration::ZERO;
        assert_eq!(pause(0, none, 0.5), SPACING);
        assert_eq!(pause(0, Duration::from_secs(1), 0.5), none);
        assert_eq!(pause(1, none, 1.0), PAUSE_MIN);
        assert_eq!(pause(2, none, 1.0), PAUSE_MIN * 2);
        assert_eq!(pause(u32::MAX, none, 1.0), PAUSE_MAX);
    }

    proptest! {
        #[test]
        fn a_watch_never_waits_from_zero_and_never_misses_a_change(
            indexes in proptest::collection::vec(proptest::option::of(0_u64..20), 1..40),
        ) {
            let mut cursor = Cursor::new();
            let mut seen = 0;
            for index in indexes {
                let expected = index.unwrap_or(0).max(1);
                let advance = cursor.advance(index);
                prop_assert_eq!(cursor.wait_from(), Some(expected));
                prop_assert_eq!(advance == Advance::Same, seen == expected);
                seen = expected;
            }
        }

        #[test]
        fn pauses_and_waits_stay_in_their_bounds(
            failures in any::<u32>(), ms in 0_u64..2_000_000, random in -1.0_f64..2.0,
        ) {
            let time = Duration::from_millis(ms);
            prop_assert!(pause(failures, time, random) <= PAUSE_MAX);
            let wait = jittered_wait(time, random);
            prop_assert!(wait <= WAIT_MAX && wait >= time.min(WAIT_MAX).mul_f64(0.899));
        }
    }
}
