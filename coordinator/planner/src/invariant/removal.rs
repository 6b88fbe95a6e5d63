//! Rules about what is taken away: on which basis, on whose word, and how many at a time.

use calvin_model::{CatalogueRole, InstanceId, Role, fleet::OnDrainTimeout};

use super::{
    InvariantId,
    repair::long_unhealthy,
    view::{Found, View, retires},
};
use crate::{
    judge::Loss,
    phase::Phase,
    plan::{Action, DeleteBasis},
    report::InstanceClass,
    state::{Instance, Life, Purpose},
    sums::unmanaged_limit,
};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    delete_only_what_is_committed(view, found);
    for (id, old, new) in view.changed() {
        if retires(old, new) {
            retire_only_with_two_sources_or_order(view, id, old, new, found);
            policy_holds(view, id, old, found);
        }
        if old.replace != new.replace {
            marked_only_when_known(view, id, new, found);
        }
    }
    unmanaged_one_at_a_time(view, found);
}

fn delete_only_what_is_committed(view: &View<'_>, found: &mut Found) {
    for action in &view.plan.actions {
        let (instance, basis) = match action {
            Action::DeleteMachine {
                instance, basis, ..
            } => (instance, basis),
            Action::CreateMachine { .. }
            | Action::SetWanted { .. }
            | Action::SetRoles { .. }
            | Action::RevokeIdentity { .. } => continue,
        };
        if view.seen(instance).is_some_and(|seen| seen.doubled) {
            found.push((
                InvariantId::OneMachinePerIntent,
                format!("{instance} is deleted, and more than one machine carries its tag"),
            ));
        }
        let committed = view.before.instances.get(instance);
        let retiring = |found: &Instance| found.life == Life::Retiring(basis.clone());
        if !committed.is_some_and(retiring) {
            found.push((
                InvariantId::NoDeleteWithoutTwoSourcesOrOrder,
                format!("{instance} is deleted ({basis}) without a committed basis"),
            ));
        }
    }
}

fn retire_only_with_two_sources_or_order(
    view: &View<'_>,
    id: &InstanceId,
    old: &Instance,
    new: &Instance,
    found: &mut Found,
) {
    let Life::Retiring(basis) = &new.life else {
        return;
    };
    let loss = view.judged(id).loss;
    let drained = matches!(old.life, Life::Draining(_) | Life::Making);
    if loss == Loss::TwoSources {
        return;
    }
    let right = match basis {
        DeleteBasis::Lost => loss == Loss::Silence && not_missed(view, id),
        DeleteBasis::Unmanaged | DeleteBasis::Unhealthy => {
            drained && old.replace.as_ref() == Some(basis)
        }
        DeleteBasis::Ordered => drained && old.replace == Some(DeleteBasis::Ordered),
        DeleteBasis::NeverHealthy => !old.proven,
        DeleteBasis::ZoneLost => false,
        DeleteBasis::FleetDeleted => {
            drained && view.before.deleting || view.after.is_some_and(|after| after.deleting)
        }
        DeleteBasis::Replaced | DeleteBasis::RolledBack | DeleteBasis::ScaledDown => drained,
    };
    if !right && *basis == DeleteBasis::Lost && view.only_a_short_list_lacks(id) {
        found.push((
            InvariantId::ShortListNeedsWitnesses,
            format!("{id} is removed because a list lacks it that lacks most"),
        ));
    } else if !right {
        found.push((
            InvariantId::NoDeleteWithoutTwoSourcesOrOrder,
            format!("{id} is removed ({basis}) from {}, loss {loss:?}", old.life),
        ));
    }
}

/// Whether another serves in the place of an instance, or enough do without it.
pub(super) fn not_missed(view: &View<'_>, id: &InstanceId) -> bool {
    let count = usize::try_from(view.before.spec.count).unwrap_or(usize::MAX);
    let replaced = view.before.instances.iter().any(|(new, instance)| {
        instance.purpose == Purpose::Repair(id.clone())
            && instance.catalogue == CatalogueRole::Active
            && view.judged(new).healthy_in_role()
    });
    replaced || view.after.is_some_and(|after| view.serving(after) >= count)
}

