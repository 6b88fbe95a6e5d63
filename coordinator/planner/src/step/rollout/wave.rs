//! Which instances a wave makes and which it replaces, and what comes after it.

use std::collections::BTreeMap;

use calvin_model::{DrainReason, InstanceId, ZoneName, fleet::Gate};

use super::held::approved;
use crate::{
    invariant::InvariantId,
    pass::Pass,
    phase::Phase,
    plan::EventKind,
    quorum::{When, leads},
    report::InstanceClass,
    spread::{Candidate, Place, Spread, take_evenly},
    state::{Build, FleetState, Wave, WaveOrder},
    step::veto::clear,
    transition::Cause,
    waves::{Size, Sizing, left_out, new_and_old, smaller, staying},
};

/// Begins the wave that has no sets yet, whole or, where there is no room for all of it, as large
/// as fits. What it needs is reserved before the first machine is asked for.
pub(crate) fn begin(pass: &mut Pass<'_>) {
    let Some(rollout) = pass.running() else {
        return;
    };
    let (to, number) = (rollout.to.clone(), rollout.wave);
    let (id, since) = (rollout.id.clone(), rollout.phase_since);
    if pass.vetoed(&to.image.tag).is_some() {
        let made = pass.may_make(&to);
        debug_assert_ne!(made, Some(to), "a vetoed image is not made");
        return;
    }
    // What has begun goes on: half of a fleet replaced helps nobody who comes after it.
    if number == 0
        && let Some(what) = pass.ledger.waits_for(pass.state())
    {
        pass.wait(
            format!("{id} begins after {what}"),
            pass.now.since(since),
            None,
        );
        return;
    }
    if rollout.from.is_none() {
        leave_failed(pass);
    }
    let old = old(pass, &to);
    let (new, olds) = new_and_old(pass.state(), &to);
    let sizing = match pass.running() {
        Some(rollout) => Sizing::of_rollout(pass.state(), rollout),
        None => return,
    };
    let room = pass.ledger.room(pass.state());
    let Some(size) = sizing.next(new, olds, room.fits) else {
        if let Some(bound) = room.bound {
            pass.short.insert(bound, sizing.wished(new, olds));
        }
        return;
    };
    if size.order == WaveOrder::RoomFirst && !approved(pass, Gate::Retire) {
        say_unapproved(pass, number + 1);
        return;
    }
    let remark = smaller(size, sizing.next(new, olds, u32::MAX), room.bound);
    let blue = blues(pass, old, size, &to);
    // Before anything is made: a wave that could not end would only be in the way.
    let why = format!("wave {} of {id} would replace it", number + 1);
    if blue
        .iter()
        .any(|id| pass.must_stay_when(When::AnotherIsMade, id, &why))
    {
        return;
    }
    let mut text = format!(
        "{id}: {} {}: {} to be made, {} to be replaced",
        if size.canary { "canary, wave" } else { "wave" },
        number + 1,
        size.greens,
        blue.len()
    );
    if let Some(remark) = &remark {
        text.push_str(&format!("; {remark}"));
    }
    pass.event(None, EventKind::Phase, text);
    let progress_by = pass
        .now
        .after(pass.state().spec.replace.progress_deadline.0);
    reserve(pass, size.greens);
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.sets = Wave {
            green: Vec::new(),
            blue,
            to_make: size.greens,
            order: size.order,
            canary: size.canary,
            remark,
        };
        rollout.progress_by = progress_by;
    }
    if size.order == WaveOrder::RoomFirst {
        pass.go(Cause::NeedsRoom, "what it replaces leaves first");
    }
}

/// Says why a wave does not begin that would have to make room: nobody can approve that blue is
/// removed before green has baked. What leaves already may make the room by itself.
fn say_unapproved(pass: &mut Pass<'_>, wave: u32) {
    let mut instances = pass.state().instances.iter();
    let leaving = instances.find(|(_, one)| one.leaving());
    if let Some((first, since)) = leaving.map(|(id, one)| (id.clone(), one.since)) {
        let what = format!("{first} to be gone: it may make the room for wave {wave}");
        pass.wait(what, pass.now.since(since), None);
        return;
    }
    let what = format!("wave {wave} does not begin: it would have to make room first");
    let fact = "approve names retire, and green has not proved itself".to_owned();
    pass.hold(InvariantId::ApprovedByEnough, what, fact);
}

fn reserve(pass: &mut Pass<'_>, number: u32) {
    let mut ledger = std::mem::take(&mut pass.ledger);
    ledger.reserve(pass.state(), number);
    pass.ledger = ledger;
}

