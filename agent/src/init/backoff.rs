//! How long to wait before something that ended by itself is started again.

use std::time::Duration;

/// Doubling pauses. Jittered, so that a hundred machines whose database went away do not come back
/// in step.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

/// It starts anew after a run of this many times the longest pause.
const GOOD_RUN_FACTOR: u32 = 10;

impl Backoff {
    /// Pauses from `min` to `max`.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            next: min,
        }
    }

    /// The pause after a run that took `ran`, between half and the whole of what is due.
    pub(super) fn pause_after(&mut self, ran: Duration, random: f64) -> Duration {
        if ran >= self.max * GOOD_RUN_FACTOR {
            self.next = self.min;
        }
        let due = self.next;
        self.next = (due * 2).min(self.max);
        due.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_good_run() {
        let mut backoff = Backoff::new(100 * MS, 300 * MS);
        let mut pause = |ran| backoff.pause_after(ran, 1.0).as_millis();
        assert_eq!(
            [
                pause(MS),
                pause(MS),
                pause(MS),
                pause(2999 * MS),
                pause(3000 * MS)
            ],
            [100, 200, 300, 300, 100]
        );
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let mut backoff = Backoff::new(100 * MS, 100 * MS);
        assert_eq!(backoff.pause_after(MS, 0.0), 50 * MS);
    }
}
