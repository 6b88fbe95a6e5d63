//! Keeps the count: makes what is missing, lets go what is too many. Waits while a rollout runs.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use calvin_model::{CatalogueRole, DrainReason, InstanceId, Mutant, ZoneName};

use crate::{
    invariant::InvariantId,
    ledger::Claim,
    pass::Pass,
    phase::Phase,
    spread::{Candidate, Place, Spread, take_evenly},
    state::{Build, Instance, Purpose},
    step::repair::no_room_at_all,
};

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
        make_room(pass);
        return;
    }
    let Some(serving) = state.serving.clone() else {
        return;
    };
    if pass.holds_others("the count is not kept") {
        return;
    }
    let overlooked = usize::from(Mutant::MakeMoreThanWanted.lives());
    let kept = pass.state().kept().saturating_sub(overlooked);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if kept < count {
        grow(pass, &serving, kept, count);
    }
    if kept > count {
        let_go(pass, kept - count, count);
    }
}

/// Lets what is too many leave for a rollout that waits to begin a wave and has no room for it: else the
/// surplus waits for the rollout, and the rollout for its room.
fn make_room(pass: &mut Pass<'_>) {
    let count = pass.state().spec.count;
    let waits = pass.running().filter(|rollout| {
        let first = rollout.from.is_none();
        rollout.phase == Phase::Provisioning && !rollout.sets.begun() && !first
    });
    let Some(count) = waits.map(|rollout| rollout.count.max(count)) else {
        return;
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let surplus = pass.state().kept().saturating_sub(count);
    if surplus > 0 && no_room_at_all(pass) && !pass.holds_others("what is too many stays") {
        let_go(pass, surplus, count);
    }
}

/// Makes what is missing, evenly over the zones.
fn grow(pass: &mut Pass<'_>, serving: &Build, kept: usize, count: usize) {
    if let Some(what) = pass.ledger.waits_for(pass.state()) {
        let what = format!("{} more are made after {what}", count - kept);
        pass.wait(what, Duration::ZERO, None);
        return;
    }
    let Some(build) = pass.may_make(serving) else {
        return;
    };
    let mut spread = Spread::of(pass.state(), pass.environment, |_| true);
    let places: Vec<Place> = (kept..count).map(|_| spread.next()).collect();
    let why = format!("the fleet has {kept} of {count}");
    for place in places {
        pass.create_at(build.clone(), Purpose::Scale, &why, Claim::New, place);
    }
}

/// Lets the surplus leave, what serves least first and evenly from the zones; what serves goes only
/// while enough others do, and no more than may be deleted.
fn let_go(pass: &mut Pass<'_>, surplus: usize, count: usize) {
    let state = pass.state();
    let staying = state.instances.iter();
    let mut ranked: Vec<(u8, Reverse<u64>, InstanceId)> = staying
        .filter(|(_, instance)| !instance.leaving() && instance.replace.is_none())
        .filter(|(_, instance)| instance.protected.is_none())
        .map(|(id, one)| (rank(pass, id, one), Reverse(one.created.ms), id.clone()))
        .collect();
    ranked.sort();
    let mut there: BTreeMap<Option<ZoneName>, usize> = BTreeMap::new();
    let mut candidates = Vec::new();
    for (rank, _, id) in ranked {
        let zone = state.instances.get(&id).and_then(|one| one.zone.clone());
        *there.entry(zone.clone()).or_default() += 1;
        candidates.push(Candidate { id, rank, zone });
    }
    if candidates.len() < surplus {
        let may = candidates.len();
        let what = format!("{surplus} are too many, and only {may} may leave");
        let fact = "the others are protected".to_owned();
        pass.hold(InvariantId::ProtectedNeverTouched, what, fact);
    }
    let mut serving = pass.found_serving();
    let mut leaving = pass.draining();
    for id in take_evenly(candidates, there, surplus) {
        let counts = pass
            .instance(&id)
            .is_some_and(|found| pass.counts_as_serving(&id, found));
        // One of which nothing is known may be the last that answers: it stays until enough others do.
        let known_to_fail = pass.fails(&id);
        let found = pass
            .instance(&id)
            .is_some_and(|found| found.catalogue == CatalogueRole::Active);
        let unknown = !counts && found && !known_to_fail && serving < count;
        if unknown || counts && serving <= count {
            pass.hold(
                InvariantId::ServingCapacityNeverBelowMinimum,
                format!("{id} is too many and stays"),
                format!("only {serving} of {count} are known to serve and found"),
            );
            continue;
        }
        if !pass.may_delete(leaving) {
            continue;
        }
        serving = serving.saturating_sub(usize::from(counts));
        let why = format!("the fleet is to have {count}");
        pass.leave(&id, DrainReason::ScaledDown, &why);
        // One that was not up yet is being removed already, and counted.
        leaving += u32::from(pass.drains(&id));
    }
}

/// Orders what may leave: another image than serves, or is to, first, then what never was healthy, then what fails, and of
/// an exclusive fleet last the one at work.
fn rank(pass: &Pass<'_>, id: &InstanceId, instance: &Instance) -> u8 {
    let to_serve = pass.running().map(|rollout| &rollout.to);
    let serving = to_serve.or(pass.state().serving.as_ref());
    let current = Some(&instance.build.image) == serving.map(|build| &build.image);
    let works = !pass.judged(id).failing();
    u8::from(current) << 3
        | u8::from(instance.proven) << 2
        | u8::from(works) << 1
        | u8::from(instance.at_work)
}
