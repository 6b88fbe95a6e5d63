//! Repairs: what is lost by two sources goes at once and is made again; what is only silent, gone
//! unmanaged or ordered away is made again first, and leaves when its replacement serves.

use std::{collections::BTreeSet, time::Duration};

use calvin_model::{CatalogueRole, DrainReason, InstanceId, fleet::FleetKind};

use super::exclusive::is_exclusive;
use crate::{
    invariant::InvariantId,
    judge::{ListTrust, Loss},
    moment::Moment,
    observed::MachineState,
    pass::Pass,
    phase::Phase,
    plan::{DeleteBasis, EventKind},
    report::InstanceClass,
    state::{Build, FleetState, Instance, Life, Owed, Purpose, WaveOrder},
};

/// How often the deadline of instances that never become healthy doubles at most.
const GIVEN_UP_DOUBLINGS: u32 = 6;
/// The longest that such a deadline becomes. A join token lives for an hour, and a machine that has
/// not enrolled by then never will.
const GIVEN_UP_LONGEST: Duration = Duration::from_secs(45 * 60);

/// What a person can do for an instance of an exclusive fleet that cannot be reached.
pub(super) const POWER_OFF: &str = "bring its agent back, or power its machine off";

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    if pass.holds_all("nothing is repaired") {
        return;
    }
    let idle = pass.state().not_to_serve();
    doubt_a_short_list(pass);
    make_what_is_owed(pass);
    look_for_losses(pass, &idle);
    give_up_never_healthy(pass, &idle);
    replace_marked(pass, &idle);
}

fn select(pass: &Pass<'_>, wanted: impl Fn(&InstanceId, &Instance) -> bool) -> Vec<InstanceId> {
    let instances = &pass.state().instances;
    let chosen = instances
        .iter()
        .filter(|(id, instance)| wanted(id, instance));
    chosen.map(|(id, _)| id.clone()).collect()
}

/// Says so where the provider lacks most machines: none of them is replaced for that.
fn doubt_a_short_list(pass: &mut Pass<'_>) {
    let ListTrust::Doubted { lacks, of } = pass.list else {
        return;
    };
    let absent = select(pass, |id, instance| {
        let machine = pass.seen(id).and_then(|seen| seen.machine);
        instance.life == Life::Up && machine.is_some_and(|it| it.state == MachineState::Absent)
    });
    let Some(first) = absent.first() else {
        return;
    };
    let what = format!("{first} is not taken for lost: its provider lists too little");
    let fact = format!("{lacks} of {of} machines that were up are not in its list");
    pass.hold(InvariantId::ShortListNeedsWitnesses, what, fact);
}

fn look_for_losses(pass: &mut Pass<'_>, idle: &BTreeSet<InstanceId>) {
    let suspects = select(pass, |id, instance| {
        instance.life == Life::Up
            && instance.protected.is_none()
            && (pass.judged(id).loss != Loss::None || instance.replace == Some(DeleteBasis::Lost))
    });
    for id in suspects {
        let judgement = pass.judged(&id);
        let silent = format!("silent for {:.0} s", judgement.silent_for.as_secs_f64());
        match judgement.loss {
            // Another comes first: what is left of a quorum must be enough without it.
            Loss::TwoSources if pass.state().spec.kind == FleetKind::Quorum => {
                let why = format!("{silent}, and its provider says that it is gone");
                mark(pass, &id, Some(DeleteBasis::Lost), &why);
            }
            Loss::TwoSources => {
                let why = format!("{silent}, and its provider says that it is gone");
                let text = format!("{id} is lost: {why}");
                pass.event(Some(&id), EventKind::InstanceFailed, text);
                pass.retire(&id, DeleteBasis::Lost, &why);
                if !idle.contains(&id) {
                    repair(pass, &id, &why);
                }
            }
            Loss::Silence | Loss::SilenceWithoutWitnesses
                if is_exclusive(pass) && pass.instance(&id).is_some_and(Instance::may_work) =>
            {
                pass.hold(
                    InvariantId::ExclusiveNeverTwice,
                    format!("{id} is not replaced, it may still be at work: {POWER_OFF}"),
                    silent,
                );
            }
            Loss::Silence => mark(pass, &id, Some(DeleteBasis::Lost), &silent),
            Loss::SilenceWithoutWitnesses => pass.hold(
                InvariantId::SilenceAloneNeedsWitnesses,
                format!("{id} is not replaced"),
                format!("{silent}, but so are most others: the fault is probably on the way"),
            ),
            Loss::None => mark(pass, &id, None, "it answers again"),
        }
    }
}

