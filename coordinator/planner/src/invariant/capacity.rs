//! Rules about who serves: that somebody does, that nobody does unproven, and how much is hidden.

use std::collections::BTreeSet;

use calvin_model::{CatalogueRole, InstanceId, fleet::FleetKind};

use super::{
    InvariantId,
    view::{Found, View},
};
use crate::{
    observed::MachineState,
    phase::Phase,
    plan::{Action, Next},
    state::{FleetState, Instance, Life, Rollout},
    sums::hidden_limit,
};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    serving_capacity_never_below_minimum(view, found);
    unproven_never_serves(view, found);
    health_never_hides_most(view, found);
    unknown_never_hides(view, found);
    generation_never_goes_back(view, found);
    one_machine_per_intent(view, found);
}

fn serving_capacity_never_below_minimum(view: &View<'_>, found: &mut Found) {
    let Some(after) = view.after else {
        return;
    };
    if after.deleting {
        return;
    }
    let (was, is) = (view.serving(view.before), view.serving(after));
    let idle = view.before.running().is_none() && after.running().is_none();
    let count = usize::try_from(after.spec.count).unwrap_or(usize::MAX);
    let least = match (idle, after.spec.kind) {
        (true, _) => was.min(count),
        (false, FleetKind::Service) => was.min(after.must_serve()),
        // These have rules of their own.
        (false, FleetKind::Exclusive | FleetKind::Quorum) => was.min(1),
    };
    if is < least {
        found.push((
            InvariantId::ServingCapacityNeverBelowMinimum,
            format!("{was} served, {is} are to serve, at least {least} must"),
        ));
    }
}

fn unproven_never_serves(view: &View<'_>, found: &mut Found) {
    // One that another image is wanted instead of may give up going back in the same plan.
    let goes_back = |rollout: &&Rollout| {
        rollout.phase == Phase::RollingBack || rollout.phase == Phase::RolledBack
    };
    let after = view.after.and_then(|after| after.rollout.as_ref());
    let before = view.before.rollout.as_ref();
    let going_back = after.filter(goes_back).or(before.filter(goes_back));
    for (id, old, new) in view.changed() {
        let enters =
            old.catalogue < CatalogueRole::Entered && new.catalogue >= CatalogueRole::Entered;
        let restored = old.proven
            && !view.judged(id).failing()
            && going_back.is_some_and(|rollout| rollout.sets.blue.contains(id));
        if enters && !restored && !view.judged(id).healthy_in_role() {
            found.push((
                InvariantId::UnprovenNeverServes,
                format!("{id} enters and is {:?}", view.judged(id).class),
            ));
        }
    }
}

fn health_never_hides_most(view: &View<'_>, found: &mut Found) {
    let Some(after) = view.after else {
        return;
    };
    let is_active = |one: &&Instance| one.catalogue == CatalogueRole::Active;
    let active = after.instances.values().filter(is_active).count();
    let hidden = view.plan.hidden.iter();
    let hidden = hidden
        .filter_map(|id| after.instances.get(id))
        .filter(is_active);
    let hidden = hidden.count();
    if hidden > hidden_limit(active) {
        found.push((
            InvariantId::HealthNeverHidesMost,
            format!("{hidden} of {active} active entries are hidden"),
        ));
    }
}

fn unknown_never_hides(view: &View<'_>, found: &mut Found) {
    for id in &view.plan.hidden {
        let repairs = view.after.map(|after| &after.repairs);
        let flaps = repairs.is_some_and(|one| one.backs_off(id, view.judged(id)).is_some());
        if !view.fails(id) && !flaps {
            found.push((
                InvariantId::UnknownNeverKills,
                format!("{id} is hidden and is {:?}", view.judged(id).class),
            ));
        }
    }
}

fn generation_never_goes_back(view: &View<'_>, found: &mut Found) {
    for (id, old, new) in view.changed() {
        let (was, is) = (old.wanted.generation, new.wanted.generation);
        let changed = old.wanted.role != new.wanted.role || old.wanted.drain != new.wanted.drain;
        if is < was || (changed && is == was) {
            found.push((
                InvariantId::GenerationNeverGoesBack,
                format!("{id}: generation {was} -> {is}"),
            ));
        }
    }
}

fn one_machine_per_intent(view: &View<'_>, found: &mut Found) {
    let mut broken = |text: String| found.push((InvariantId::OneMachinePerIntent, text));
    let mut asked = BTreeSet::new();
    for action in &view.plan.actions {
        let instance = match action {
            Action::CreateMachine { instance, .. } => instance,
            Action::SetWanted { .. }
            | Action::SetRoles { .. }
            | Action::RevokeIdentity { .. }
            | Action::DeleteMachine { .. } => continue,
        };
        let intent = view.after.and_then(|after| after.instances.get(instance));
        if intent.is_none_or(|intent| intent.life != Life::Making) {
            broken(format!("{instance} is made without an intent"));
        }
        let machine = view.seen(instance).and_then(|seen| seen.machine);
        if machine.is_some_and(|machine| machine.state != MachineState::Absent) {
            broken(format!("{instance} is made and is there already"));
        }
        if !asked.insert(instance) {
            broken(format!("{instance} is made twice"));
        }
    }
    let Next::Change(after) = &view.plan.next else {
        return;
    };
    let greens = after
        .running()
        .into_iter()
        .flat_map(|rollout| &rollout.sets.green);
    let greens: BTreeSet<&InstanceId> = greens.collect();
    let beside = after
        .instances
        .keys()
        .filter(|id| !view.before.instances.contains_key(*id) && !greens.contains(id));
    if beside.count() == 0 {
        return;
    }
    let (was, is) = (beside_green(view.before), beside_green(after));
    let marked = after.instances.values();
    let marked = marked.filter(|instance| instance.replace.is_some()).count();
    let count = after.running().map_or(0, |rollout| rollout.count);
    let most = usize::try_from(after.spec.count.max(count)).unwrap_or(usize::MAX);
    if is > was.max(most.saturating_add(marked)) {
        broken(format!("{was} instances become {is}, {most} are wanted"));
    }
}

/// Instances that stay and are not greens of a running rollout, nor of one that failed, nor set aside
/// by a person.
fn beside_green(state: &FleetState) -> usize {
    let staying = state.instances.values();
    let staying = staying.filter(|one| !one.leaving() && !state.set_aside(one));
    let rollout = state
        .rollout
        .as_ref()
        .filter(|rollout| match rollout.phase {
            Phase::Done | Phase::RolledBack => false,
            Phase::Provisioning
            | Phase::MakingRoom
            | Phase::Soaking
            | Phase::AwaitingSwitch
            | Phase::Switching
            | Phase::Stopping
            | Phase::Settling
            | Phase::Baking
            | Phase::AwaitingRetire
            | Phase::Draining
            | Phase::Retiring
            | Phase::RollingBack
            | Phase::Failed => true,
        });
    let greens = rollout.map_or(0, |rollout| {
        let greens = rollout.sets.green.iter();
        let staying = greens.filter(|id| {
            let instance = state.instances.get(*id);
            instance.is_some_and(|instance| !instance.leaving())
        });
        staying.count()
    });
    staying.count() - greens
}
