//! Whether the coordinator has reasons to distrust its own eyes. Many machines seldom do the same at
//! the same moment; the one who watches them all may well be what has changed. It ends when the world
//! agrees again. A run that has heard of nobody yet has nothing to compare, and cries nothing.

use std::time::Duration;

use calvin_model::{Health, Mutant};

use crate::{
    judge::{Distrust, FRESH_INTERVALS, PROBE_FRESH},
    observed::{InstanceObserved, SessionObserved},
    plan::PlanInput,
    state::{FleetState, Instance, Life, Purpose},
    sums::most_at_once,
};

/// Sessions that end within so long of each other ended at once: five report intervals of 2 s, which
/// is how far apart the coordinator notices silences that began together.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What may speak against the coordinator's own eyes, over all fleets.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// How long ago sessions ended, and how many were heard in this run.
    ended: Vec<Duration>,
    heard: usize,
    /// Where agents and probes say the same, and where only one of them says that it is well.
    both: usize,
    probes_only: usize,
    agents_only: usize,
}

impl Doubts {
    /// Counts what is seen of an instance.
    pub(crate) fn count(
        &mut self,
        input: &PlanInput<'_>,
        fleet: &FleetState,
        instance: &Instance,
        seen: &InstanceObserved,
    ) {
        // Nothing about a zone that a person says is lost is a surprise.
        if instance.life != Life::Up || input.environment.has_lost(instance.zone.as_ref()) {
            return;
        }
        match seen.session {
            SessionObserved::Alive(_) => self.heard += 1,
            SessionObserved::Ended(ago) => {
                self.heard += 1;
                self.ended.push(ago);
            }
            SessionObserved::Never => {}
        }
        if !instance.proven || is_green(fleet, instance) {
            return;
        }
        match opinions(input, seen) {
            Some((true, true) | (false, false)) => self.both += 1,
            Some((true, false)) => self.agents_only += 1,
            Some((false, true)) => self.probes_only += 1,
            None => {}
        }
    }

    /// What the coordinator distrusts.
    pub(crate) fn distrust(mut self) -> Distrust {
        let (together, heard) = (most_together(&mut self.ended), self.heard);
        if most_at_once(together, heard) && !Mutant::NeedNoWitnesses.lives() {
            return Distrust::SessionsEnded {
                ended: together,
                of: heard,
            };
        }
        let (disagree, of) = (
            self.agents_only.max(self.probes_only),
            self.both + self.agents_only + self.probes_only,
        );
        if most_at_once(disagree, of) {
            return Distrust::ProbesDisagree { disagree, of };
        }
        Distrust::None
    }
}

/// Greens of a running rollout are that rollout's to judge.
fn is_green(fleet: &FleetState, instance: &Instance) -> bool {
    let of = match &instance.purpose {
        Purpose::Rollout(of) => of,
        Purpose::Repair(_) | Purpose::Scale => return false,
    };
    fleet.running().is_some_and(|rollout| rollout.id == *of)
}

/// What an agent and the coordinator's own probe say, where both are fresh and clear.
fn opinions(input: &PlanInput<'_>, seen: &InstanceObserved) -> Option<(bool, bool)> {
    let stale_after = input.observed.report_interval * FRESH_INTERVALS;
    let agent = seen
        .agent
        .as_ref()
        .filter(|agent| agent.age <= stale_after)?;
    let probe = seen
        .probe
        .filter(|probe| probe.age <= stale_after.max(PROBE_FRESH))?;
    match agent.report.health {
        Health::Healthy => Some((true, probe.passing)),
        Health::Unhealthy => Some((false, probe.passing)),
        Health::Unknown => None,
    }
}

/// The most sessions that ended within [`AT_ONCE`] of each other.
fn most_together(ended: &mut [Duration]) -> usize {
    ended.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, ago) in ended.iter().enumerate() {
        while ended
            .get(first)
            .is_some_and(|begin| *ago > *begin + AT_ONCE)
        {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}
