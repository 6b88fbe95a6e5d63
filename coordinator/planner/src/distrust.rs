//! Whether the coordinator has reasons to distrust its own eyes. Many machines seldom do the same at
//! the same moment; the one who watches them all may well be what has changed. It ends when the world
//! agrees again. A run that has heard of nobody yet has nothing to compare, and cries nothing.

use std::time::Duration;

use calvin_model::{Health, InstanceId, Mutant};

use crate::{
    judge::{Distrust, FRESH_INTERVALS, PROBE_FRESH},
    observed::{AgentObserved, CatalogueObserved, InstanceObserved, SessionObserved},
    plan::PlanInput,
    state::{FleetState, Instance, Life, Purpose},
    sums::most_at_once,
};

/// Sessions that end within so long of each other ended at once: five report intervals of 2 s, which
/// is how far apart the coordinator notices silences that began together.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What the coordinator distrusts, over all fleets.
pub(crate) fn distrust(input: &PlanInput<'_>) -> Distrust {
    let mut ended: Vec<Duration> = Vec::new();
    let mut heard = 0;
    let (mut probes, mut checks) = (Opinions::default(), Opinions::default());
    for (name, fleet) in input.fleets {
        let catalogue = input.observed.catalogue.get(name);
        for (id, instance) in &fleet.instances {
            let Some(seen) = input.observed.instances.get(id) else {
                continue;
            };
            // Nothing about a zone that a person says is lost is a surprise.
            if instance.life != Life::Up || input.environment.has_lost(instance.zone.as_ref()) {
                continue;
            }
            match seen.session {
                SessionObserved::Alive(_) => heard += 1,
                SessionObserved::Ended(ago) => {
                    heard += 1;
                    ended.push(ago);
                }
                SessionObserved::Never => {}
            }
            if !instance.proven || is_green(fleet, instance) {
                continue;
            }
            let Some(agent) = agent(input, seen) else {
                continue;
            };
            if let Some(probe) = probe(input, seen) {
                probes.count(agent, probe);
            }
            if let Some(check) = catalogue.and_then(|it| check(input, it, id)) {
                checks.count(agent, check);
            }
        }
    }
    let together = most_together(&mut ended);
    if most_at_once(together, heard) && !Mutant::NeedNoWitnesses.lives() {
        return Distrust::SessionsEnded {
            ended: together,
            of: heard,
        };
    }
    if let Some((disagree, of)) = probes.most_disagree() {
        return Distrust::ProbesDisagree { disagree, of };
    }
    if let Some((disagree, of)) = checks.most_disagree() {
        return Distrust::CatalogueDisagrees { disagree, of };
    }
    Distrust::None
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
    let running = fleet.running();
    running.is_some_and(|rollout| instance.purpose == Purpose::Rollout(rollout.id.clone()))
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

/// What the catalogue's own checks say, while that is fresh. It is read as often as probes are sent.
fn check(input: &PlanInput<'_>, catalogue: &CatalogueObserved, id: &InstanceId) -> Option<bool> {
    let fresh = stale_after(input).max(PROBE_FRESH);
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
