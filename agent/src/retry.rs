//! Pauses between attempts that must never end and never flood.

use std::time::Duration;

/// Pauses that double up to a maximum, each drawn between its half and its whole, so that many
/// who failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `min` to `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            next: min,
        }
    }

    /// The next pause. `random` is from 0 to 1.
    pub fn pause(&mut self, random: f64) -> Duration {
        let whole = self.next;
        self.next = (self.next * 2).min(self.max);
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins again with the shortest: something worked.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        let pauses: Vec<_> = (0..4).map(|_| backoff.pause(1.0)).collect();
        assert_eq!(pauses, [seconds(1), seconds(2), seconds(4), seconds(5)]);
        assert_eq!(backoff.pause(0.0), Duration::from_millis(2500));
        backoff.reset();
        assert_eq!(backoff.pause(1.0), seconds(1));
    }
}