/// Wants an instance replaced, or no longer.
pub(super) fn mark(pass: &mut Pass<'_>, id: &InstanceId, basis: Option<DeleteBasis>, why: &str) {
    let Some(instance) = pass.instance(id) else {
        return;
    };
    if instance.replace == basis || instance.replace == Some(DeleteBasis::Ordered) {
        return;
    }
    let text = basis.as_ref().map_or_else(
        || format!("{id} is kept after all: {why}"),
        |basis| format!("{id} is to be replaced ({basis}): {why}"),
    );
    pass.event(Some(id), EventKind::InstanceFailed, text);
    if let Some(instance) = pass.change().instances.get_mut(id) {
        instance.replace = basis;
    }
}

/// An instance that was made outside of a wave and does not become healthy is made again. That
/// its deadline passes first keeps a broken image from making machines in a loop, and that the
/// deadline doubles each time keeps what is broken for all (a server that every workload needs)
/// from making many.
fn give_up_never_healthy(pass: &mut Pass<'_>, idle: &BTreeSet<InstanceId>) {
    let late = select(pass, |id, instance| {
        !instance.proven
            && !instance.leaving()
            && instance.protected.is_none()
            && !idle.contains(id)
            && healthy_by(pass, instance).reached(pass.now)
            && !pass.judged(id).serves()
    });
    if late.is_empty() {
        return;
    }
    // However many are late together, it is one attempt that failed.
    let state = pass.change();
    state.given_up_in_a_row = state.given_up_in_a_row.saturating_add(1);
    for id in late {
        let why = "not healthy within healthy_deadline";
        if pass.must_stay(&id, why) {
            continue;
        }
        pass.event(Some(&id), EventKind::InstanceFailed, format!("{id}: {why}"));
        pass.retire(&id, DeleteBasis::NeverHealthy, why);
        repair(pass, &id, why);
    }
}

/// Whether instances that were made outside of a wave are still to become healthy.
pub(super) fn some_unproven(pass: &Pass<'_>) -> bool {
    let idle = pass.state().not_to_serve();
    let mut instances = pass.state().instances.iter();
    instances.any(|(id, one)| !one.proven && !one.leaving() && !idle.contains(id))
}

/// When an instance that was made outside of a wave is given up, unless it becomes healthy.
pub(super) fn healthy_by(pass: &Pass<'_>, instance: &Instance) -> Moment {
    let state = pass.state();
    let doublings = state.given_up_in_a_row.min(GIVEN_UP_DOUBLINGS);
    let deadline = state.spec.replace.healthy_deadline.0;
    let longest = GIVEN_UP_LONGEST.max(deadline);
    let doubled = deadline.saturating_mul(1 << doublings);
    instance.created.after(doubled.min(longest))
}

/// Makes an instance in the place of another. While a rollout runs, of the same build: the rollout
/// decides when builds change. Where a budget or the room does not allow it now, it is owed.
fn repair(pass: &mut Pass<'_>, old: &InstanceId, why: &str) {
    if enough(pass) || stands_in(pass, old) {
        return;
    }
    let Some(instance) = pass.instance(old) else {
        return;
    };
    let owed = Owed {
        build: instance.build.clone(),
        zone: instance.zone.clone(),
    };
    let leaves = instance.leaving();
    if make_instead(pass, old, owed.build.clone(), why) == Made::NotYet && leaves {
        pass.change().owed.insert(old.clone(), owed);
    }
}