/// Which of the old ones a wave replaces: what serves worst first, then evenly from all zones, so
/// that none is emptied while others are full.
fn blues(pass: &Pass<'_>, old: Vec<InstanceId>, size: Size, to: &Build) -> Vec<InstanceId> {
    let number = index(size.blues);
    let state = pass.state();
    if number >= old.len() || state.spec.zones.is_empty() {
        return old.into_iter().take(number).collect();
    }
    let zone = |id: &InstanceId| state.instances.get(id).and_then(|one| one.zone.clone());
    let mut there: BTreeMap<Option<ZoneName>, usize> = BTreeMap::new();
    for (id, _) in staying(state) {
        *there.entry(zone(id)).or_default() += 1;
    }
    let mut greens = Spread::of(state, pass.environment, |id| is_of(state, id, to));
    for _ in 0..size.greens {
        if let Place::In(zone) = greens.next() {
            *there.entry(zone).or_default() += 1;
        }
    }
    let candidates = old
        .into_iter()
        .map(|id| Candidate {
            rank: rank(pass, &id),
            zone: zone(&id),
            id,
        })
        .collect();
    take_evenly(candidates, there, number)
}

/// What an earlier first rollout left, to be looked at, never served. What was lost with its zone
/// leaves too, when that is found: nothing else would ever remove it or let it serve.
fn leave_failed(pass: &mut Pass<'_>) {
    let there = pass.state().instances.iter();
    let left = there.filter(|(_, one)| !one.leaving());
    let left: Vec<InstanceId> = left.map(|(id, _)| id.clone()).collect();
    for id in left {
        pass.leave(&id, DrainReason::RolledBack, "another attempt starts");
    }
}

/// After a wave: the next, or the end.
pub(crate) fn finish(pass: &mut Pass<'_>) {
    let Some(rollout) = pass.running() else {
        return;
    };
    let last = match rollout.phase {
        Phase::Switching => Cause::SwitchedOnly,
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => Cause::Retired,
    };
    // A first rollout is one wave: what it lacks at its end is made by the rule that keeps counts.
    if !is_last(pass) {
        let why = format!("wave {} is complete", rollout.wave + 1);
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.wave += 1;
            rollout.sets = Wave::default();
        }
        pass.go(Cause::NextWave, &why);
        return;
    }
    let why = format!("{} serves", rollout.to.image);
    pass.go(last, &why);
    done(pass);
}

/// Whether no wave follows the one that is under way.
pub(crate) fn is_last(pass: &Pass<'_>) -> bool {
    let state = pass.state();
    let Some(rollout) = state.running() else {
        return true;
    };
    let new = staying(state)
        .filter(|(id, _)| is_of(state, id, &rollout.to))
        .count();
    let wanted = rollout.count.saturating_sub(left_out(state, &rollout.to));
    amount(new) >= wanted || rollout.from.is_none()
}

fn done(pass: &mut Pass<'_>) {
    let state = pass.change();
    let Some(to) = state.rollout.as_ref().map(|rollout| rollout.to.clone()) else {
        return;
    };
    let image = to.image.tag.clone();
    if state.serving.as_ref() != Some(&to) {
        state.previous = state.serving.replace(to);
    }
    clear(pass, &image);
}

/// Instances that stay and run another image, the ones that serve worst first.
fn old(pass: &Pass<'_>, to: &Build) -> Vec<InstanceId> {
    let state = pass.state();
    let mut old: Vec<InstanceId> = staying(state)
        .filter(|(id, one)| !is_of(state, id, to) && one.protected.is_none())
        .map(|(id, _)| id.clone())
        .collect();
    old.sort_by_key(|id| rank(pass, id));
    old
}

/// What serves worst goes first, and who leads a quorum last: the others would choose another each
/// time.
fn rank(pass: &Pass<'_>, id: &InstanceId) -> u8 {
    worst_first(pass.judged(id).class) + u8::from(leads(pass, id))
}

fn worst_first(class: InstanceClass) -> u8 {
    match class {
        InstanceClass::Lost => 0,
        InstanceClass::Unhealthy => 1,
        InstanceClass::Unmanaged => 2,
        InstanceClass::Starting | InstanceClass::Unknown => 3,
        InstanceClass::Healthy | InstanceClass::Leaving => 4,
    }
}

fn is_of(state: &FleetState, id: &InstanceId, build: &Build) -> bool {
    state
        .instances
        .get(id)
        .is_some_and(|instance| instance.build.image == build.image)
}

fn amount(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
