//! Keeps the count: makes what is missing, lets go what is too many. Waits while a rollout runs.

use calvin_model::{DrainReason, InstanceId, Mutant};

use crate::{invariant::InvariantId, pass::Pass, state::Purpose};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let state = pass.state();
    let count = state.spec.count;
    if state.deleting {
        return;
    }
    if let Some(rollout) = state.running() {
        if rollout.count != count {
            let what = format!(
                "a count of {count} instead of {}: it takes effect after {}",
                rollout.count, rollout.id
            );
            let since = pass.now.since(rollout.started);
            pass.wait(what, since, None);
        }
        return;
    }
    let Some(serving) = state.serving.clone() else {
        return;
    };
    let overlooked = usize::from(Mutant::MakeMoreThanWanted.lives());
    let kept = state.kept().saturating_sub(overlooked);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    for _ in kept..count {
        let why = format!("the fleet has {kept} of {count}");
        pass.create(serving.clone(), Purpose::Scale, &why);
    }
    if kept > count {
        let_go(pass, kept - count);
    }
}

/// Lets the surplus leave, what serves least first; what serves goes only while enough others do.
fn let_go(pass: &mut Pass<'_>, surplus: usize) {
    let state = pass.state();
    let count = usize::try_from(state.spec.count).unwrap_or(usize::MAX);
    let mut candidates: Vec<InstanceId> = state
        .instances
        .iter()
        .filter(|(_, instance)| !instance.leaving() && instance.replace.is_none())
        .map(|(id, _)| id.clone())
        .collect();
    candidates.sort_by_cached_key(|id| rank(pass, id));
    let mut serving = pass.serving();
    for id in candidates.into_iter().take(surplus) {
        let counts = pass
            .instance(&id)
            .is_some_and(|found| pass.counts_as_serving(&id, found));
        if counts && serving <= count {
            pass.hold(
                InvariantId::ServingCapacityNeverBelowMinimum,
                format!("{id} is too many and stays"),
                format!("only {serving} of {count} are known to serve"),
            );
            continue;
        }
        serving -= usize::from(counts);
        let why = format!("the fleet is to have {count}");
        pass.leave(&id, DrainReason::ScaledDown, &why);
    }
}

/// Orders what may leave: another image first, then what never was healthy, then what fails, then
/// the newest.
fn rank(pass: &Pass<'_>, id: &InstanceId) -> impl Ord + use<> {
    let state = pass.state();
    let serving = state.serving.as_ref().map(|build| &build.image);
    let instance = state.instances.get(id);
    let current = instance.is_some_and(|found| Some(&found.build.image) == serving);
    let proven = instance.is_some_and(|found| found.proven);
    let created = instance.map_or(0, |found| found.created.ms);
    (
        current,
        proven,
        !pass.judged(id).failing(),
        std::cmp::Reverse(created),
        id.clone(),
    )
}