/// Whether an instance was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Now,
    NotYet,
}

fn make_instead(pass: &mut Pass<'_>, old: &InstanceId, build: Build, why: &str) -> Made {
    let running = pass.running().is_some();
    let serving = pass.state().serving.clone().filter(|_| !running);
    let Some(build) = pass.may_make(&serving.unwrap_or(build)) else {
        return Made::NotYet;
    };
    let made = pass.create(
        build,
        Purpose::Repair(old.clone()),
        &format!("in the place of {old}: {why}"),
    );
    let Some(made) = made else {
        return Made::NotYet;
    };
    // Before the switch it is one of those that the wave replaces, as the lost one was.
    if pass.state().switched() || pass.running().is_none() {
        return Made::Now;
    }
    if let Some(rollout) = &mut pass.change().rollout {
        for blue in &mut rollout.sets.blue {
            if blue == old {
                *blue = made.clone();
            }
        }
    }
    Made::Now
}

/// Makes what could not be made when it was lost, unless the fleet has enough without it by now.
fn make_what_is_owed(pass: &mut Pass<'_>) {
    for (old, owed) in pass.state().owed.clone() {
        let done = enough(pass)
            || make_instead(pass, &old, owed.build, "it could not be made before") == Made::Now;
        if !done {
            return;
        }
        pass.change().owed.remove(&old);
    }
}

fn replace_marked(pass: &mut Pass<'_>, idle: &BTreeSet<InstanceId>) {
    let marked = select(pass, |id, instance| {
        instance.replace.is_some() && !instance.leaving() && !idle.contains(id)
    });
    // A rollout replaces what it finds; what it leaves is replaced after it.
    if let Some((rollout, started)) = pass.running().map(|it| (it.id.clone(), it.started)) {
        let since = pass.now.since(started);
        for old in marked {
            if lost_voter(pass, &old) {
                replace_one(pass, &old);
                continue;
            }
            pass.wait(
                format!("{rollout} to end: then {old} is replaced"),
                since,
                None,
            );
        }
        return;
    }
    for old in marked {
        replace_one(pass, &old);
    }
}

/// Whether a lost member keeps a rollout of its quorum from going on: the others must be healthy for
/// that, so it is replaced meanwhile. One that the wave replaces anyway is not.
fn lost_voter(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let quorum = pass.state().spec.kind == FleetKind::Quorum;
    let lost = pass.judged(id).loss == Loss::TwoSources;
    let blue = pass.running().map(|rollout| &rollout.sets.blue);
    quorum && lost && !blue.is_some_and(|blue| blue.contains(id))
}

fn replace_one(pass: &mut Pass<'_>, old: &InstanceId) {
    let replacement = pass
        .state()
        .instances
        .iter()
        .find(|(_, made)| !made.leaving() && made.purpose == Purpose::Repair(old.clone()))
        .map(|(id, _)| id.clone());
    match replacement {
        None if enough(pass) => go_without(pass, old),
        None => repair(pass, old, "it is to be replaced"),
        Some(new) if serves(pass, &new) => {
            go(pass, old, &format!("{new} serves in its place"));
        }
        Some(new) => {
            let since = pass.instance(&new).map_or(pass.now, |new| new.created);
            let what = format!("{new} to serve in the place of {old}");
            pass.wait(what, pass.now.since(since), None);
        }
    }
}

