//! Rules about repairs: that what is unhealthy goes only when it may, and that the guards hold.

use std::collections::BTreeMap;

use calvin_model::InstanceId;

use super::{
    InvariantId,
    removal::not_missed,
    view::{Found, View},
};
use crate::{
    judge::{Distrust, ordered_in_silence},
    phase::Phase,
    plan::DeleteBasis,
    report::InstanceClass,
    state::{FleetState, Instance, Life, Purpose},
    sums::{hidden_limit, melts},
};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    unhealthy_leaves_only_when_it_may(view, found);
    meltdown_is_noticed(view, found);
    guards_hold(view, found);
}

/// Unhealthy for longer than `repair_after`, by its agent's own clock.
pub(super) fn long_unhealthy(view: &View<'_>, id: &InstanceId) -> bool {
    let after = view.before.spec.repair.repair_after.0;
    let judgement = view.judged(id);
    judgement.unhealthy_for.is_some_and(|long| long > after)
}

/// One that begins to leave because it is unhealthy is so now, and another serves in its place, or
/// as many serve without it as must.
fn unhealthy_leaves_only_when_it_may(view: &View<'_>, found: &mut Found) {
    for (id, old, new) in view.changed() {
        let leaves = !old.leaving() && new.leaving();
        if !leaves || !rests_on(new, &DeleteBasis::Unhealthy) {
            continue;
        }
        let unhealthy = view.judged(id).class == InstanceClass::Unhealthy;
        let marked = old.replace == Some(DeleteBasis::Unhealthy);
        let too_many = view.before.running().is_some() && is_surplus(view.before);
        let may = not_missed(view, id) || goes_unnoticed(view) || too_many;
        if !unhealthy || !marked || !may {
            found.push((
                InvariantId::NoDeleteWithoutTwoSourcesOrOrder,
                format!(
                    "{id} leaves as unhealthy and is {:?}",
                    view.judged(id).class
                ),
            ));
        }
    }
}

/// Whether a fleet has its count without those that are to be replaced.
fn is_surplus(state: &FleetState) -> bool {
    state.kept() >= usize::try_from(state.spec.count).unwrap_or(usize::MAX)
}

/// Whether the fleet has what it must have without those that fail, and clients do not find them.
fn goes_unnoticed(view: &View<'_>) -> bool {
    let least = usize::try_from(view.before.spec.min_serving()).unwrap_or(usize::MAX);
    let active = view.before.instances.iter();
    let active = active.filter(|(_, one)| one.catalogue == calvin_model::CatalogueRole::Active);
    let (all, failing) = active.fold((0, 0), |(all, failing), (id, _)| {
        (all + 1, failing + usize::from(view.fails(id)))
    });
    let serving = view.serving(view.before);
    serving >= least.max(1) && failing <= hidden_limit(all)
}

/// Whether an instance leaves, or is to, on this basis.
fn rests_on(instance: &Instance, basis: &DeleteBasis) -> bool {
    match &instance.life {
        Life::Retiring(found) => found == basis,
        Life::Draining(calvin_model::DrainReason::Repaired) => {
            instance.replace.as_ref() == Some(basis)
        }
        Life::Draining(_) | Life::Making | Life::Up => false,
    }
}

/// So many failures within the window are noticed as too many.
fn meltdown_is_noticed(view: &View<'_>, found: &mut Found) {
    let Some(after) = view.after.filter(|after| !after.deleting) else {
        return;
    };
    let (policy, count) = (after.spec.repair.meltdown, after.spec.count);
    let of = usize::try_from(count).unwrap_or(usize::MAX);
    let idle = view.before.not_to_serve();
    let fresh = view.before.instances.iter().filter(|(id, one)| {
        one.life == Life::Up
            && view.judged(id).failing()
            && !one.leaving()
            && !idle.contains(*id)
            && !of_running(view.before, id)
            && !view.input.environment.has_lost(one.zone.as_ref())
            && !view.before.failed.contains(*id)
            && !view.before.repairs.failures.contains_key(*id)
    });
    // What a rollout took up in this pass is that rollout's to judge.
    let idle_now = after.not_to_serve();
    let stays = |id: &InstanceId| {
        let found = after.instances.get(id);
        found.is_some_and(|one| !one.leaving()) && !idle_now.contains(id) && !of_running(after, id)
    };
    let fresh: BTreeMap<&InstanceId, &Instance> = fresh.filter(|(id, _)| stays(id)).collect();
    // One that fails beside the one that it was made for is the same place of the fleet.
    let place = |one: &&&Instance| match &one.purpose {
        Purpose::Repair(old) => !fresh.contains_key(old),
        Purpose::Rollout(_) | Purpose::Scale => true,
    };
    let fresh = fresh.values().filter(place).count();
    let off = after.repairs.guards_off(view.input.now);
    // More within this one pass than the whole window allows.
    if melts(fresh, of, policy.count, policy.percent) && !off && after.repairs.melted.is_none() {
        found.push((
            InvariantId::MeltdownHolds,
            format!("{fresh} of {count} begin to fail at once, and nothing is held for that"),
        ));
    }
}

/// While a guard holds, nothing is replaced or removed for loss or ill health.
fn guards_hold(view: &View<'_>, found: &mut Found) {
    let Some(after) = view.after.filter(|after| !after.deleting) else {
        return;
    };
    let off = after.repairs.guards_off(view.input.now);
    let rule = match (after.repairs.melted, view.distrust) {
        _ if off => return,
        (Some(_), _) => InvariantId::MeltdownHolds,
        (
            None,
            Distrust::SessionsEnded { .. }
            | Distrust::ProbesDisagree { .. }
            | Distrust::CatalogueDisagrees { .. },
        ) => InvariantId::DistrustHolds,
        (None, Distrust::None) => return,
    };
    for (id, old, new) in view.changed() {
        let held = [
            DeleteBasis::Lost,
            DeleteBasis::Unhealthy,
            DeleteBasis::Unmanaged,
            DeleteBasis::NeverHealthy,
        ];
        let ill = held.iter().any(|basis| rests_on(new, basis));
        let begins = !old.leaving() && new.leaving();
        // A person who orders it answers for it.
        let silent_for = view.judged(id).silent_for;
        let ordered = ordered_in_silence(old, silent_for, view.input.now);
        let judged = !of_running(view.before, id) && !view.only_a_short_list_lacks(id) && !ordered;
        if begins && ill && judged {
            found.push((rule, format!("{id} is removed: {}", new.life)));
        }
    }
    let going_back = |state: &FleetState| {
        let rollout = state.running();
        rollout.is_some_and(|rollout| rollout.phase == Phase::RollingBack)
    };
    if going_back(view.before) || going_back(after) {
        return;
    }
    for (id, made) in &after.instances {
        let Purpose::Repair(old) = &made.purpose else {
            continue;
        };
        let ordered = after.instances.get(old).is_some_and(|old| {
            matches!(
                old.replace,
                Some(DeleteBasis::Ordered | DeleteBasis::ZoneLost)
            )
        });
        if !view.before.instances.contains_key(id) && !ordered {
            found.push((rule, format!("{id} is made in the place of {old}")));
        }
    }
}

/// Whether an instance is a green of the running rollout, which judges it itself.
fn of_running(state: &FleetState, id: &InstanceId) -> bool {
    let running = state.running();
    running.is_some_and(|rollout| rollout.sets.green.contains(id))
}
