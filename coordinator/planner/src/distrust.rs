//! Whether the coordinator has reasons to distrust its own eyes. Many machines seldom do the same at
//! the same moment; the one who watches them all may well be what has changed. It ends when the world
//! agrees again. A run that has heard of nobody yet has nothing to compare, and cries nothing.

use std::time::Duration;

use calvin_model::{Health, InstanceId, Mutant};

use crate::{
    judge::{Distrust, FRESH_INTERVALS, GOSSIP_FRESH, PROBE_FRESH},
    observed::{AgentObserved, CatalogueObserved, InstanceObserved, SessionObserved},
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
    /// What agents and the coordinator's own probes say, and agents and the catalogue's checks.
    probes: Opinions,
    checks: Opinions,
}

impl Doubts {
    /// Counts what is seen of an instance.
    pub(crate) fn count(
        &mut self,
        input: &PlanInput<'_>,
        fleet: &FleetState,
        id: &InstanceId,
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
        let Some(agent) = agent(input, seen) else {
            return;
        };
        if let Some(probe) = probe(input, seen) {
            self.probes.count(agent, probe);
        }
        let catalogue = input.observed.catalogue.get(&fleet.spec.name);
        if let Some(check) = catalogue.and_then(|it| check(input, it, id)) {
            self.checks.count(agent, check);
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
        if let Some((disagree, of)) = self.probes.most_disagree() {
            return Distrust::ProbesDisagree { disagree, of };
        }
        if let Some((disagree, of)) = self.checks.most_disagree() {
            return Distrust::CatalogueDisagrees { disagree, of };
        }
        Distrust::None
    }
}

/// What agents say beside what another source says of them.
#[derive(Debug, Default)]
struct Opinions {
    agree: usize,
    agent_only: usize,
    other_only: usize,
}

impl Opinions {
    fn count(&mut self, agent: bool, other: bool) {
        match (agent, other) {
            (true, true) | (false, false) => self.agree += 1,
            (true, false) => self.agent_only += 1,
            (false, true) => self.other_only += 1,
        }
    }

    /// How many disagree in the same way, of how many, where that is too many to be true.
    fn most_disagree(&self) -> Option<(usize, usize)> {
        let disagree = self.agent_only.max(self.other_only);
        let of = self.agree + self.agent_only + self.other_only;
        most_at_once(disagree, of).then_some((disagree, of))
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

fn stale_after(input: &PlanInput<'_>) -> Duration {
    input.observed.report_interval * FRESH_INTERVALS
}

/// What an agent says of its workload, while that is fresh and clear.
fn agent(input: &PlanInput<'_>, seen: &InstanceObserved) -> Option<bool> {
    let fresh = |agent: &&AgentObserved| agent.age <= stale_after(input);
    match seen.agent.as_ref().filter(fresh)?.report.health {
        Health::Healthy => Some(true),
        Health::Unhealthy => Some(false),
        Health::Unknown => None,
    }
}

/// What the coordinator's own probe says, while that is fresh.
fn probe(input: &PlanInput<'_>, seen: &InstanceObserved) -> Option<bool> {
    let fresh = stale_after(input).max(PROBE_FRESH);
    let probe = seen.probe.filter(|probe| probe.age <= fresh)?;
    Some(probe.passing)
}

/// What the catalogue's own checks say, while that is fresh. It comes with what gossip says.
fn check(input: &PlanInput<'_>, catalogue: &CatalogueObserved, id: &InstanceId) -> Option<bool> {
    let fresh = stale_after(input).max(GOSSIP_FRESH);
    let check = catalogue.checks.get(id)?;
    (check.age <= fresh).then_some(check.passing)
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