/// Whether a fleet has its count without those that are to be replaced; while a rollout runs,
/// without those of its sets that do not serve. What left to make room is not missing.
pub(super) fn enough(pass: &Pass<'_>) -> bool {
    let state = pass.state();
    let (kept, count) = match state.running() {
        None => (state.kept(), state.spec.count),
        Some(rollout) => {
            let idle = state.not_to_serve();
            let staying = state.instances.iter();
            let voter = state.spec.kind == FleetKind::Quorum;
            let staying = staying.filter(|(id, one)| {
                let counts = !voter || one.replace.is_none();
                !one.leaving() && !idle.contains(*id) && counts
            });
            (staying.count() + left_to_make_room(state), rollout.count)
        }
    };
    kept >= usize::try_from(count).unwrap_or(usize::MAX)
}

/// How many left to make room for greens that do not serve yet.
fn left_to_make_room(state: &FleetState) -> usize {
    let Some(rollout) = state.running() else {
        return 0;
    };
    let goes_back = rollout.phase == Phase::RollingBack;
    if rollout.sets.order != WaveOrder::RoomFirst || goes_back || state.switched() {
        return 0;
    }
    let left = rollout.sets.blue.iter().filter(|id| {
        let found = state.instances.get(*id);
        found.is_none_or(Instance::leaving)
    });
    left.count()
}

/// Whether an instance was made for one that still waits for its replacement, and gets another.
fn stands_in(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let Some(Purpose::Repair(first)) = pass.instance(id).map(|found| &found.purpose) else {
        return false;
    };
    let first = pass.instance(first);
    first.is_some_and(|first| !first.leaving() && first.replace.is_some())
}

fn serves(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let active = pass
        .instance(id)
        .is_some_and(|instance| instance.catalogue == CatalogueRole::Active);
    active && pass.read_back(id) && pass.judged(id).healthy_in_role()
}

/// Lets an instance leave that the fleet has too many of, once as many serve as are wanted.
fn go_without(pass: &mut Pass<'_>, old: &InstanceId) {
    let count = usize::try_from(pass.state().spec.count).unwrap_or(usize::MAX);
    if pass.serving() >= count {
        go(pass, old, "the fleet has enough without it");
        return;
    }
    let since = pass.instance(old).map_or(pass.now, |old| old.since);
    let what = format!("{count} to serve: then {old} leaves");
    pass.wait(what, pass.now.since(since), None);
}

/// Lets the replaced one leave, if what speaks against it still does, and nobody misses it.
fn go(pass: &mut Pass<'_>, old: &InstanceId, why: &str) {
    let Some(basis) = pass.instance(old).and_then(|old| old.replace.clone()) else {
        return;
    };
    if missed(pass, old) || !pass.may_delete(pass.draining()) {
        return;
    }
    let judgement = pass.judged(old);
    match basis {
        DeleteBasis::Lost
            if judgement.loss == Loss::Silence || judgement.loss == Loss::TwoSources =>
        {
            if !pass.must_stay(old, why) {
                pass.retire(old, DeleteBasis::Lost, why);
            }
        }
        DeleteBasis::Unmanaged if judgement.class == InstanceClass::Unmanaged => {
            pass.leave(old, DrainReason::Repaired, why);
        }
        DeleteBasis::Ordered => pass.leave(old, DrainReason::Repaired, why),
        DeleteBasis::Lost
        | DeleteBasis::Unmanaged
        | DeleteBasis::Replaced
        | DeleteBasis::RolledBack
        | DeleteBasis::ScaledDown
        | DeleteBasis::FleetDeleted
        | DeleteBasis::NeverHealthy => {}
    }
}

/// Whether an instance serves and no more than the wanted number do.
fn missed(pass: &mut Pass<'_>, old: &InstanceId) -> bool {
    let state = pass.state();
    let count = usize::try_from(state.spec.count).unwrap_or(usize::MAX);
    let serving = pass.serving();
    let serves = pass
        .instance(old)
        .is_some_and(|found| pass.counts_as_serving(old, found));
    if serves && serving <= count {
        pass.hold(
            InvariantId::ServingCapacityNeverBelowMinimum,
            format!("{old} is replaced and stays"),
            format!("only {serving} are known to serve, {count} are wanted"),
        );
    }
    serves && serving <= count
}
