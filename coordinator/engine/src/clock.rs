//! The decision clock: how monotonic time of this process becomes time of the environment.
//!
//! Deadlines are kept as moments on it. Time in which nobody could have acted must not use them
//! up, so it takes at most [`ELAPSED_MAX`] from one pass to the next, and nothing while held.

use std::time::Duration;

use calvin_model::Mutant;
use calvin_planner::Moment;

/// Most that one pass may add. Passes come every 250 ms; eight times that is a busy machine,
/// more is a suspended process or a disk that hung, and whoever was waited for hung with it.
pub const ELAPSED_MAX: Duration = Duration::from_secs(2);

/// The decision clock of one run.
#[derive(Debug)]
pub(crate) struct DecisionClock {
    moment: Moment,
    /// Up to where monotonic time was counted.
    counted: Duration,
    /// The last look of any kind, also while held.
    looked: Duration,
    /// Since when there was no gap between two looks.
    watching_since: Duration,
    /// Whether there was one before the last look.
    stood_still: bool,
}

impl DecisionClock {
    /// Goes on from a stored moment.
    pub(crate) fn resume(moment: Moment, now: Duration) -> Self {
        let stood_still_since = if Mutant::RunClockWhileAway.lives() {
            Duration::from_millis(moment.ms)
        } else {
            now
        };
        Self {
            moment,
            counted: stood_still_since,
            looked: now,
            watching_since: now,
            stood_still: false,
        }
    }

    /// Whether nobody looked for long before the last look: the process stood still, and what it
    /// knows may have been changed by another one.
    pub(crate) fn stood_still(&self) -> bool {
        self.stood_still
    }

    /// The moment that decisions are taken at.
    pub(crate) fn moment(&self) -> Moment {
        self.moment
    }

    /// Counts the time since the last call, to whole milliseconds; the rest is counted next time.
    pub(crate) fn advance(&mut self, now: Duration) -> Moment {
        let elapsed = now.saturating_sub(self.counted);
        if elapsed > ELAPSED_MAX && !Mutant::RunClockWhileAway.lives() {
            self.moment = self.moment.after(ELAPSED_MAX);
            self.counted = now;
        } else {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let whole = Duration::from_millis(ms);
            self.moment = self.moment.after(whole);
            self.counted += whole;
        }
        self.moment
    }

    /// Lets time pass without counting it.
    pub(crate) fn stand_still(&mut self, now: Duration) {
        self.counted = now;
    }

    /// Counts silence from now: until now nobody could have spoken to who asks.
    pub(crate) fn watch_anew(&mut self, now: Duration) {
        self.watching_since = now;
    }

    /// Notes a look, and says for how long there has been one without a gap. After a gap every
    /// silence is younger than the gap's end: nobody listened before.
    pub(crate) fn look(&mut self, now: Duration) -> Duration {
        self.stood_still = now.saturating_sub(self.looked) > ELAPSED_MAX;
        if self.stood_still {
            self.watching_since = now;
        }
        self.looked = now;
        now.saturating_sub(self.watching_since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let mut clock = DecisionClock::resume(Moment { ms: 7 }, ms(0));
        for pass in 1..=10_u32 {
            clock.advance(Duration::from_micros(400) * pass);
        }
        assert_eq!(clock.moment(), Moment { ms: 11 });
    }

    #[test]
    fn a_suspended_process_uses_up_no_deadline() {
        let mut clock = DecisionClock::resume(Moment::default(), ms(0));
        assert_eq!(clock.advance(ms(3_600_000)), Moment { ms: 2_000 });
        assert_eq!(clock.advance(ms(3_600_250)), Moment { ms: 2_250 });
    }

    #[test]
    fn the_clock_stands_still_when_told_to() {
        let mut clock = DecisionClock::resume(Moment::default(), ms(0));
        clock.advance(ms(100));
        clock.stand_still(ms(900));
        assert_eq!(clock.advance(ms(1_000)), Moment { ms: 200 });
    }

    #[test]
    fn no_silence_is_older_than_the_last_gap_between_two_looks() {
        let mut clock = DecisionClock::resume(Moment::default(), ms(0));
        assert_eq!(clock.look(ms(1_000)), ms(1_000));
        assert!(!clock.stood_still());
        assert_eq!(clock.look(ms(9_000)), ms(0));
        assert!(clock.stood_still());
        assert_eq!(clock.look(ms(9_250)), ms(250));
    }
}
