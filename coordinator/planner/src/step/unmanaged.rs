//! Instances whose agent is gone while their workload answers: they serve, so there is no hurry.
//! After `unmanaged_after` each is replaced, one at a time, and never while many are unmanaged:
//! then something kills agents, and new ones would die as well.

use calvin_model::{InstanceId, Mutant};

use super::{
    exclusive::is_exclusive,
    repair::{POWER_OFF, mark},
};
use crate::{
    environment::FreezeScope,
    invariant::InvariantId,
    pass::Pass,
    plan::DeleteBasis,
    report::InstanceClass,
    state::{Instance, Life},
    sums::unmanaged_limit,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    take_back(pass);
    if pass.frozen_beside(FreezeScope::All).is_some() {
        return;
    }
    let unmanaged: Vec<InstanceId> = pass
        .state()
        .instances
        .iter()
        .filter(|(id, instance)| {
            instance.life == Life::Up && pass.judged(id).class == InstanceClass::Unmanaged
        })
        .map(|(id, _)| id.clone())
        .collect();
    let Some(oldest) = unmanaged
        .iter()
        .filter(|id| pass.protected(id).is_none())
        .max_by_key(|id| (pass.judged(id).silent_for, std::cmp::Reverse(*id)))
    else {
        return;
    };
    let staying = pass.state().instances.values();
    let staying = staying.filter(|instance| !instance.leaving()).count();
    let limit = unmanaged_limit(staying);
    let after = pass.state().spec.repair.unmanaged_after;
    let silent_for = pass.judged(oldest).silent_for;
    let fact = format!(
        "{} of {staying} have no agent and a workload that answers, the longest for {:.0} s",
        unmanaged.len(),
        silent_for.as_secs_f64()
    );
    let works = |id: &InstanceId| pass.instance(id).is_some_and(Instance::may_work);
    if is_exclusive(pass) && works(oldest) {
        let what = format!("{oldest} is not replaced, it may be at work: {POWER_OFF}");
        pass.hold(InvariantId::ExclusiveNeverTwice, what, fact);
        return;
    }
    if unmanaged.len() > limit && !Mutant::ReplaceManyUnmanaged.lives() {
        let what = format!("unmanaged instances are not replaced: more than {limit}");
        pass.hold(InvariantId::UnmanagedOneAtATime, what, fact);
        return;
    }
    if silent_for <= after.0 {
        let at = pass.now.after(after.0.saturating_sub(silent_for));
        pass.wait(fact, silent_for, Some((at, "the longest is replaced")));
        return;
    }
    if pass.running().is_some() {
        let what = format!("{oldest} is replaced after the rollout: {fact}");
        pass.wait(what, silent_for, None);
        return;
    }
    if pass.guarded(format!("{oldest} is not replaced")) {
        return;
    }
    let others = pass.state().instances.values();
    let busy = others.filter(|other| being_replaced(other)).count();
    if busy == 0 {
        let why = format!("its agent has been gone for more than unmanaged_after {after}");
        let oldest = oldest.clone();
        mark(pass, &oldest, Some(DeleteBasis::Unmanaged), &why);
    }
}

fn being_replaced(instance: &crate::state::Instance) -> bool {
    instance.replace == Some(DeleteBasis::Unmanaged)
}

/// An agent that came back needs no replacement.
fn take_back(pass: &mut Pass<'_>) {
    let back: Vec<InstanceId> = pass
        .state()
        .instances
        .iter()
        .filter(|(id, instance)| {
            being_replaced(instance) && !instance.leaving() && pass.judged(id).connected
        })
        .map(|(id, _)| id.clone())
        .collect();
    for id in back {
        mark(pass, &id, None, "its agent is back");
    }
}