/// Where a person is to decide on what is not drained, nobody else does.
fn policy_holds(view: &View<'_>, id: &InstanceId, old: &Instance, found: &mut Found) {
    let judgement = view.judged(id);
    let draining = matches!(old.life, Life::Draining(_)) && old.wanted.role == Role::Draining;
    if !draining || view.before.spec.drain.on_timeout != OnDrainTimeout::Hold {
        return;
    }
    let agent = view.seen(id).and_then(|seen| seen.agent.as_ref());
    let progress = agent.and_then(|agent| agent.report.drain);
    let done = judgement.in_role && progress.is_some_and(|progress| progress.done);
    let silent_after = view.before.spec.repair.silent_after.0;
    let can_answer = judgement.silent_for <= silent_after && judgement.loss != Loss::TwoSources;
    if can_answer && !done {
        found.push((
            InvariantId::PolicyHolds,
            format!("{id} is removed and has not finished"),
        ));
    }
}

fn marked_only_when_known(view: &View<'_>, id: &InstanceId, new: &Instance, found: &mut Found) {
    let judgement = view.judged(id);
    match new.replace {
        Some(DeleteBasis::Lost)
            if judgement.loss != Loss::Silence && judgement.loss != Loss::TwoSources =>
        {
            found.push((
                InvariantId::SilenceAloneNeedsWitnesses,
                format!("{id} is to be replaced, loss {:?}", judgement.loss),
            ))
        }
        Some(DeleteBasis::Unmanaged) if judgement.class != InstanceClass::Unmanaged => {
            found.push((
                InvariantId::UnknownNeverKills,
                format!("{id} is to be replaced and is {:?}", judgement.class),
            ));
        }
        Some(DeleteBasis::Unhealthy) if !long_unhealthy(view, id) => {
            found.push((
                InvariantId::UnknownNeverKills,
                format!("{id} is to be replaced and is {:?}", judgement.class),
            ));
        }
        Some(
            DeleteBasis::Lost
            | DeleteBasis::Unmanaged
            | DeleteBasis::Unhealthy
            | DeleteBasis::ZoneLost
            | DeleteBasis::Replaced
            | DeleteBasis::RolledBack
            | DeleteBasis::ScaledDown
            | DeleteBasis::FleetDeleted
            | DeleteBasis::Ordered
            | DeleteBasis::NeverHealthy,
        )
        | None => {}
    }
}

fn unmanaged_one_at_a_time(view: &View<'_>, found: &mut Found) {
    let Some(after) = view.after else {
        return;
    };
    let marked = |instance: &&Instance| instance.replace == Some(DeleteBasis::Unmanaged);
    let was = view.before.instances.values().filter(marked).count();
    let is = after.instances.values().filter(marked).count();
    if is <= was {
        return;
    }
    let staying = || after.instances.iter().filter(|(_, one)| !one.leaving());
    let unmanaged = staying()
        .filter(|(id, _)| view.judged(id).class == InstanceClass::Unmanaged)
        .count();
    let limit = unmanaged_limit(staying().count());
    if is > 1 || unmanaged > limit {
        found.push((
            InvariantId::UnmanagedOneAtATime,
            format!("{is} are replaced while {unmanaged} are unmanaged, limit {limit}"),
        ));
    }
}

/// Blue's machines are there until green has baked; what else leaves a wave's blue is lost, or was
/// never made.
pub(super) fn blue_stays(view: &View<'_>, found: &mut Found) {
    let Some(rollout) = view.before.running() else {
        return;
    };
    // Once it has ended, the rules of scaling hold, or those of the next one.
    let goes_on = view.after.is_some_and(|after| {
        let running = after.running();
        !after.deleting && running.is_some_and(|running| running.id == rollout.id)
    });
    if !goes_on {
        return;
    }
    let may_leave = match rollout.phase {
        Phase::MakingRoom
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring => true,
        Phase::Provisioning
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    };
    for (id, old, new) in view.changed() {
        let leaves = !old.leaving() && new.leaving();
        let known_gone = view.judged(id).loss != Loss::None || !old.proven;
        let ordered = old.replace.is_some();
        if leaves && !may_leave && !known_gone && !ordered && rollout.sets.blue.contains(id) {
            found.push((
                InvariantId::BlueStaysUntilGreenIsProven,
                format!("{id} leaves in {}", rollout.phase),
            ));
        }
    }
}
