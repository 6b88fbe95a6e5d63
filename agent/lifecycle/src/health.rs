//! Health over time: its value, since when, and how often it broke.

use std::time::Duration;

use calvin_model::{Health, Mutant};

/// Health with its history in this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthTrack {
    value: Health,
    since: Duration,
    flaps: u64,
    /// It was healthy since the last flap: turning unhealthy counts, also when it was unknown
    /// for a moment in between.
    was_healthy: bool,
}

impl HealthTrack {
    pub(crate) fn new(now: Duration, flaps: u64) -> Self {
        Self {
            value: Health::Unknown,
            since: now,
            flaps,
            was_healthy: false,
        }
    }

    pub(crate) fn value(&self) -> Health {
        self.value
    }

    pub(crate) fn since(&self) -> Duration {
        self.since
    }

    pub(crate) fn flaps(&self) -> u64 {
        self.flaps
    }

    pub(crate) fn set(&mut self, now: Duration, value: Health) {
        // Also when it stays healthy: in a new role that is its first healthy moment.
        if value == Health::Healthy {
            self.was_healthy = true;
        }
        if value == self.value {
            return;
        }
        match value {
            Health::Healthy => {}
            Health::Unhealthy => {
                if self.was_healthy {
                    self.flaps = self.flaps.saturating_add(1);
                }
                self.was_healthy = false;
            }
            Health::Unknown => {}
        }
        self.value = value;
        if !Mutant::KeepSoakOverFlaps.lives() {
            self.since = now;
        }
    }

    /// From now on other checks count: what comes is judged for itself.
    pub(crate) fn start_role(&mut self) {
        self.was_healthy = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_was_healthy_in_its_role_does_not_flap() {
        let mut health = HealthTrack::new(Duration::ZERO, 3);
        health.set(Duration::ZERO, Health::Healthy);
        health.start_role();
        health.set(Duration::ZERO, Health::Unknown);
        health.set(Duration::ZERO, Health::Unhealthy);
        assert_eq!(health.flaps(), 3);
    }

    #[test]
    fn what_stays_healthy_in_a_new_role_flaps_when_it_breaks() {
        let mut health = HealthTrack::new(Duration::ZERO, 0);
        health.set(Duration::ZERO, Health::Healthy);
        health.start_role();
        health.set(Duration::ZERO, Health::Healthy);
        health.set(Duration::ZERO, Health::Unhealthy);
        assert_eq!(health.flaps(), 1);
    }

    #[test]
    fn turning_unhealthy_counts_once_also_over_an_unknown_moment() {
        use Health::{Healthy, Unhealthy, Unknown};
        let mut health = HealthTrack::new(Duration::ZERO, 0);
        for (at, (value, flaps)) in [
            (Unhealthy, 0),
            (Healthy, 0),
            (Unknown, 0),
            (Unhealthy, 1),
            (Unknown, 1),
            (Unhealthy, 1),
            (Healthy, 1),
            (Unhealthy, 2),
        ]
        .into_iter()
        .enumerate()
        {
            health.set(Duration::from_secs(at as u64), value);
            assert_eq!(health.flaps(), flaps, "step {at}");
            assert_eq!(health.since(), Duration::from_secs(at as u64));
        }
    }
}
