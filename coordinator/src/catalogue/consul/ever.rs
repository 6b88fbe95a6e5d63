//! Who was on record in this run, for as long as something may be left of it. Pure, but for the clock
//! that it is given.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{FleetName, InstanceId};
use tokio::time::Instant;

/// So long after nothing was left of an instance any more it is forgotten. Consul clients believe a
/// revoked token for half a minute, and may bring back with it what was taken out.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Between two looks for whom to forget.
const SWEEP: Duration = Duration::from_secs(60);

/// All that were on record in this run and of which something may be left.
#[derive(Debug, Default)]
pub(super) struct Ever {
    instances: BTreeMap<InstanceId, Was>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Was {
    fleet: FleetName,
    /// When something of it was there last.
    last: Instant,
}

impl Ever {
    /// It is on record.
    pub(super) fn see(&mut self, instance: &InstanceId, fleet: &FleetName, now: Instant) {
        match self.instances.get_mut(instance) {
            Some(was) => was.last = now,
            None => {
                let fleet = fleet.clone();
                let was = Was { fleet, last: now };
                self.instances.insert(instance.clone(), was);
            }
        }
    }

    /// Whether it was on record.
    pub(super) fn contains(&self, instance: &InstanceId) -> bool {
        self.instances.contains_key(instance)
    }

    /// Its fleet.
    pub(super) fn fleet(&self, instance: &InstanceId) -> Option<FleetName> {
        self.instances.get(instance).map(|was| was.fleet.clone())
    }

    /// Whether it is time to forget somebody.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.swept
            .is_none_or(|swept| now.duration_since(swept) >= SWEEP)
    }

    /// Forgets those of which nothing has been left for a while.
    pub(super) fn sweep(&mut self, is_left: impl Fn(&InstanceId) -> bool, now: Instant) {
        self.swept = Some(now);
        self.instances.retain(|instance, was| {
            if is_left(instance) {
                was.last = now;
            }
            now.duration_since(was.last) < FORGOTTEN_AFTER
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_forgotten_once_nothing_has_been_left_for_a_while() {
        let mut ever = Ever::default();
        let fleet: FleetName = "web".parse().unwrap();
        let [here, gone]: [InstanceId; 2] = ["web-here", "web-gone"].map(|id| id.parse().unwrap());
        let mut now = Instant::now();
        ever.see(&gone, &fleet, now);
        for minute in 0..30 {
            assert!(ever.is_due(now));
            ever.see(&here, &fleet, now);
            // Its node stays for five minutes.
            ever.sweep(|id| *id == gone && minute < 5, now);
            assert!(!ever.is_due(now));
            assert!(ever.contains(&here));
            assert_eq!(ever.contains(&gone), minute < 14, "after {minute} min");
            now += SWEEP;
        }
        assert_eq!(ever.fleet(&here), Some(fleet));
    }
}
