//! How long a coordinator that has not had the lock yet waits for another one to lose it. Pure, but for the
//! clock that it is given.
//!
//! Who goes on waiting would take the lock when the other one starts again, with another store, and the
//! right one would then find it taken.

use std::time::Duration;

use tokio::time::Instant;

use super::LOCK_WAIT;

/// What another one's lock means for who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It was found for the first time.
    Begins,
    GoesOn,
    /// Whoever has it lives: one that had died would have lost it.
    Over,
}

/// How long was waited.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// It was ours in this run: one that is lost is waited for without end.
    had: bool,
    began: bool,
    waited: Duration,
    /// When another one was found to have it, where that was the last look.
    last: Option<Instant>,
}

impl Patience {
    /// The lock is ours.
    pub(super) fn ours(&mut self) {
        self.had = true;
        self.last = None;
    }

    /// Another one has it.
    pub(super) fn theirs(&mut self, now: Instant) -> Wait {
        if self.had {
            return Wait::GoesOn;
        }
        if let Some(last) = self.last.replace(now) {
            self.waited += now.duration_since(last);
        }
        if self.waited >= LOCK_WAIT {
            return Wait::Over;
        }
        if std::mem::replace(&mut self.began, true) {
            Wait::GoesOn
        } else {
            Wait::Begins
        }
    }

    /// Nobody could say who has it. That time does not count, because a new leader gives every session its
    /// whole life again; what was waited before it does.
    pub(super) fn unknown(&mut self) {
        self.last = None;
    }

    /// Whether another one was found to have it.
    pub(super) fn began(&self) -> bool {
        self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks every second; after how many it is over.
    fn over(patience: &mut Patience, known: impl Fn(u32) -> bool) -> Option<u32> {
        let start = Instant::now();
        (0..1000).find(|second| {
            let now = start + SECOND * *second;
            if known(*second) {
                return patience.theirs(now) == Wait::Over;
            }
            patience.unknown();
            false
        })
    }

    #[test]
    fn who_never_had_the_lock_waits_through_failures_and_not_without_end() {
        let now = Instant::now();
        let mut patience = Patience::default();
        assert!(!patience.began());
        assert_eq!(patience.theirs(now), Wait::Begins);
        assert_eq!(patience.theirs(now), Wait::GoesOn);
        assert!(patience.began());

        let wait = u32::try_from(LOCK_WAIT.as_secs()).unwrap();
        assert_eq!(over(&mut Patience::default(), |_| true), Some(wait));
        // A silence of a minute, whatever was before it, and one second in ten.
        let silence = |second| !(10..70).contains(&second);
        let ended = over(&mut Patience::default(), silence);
        assert_eq!(ended, Some(wait + 61));
        let away = |second| second >= 300;
        assert_eq!(over(&mut Patience::default(), away), Some(300 + wait));
        let ended = over(&mut Patience::default(), |second| second % 10 != 0);
        assert!(ended.is_some_and(|ended| ended < 2 * wait), "{ended:?}");
        assert_eq!(over(&mut Patience::default(), |_| false), None);
    }

    #[test]
    fn who_had_the_lock_waits_for_it_without_end() {
        let mut patience = Patience::default();
        patience.ours();
        assert_eq!(over(&mut patience, |_| true), None);
    }
}
