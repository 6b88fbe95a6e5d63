//! Repairs: what is lost by two sources goes at once and is made again; what is only silent, gone
//! unmanaged or ordered away is made again first, and leaves when its replacement serves.

mod replace;
mod room;

use std::{collections::BTreeSet, time::Duration};

use calvin_model::{InstanceId, fleet::FleetKind};

use self::replace::replace_marked;
pub(super) use self::room::{makes_no_room, no_room, no_room_at_all};
use super::exclusive::is_exclusive;
use super::{meltdown::note, veto::blame};
use crate::{
    invariant::InvariantId,
    judge::{ListTrust, Loss, ordered_in_silence},
    moment::Moment,
    observed::MachineState,
    pass::Pass,
    phase::Phase,
    plan::{DeleteBasis, EventKind},
    quorum::votes,
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
    if pass.holds_others("nothing is repaired") {
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
    // What was ordered before it fell silent, or before a start, is no word on this silence.
    let before = absent
        .iter()
        .find(|id| ordered(pass, id) && !said_to_be_gone(pass, id));
    let hint = before.map_or_else(String::new, |id| {
        format!(" (if you know that {id} is gone, say it again: calvin instance replace {id})")
    });
    let what = format!("{first} is not taken for lost: its provider lists too little{hint}");
    let fact = format!("{lacks} of {of} machines that it is to have are not in its list");
    pass.hold(InvariantId::ShortListNeedsWitnesses, what, fact);
}

fn look_for_losses(pass: &mut Pass<'_>, idle: &BTreeSet<InstanceId>) {
    let suspects = select(pass, |id, instance| {
        instance.life == Life::Up
            && !pass.left_alone(id)
            && instance.protected.is_none()
            && (pass.judged(id).loss != Loss::None || instance.replace == Some(DeleteBasis::Lost))
    });
    let mut held = Vec::new();
    for id in suspects {
        let judgement = pass.judged(&id);
        let silent = format!("silent for {:.0} s", judgement.silent_for.as_secs_f64());
        match judgement.loss {
            Loss::TwoSources | Loss::Silence
                if pass.guard.is_some() && !said_to_be_gone(pass, &id) =>
            {
                held.push(id);
            }
            // Another comes first: what is left of a quorum must be enough without it. Before any
            // serves there is none.
            Loss::TwoSources if votes(pass.state()) => {
                let why = format!("{silent}, and {}", second(pass, &id));
                mark(pass, &id, Some(DeleteBasis::Lost), &why);
            }
            Loss::TwoSources => {
                let why = format!("{silent}, and {}", second(pass, &id));
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
            Loss::None if judgement.connected || judgement.serves() => {
                mark(pass, &id, None, "it answers again");
            }
            Loss::None => mark(
                pass,
                &id,
                None,
                "no two sources say any more that it is lost",
            ),
        }
    }
    if let Some(first) = held.first() {
        let what = format!("{} is not replaced as lost", and_others(first, held.len()));
        pass.guarded(what);
    }
}

/// Whether a person ordered it replaced.
fn ordered(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let instance = pass.instance(id);
    instance.is_some_and(|one| one.replace == Some(DeleteBasis::Ordered))
}

/// Whether a person ordered it replaced in its silence: that answers for what a guard would hold.
fn said_to_be_gone(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let silent_for = pass.judged(id).silent_for;
    let instance = pass.instance(id);
    instance.is_some_and(|one| ordered_in_silence(one, silent_for, pass.now))
}

/// One instance, and how many more.
fn and_others(first: &InstanceId, all: usize) -> String {
    match all.saturating_sub(1) {
        0 => first.to_string(),
        others => format!("{first}, as {others} more,"),
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
            && !pass.left_alone(id)
            && healthy_by(pass, instance).reached(pass.now)
            && !pass.judged(id).serves()
    });
    let Some(first) = late.first() else {
        return;
    };
    let what = format!("{} is not made again", and_others(first, late.len()));
    if pass.guarded(what) {
        return;
    }
    let mut given_up = false;
    for id in late {
        let why = "not healthy within healthy_deadline";
        if pass.must_stay(&id, why) {
            continue;
        }
        pass.event(Some(&id), EventKind::InstanceFailed, format!("{id}: {why}"));
        note(pass, &id, pass.now);
        blame_if_none_serves(pass, &id);
        pass.retire(&id, DeleteBasis::NeverHealthy, why);
        repair(pass, &id, why);
        given_up = true;
    }
    // However many are late together, it is one attempt that failed.
    if given_up {
        let state = pass.change();
        state.given_up_in_a_row = state.given_up_in_a_row.saturating_add(1);
    }
}

/// An image of which another instance serves meanwhile is not what keeps this one from it.
fn blame_if_none_serves(pass: &mut Pass<'_>, id: &InstanceId) {
    let image = pass.instance(id).map(|one| one.build.image.clone());
    let mut instances = pass.state().instances.iter();
    let serves = instances.any(|(other, one)| {
        Some(&one.build.image) == image.as_ref() && pass.judged(other).healthy()
    });
    if !serves {
        blame(pass, id);
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
    let stays = pass.left_alone(old);
    if let Some(rollout) = &mut pass.change().rollout
        && let Some(place) = rollout.sets.blue.iter().position(|blue| blue == old)
    {
        rollout.sets.blue.push(made);
        if !stays {
            rollout.sets.blue.swap_remove(place);
        }
    }
    Made::Now
}

/// Makes what could not be made when it was lost, unless the fleet has enough without it by now.
fn make_what_is_owed(pass: &mut Pass<'_>) {
    let owed = pass.state().owed.len();
    if let Some(first) = pass.state().owed.keys().next().cloned()
        && pass.guarded(format!("{} is not made again", and_others(&first, owed)))
    {
        return;
    }
    for (old, owed) in pass.state().owed.clone() {
        let done = enough(pass)
            || make_instead(pass, &old, owed.build, "it could not be made before") == Made::Now;
        if !done {
            return;
        }
        pass.change().owed.remove(&old);
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
                let elsewhere = one.replace == Some(DeleteBasis::ZoneLost);
                !one.leaving() && !elsewhere && !idle.contains(*id) && counts
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

/// What the second source says of an instance that is lost, beside its silence.
pub(super) fn second(pass: &Pass<'_>, id: &InstanceId) -> &'static str {
    let machine = pass.seen(id).and_then(|seen| seen.machine);
    if machine.is_some_and(|machine| machine.is_off()) {
        "its provider says that it is gone"
    } else {
        "gossip says that its machine is not alive"
    }
}
