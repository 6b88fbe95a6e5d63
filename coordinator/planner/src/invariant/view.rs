//! One fleet before and after a plan, as the rules look at it.

use calvin_model::{CatalogueRole, FleetName, InstanceId, fleet::FleetKind};

use super::InvariantId;
use crate::{
    by_id::{ById, with_seen},
    exclusive::stopped,
    judge::{Answering, Distrust, Judgement, ListTrust, judge},
    observed::{CatalogueObserved, InstanceObserved, MachineState},
    plan::{FleetPlan, Next, PlanInput},
    state::{FleetState, Instance, Life},
};

/// What a rule found: which, and how it is broken.
pub(super) type Found = Vec<(InvariantId, String)>;

/// One fleet before and after a plan.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) input: &'a PlanInput<'a>,
    pub(super) fleet: &'a FleetName,
    pub(super) before: &'a FleetState,
    /// `None` when the fleet's record is removed.
    pub(super) after: Option<&'a FleetState>,
    pub(super) plan: &'a FleetPlan,
    pub(super) catalogue: Option<&'a CatalogueObserved>,
    /// Agents that serve older names and are likely to come back.
    pub(super) returning: usize,
    list: ListTrust,
    pub(super) distrust: Distrust,
    known: ById<'a, (Judgement, Option<&'a InstanceObserved>)>,
    changed: Vec<(&'a InstanceId, &'a Instance, &'a Instance)>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        input: &'a PlanInput<'a>,
        fleet: &'a FleetName,
        before: &'a FleetState,
        plan: &'a FleetPlan,
        answering: Answering,
    ) -> Self {
        let silent_after = before.spec.repair.silent_after.0;
        let known = with_seen(before, input.observed).map(|(id, instance, seen)| {
            let judged = judge(
                instance,
                silent_after,
                seen,
                input.observed,
                answering,
                input.now,
            );
            (id, (judged, seen))
        });
        let after = match &plan.next {
            Next::Same => Some(before),
            Next::Change(after) => Some(&**after),
            Next::Remove => None,
        };
        Self {
            input,
            fleet,
            before,
            after,
            plan,
            catalogue: input.observed.catalogue.get(fleet),
            returning: answering.returning,
            list: answering.list,
            distrust: answering.distrust,
            known: ById::of(known),
            changed: after.map_or_else(Vec::new, |after| changed(before, after)),
        }
    }

    /// Whether an instance is known to fail, or was and nothing better is known since.
    pub(super) fn fails(&self, id: &InstanceId) -> bool {
        let judgement = self.judged(id);
        judgement.failing() || self.before.failed.contains(id) && !judgement.serves()
    }

    /// Whether all that speaks against an instance's machine is that a list lacks it that is not
    /// believed.
    pub(super) fn only_a_short_list_lacks(&self, id: &InstanceId) -> bool {
        let machine = self.seen(id).and_then(|seen| seen.machine);
        let absent = machine.is_some_and(|machine| machine.state == MachineState::Absent);
        absent && matches!(self.list, ListTrust::Doubted { .. })
    }

    pub(super) fn judged(&self, id: &InstanceId) -> Judgement {
        let known = self.known.get(id);
        known.map_or(Judgement::NOTHING, |(judged, _)| *judged)
    }

    pub(super) fn seen(&self, id: &InstanceId) -> Option<&'a InstanceObserved> {
        match self.known.get(id) {
            Some((_, seen)) => *seen,
            None => self.input.observed.instances.get(id),
        }
    }

    /// Whether the work of an instance of an exclusive fleet is known to have stopped: an entry that
    /// is left of it serves nobody.
    pub(super) fn has_stopped(&self, id: &InstanceId) -> bool {
        let before = self.before.instances.get(id);
        let proof =
            before.and_then(|one| stopped(one, self.seen(id), self.judged(id), self.input.now));
        proof.is_some() && self.before.spec.kind == FleetKind::Exclusive
    }

    /// Every instance that the plan changes, as it was and as it is to be.
    pub(super) fn changed(
        &self,
    ) -> impl Iterator<Item = (&'a InstanceId, &'a Instance, &'a Instance)> {
        self.changed.iter().copied()
    }

    /// Instances that are found as active and serve.
    pub(super) fn serving(&self, state: &FleetState) -> usize {
        state
            .instances
            .iter()
            .filter(|(id, instance)| {
                instance.catalogue == CatalogueRole::Active
                    && self.judged(id).serves()
                    && !self.has_stopped(id)
            })
            .count()
    }
}

/// Whether an instance begins to be removed.
pub(super) fn retires(old: &Instance, new: &Instance) -> bool {
    old.life != new.life && matches!(new.life, Life::Retiring(_))
}

fn changed<'a>(
    before: &'a FleetState,
    after: &'a FleetState,
) -> Vec<(&'a InstanceId, &'a Instance, &'a Instance)> {
    if std::ptr::eq(before, after) {
        return Vec::new();
    }
    let mut changed = Vec::new();
    for (id, new) in &after.instances {
        if let Some(old) = before.instances.get(id)
            && old != new
        {
            changed.push((id, old, new));
        }
    }
    changed
}
