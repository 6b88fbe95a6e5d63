//! Rolling back: blue is told active and found as active again, in the same change of the
//! catalogue green leaves; green drains once its names are gone and had their time, then it goes.
//!
//! Where a blue has to begin its work first, or no blue is known to be healthy, green stays for as
//! long as any of it serves.

use std::collections::BTreeSet;

use calvin_model::{CatalogueRole, DrainReason, InstanceId, Mutant, Role, image::Work};

use super::{
    greens::{blue, green, why_not_healthy},
    provision::not_confirmed,
};
use crate::{
    exclusive::other_at_work,
    invariant::InvariantId,
    ledger::{Claim, missing_to_go_back},
    pass::Pass,
    people::Aim,
    plan::{DeleteBasis, EventKind},
    state::{Instance, Life, NextRollout, Purpose, WaveOrder},
    step::{
        exclusive::{is_exclusive, say_waits, stop},
        repair::{enough, no_room},
    },
    transition::Cause,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    restore(pass);
    if green_works(pass) {
        return;
    }
    let (ready, pending): (Vec<InstanceId>, Vec<InstanceId>) = blue(pass)
        .into_iter()
        .filter(|id| able(pass, id))
        .partition(|id| ready(pass, id));
    if waits(pass, &ready, &pending) && !Mutant::LetGreenGoUnreplaced.lives() {
        return;
    }
    switch_back(pass, &ready);
    finish(pass);
}

/// In an exclusive fleet: stops green's work before blue's begins, and says whether it, or something
/// that leaves, may still be at it. While green serves, it is stopped only for a blue that is known
/// to be healthy.
fn green_works(pass: &mut Pass<'_>) -> bool {
    if !is_exclusive(pass) {
        return false;
    }
    let (blues, greens) = (blue(pass), green(pass));
    let from = pass.running().and_then(|rollout| rollout.from.clone());
    // One that was left out of blue and is not protected any more is what the rollout goes back to.
    let old = |one: &Instance| {
        let image = from.as_ref().map(|from| &from.image);
        Some(&one.build.image) == image && !one.leaving()
    };
    let instances = pass.state().instances.iter();
    let working: Vec<InstanceId> = instances
        .filter(|(id, one)| one.may_work() && !blues.contains(id))
        .filter(|(id, one)| greens.contains(id) || !old(one))
        .map(|(id, _)| id.clone())
        .collect();
    let Some(first) = working.first() else {
        return false;
    };
    let serves = pass
        .instance(first)
        .is_some_and(|one| pass.counts_as_serving(first, one));
    let mut healthy = blues.iter().filter(|id| pass.judged(id).healthy());
    if serves && !healthy.any(|id| could_serve(pass, id)) {
        green_stays(pass);
        return true;
    }
    for id in &working {
        stop(pass, id, "the rollout goes back");
        say_waits(pass, id, "blue's work");
    }
    true
}

/// Green goes on serving: nothing that could take over is known.
fn green_stays(pass: &mut Pass<'_>) {
    let fact = blue(pass).first().map_or_else(
        || "nothing is left of blue".to_owned(),
        |id| format!("{id}: {}", why_not_healthy(pass, id)),
    );
    let what = "green goes on serving, no blue is known to be healthy; a rollout of any image \
                goes on from here"
        .to_owned();
    pass.hold(InvariantId::ServingCapacityNeverBelowMinimum, what, fact);
}

/// Whether green has to stay for now.
fn waits(pass: &mut Pass<'_>, ready: &[InstanceId], pending: &[InstanceId]) -> bool {
    let greens: BTreeSet<InstanceId> = green(pass).into_iter().collect();
    let state = pass.state();
    let serves = |id: &InstanceId| {
        let found = state.instances.get(id);
        found.is_some_and(|found| pass.counts_as_serving(id, found))
    };
    let green_serves = greens.iter().any(serves);
    let others_serve = ready.iter().any(|id| pass.judged(id).serves())
        || state
            .instances
            .keys()
            .any(|id| !greens.contains(id) && serves(id));
    if let Some(first) = pending.first()
        && (green_serves || ready.is_empty())
    {
        let told = pass
            .instance(first)
            .map_or(pass.now, |blue| blue.wanted_since);
        let by = told.after(pass.state().spec.replace.healthy_deadline.0);
        let what = format!(
            "{first} to be active again: {}",
            why_not_healthy(pass, first)
        );
        pass.wait(what, pass.now.since(told), Some((by, "it goes on without")));
        return true;
    }
    if green_serves && !others_serve {
        green_stays(pass);
        return true;
    }
    false
}

/// Takes back whatever blue was told since the switch, and makes again what is gone of it.
fn restore(pass: &mut Pass<'_>) {
    let mut blues = blue(pass);
    // Where only one may be active, one that can.
    blues.sort_by_key(|id| !pass.judged(id).healthy());
    for id in blues {
        let Some(instance) = pass.instance(&id) else {
            continue;
        };
        match instance.life {
            Life::Draining(DrainReason::Replaced) => pass.live(&id, Life::Up),
            Life::Retiring(_) | Life::Draining(_) => continue,
            Life::Making | Life::Up => {}
        }
        // A blue that was made meanwhile, for one that was lost, has to prove itself first.
        if pass.instance(&id).is_some_and(|blue| blue.proven) {
            pass.want(&id, Role::Active, None);
        }
    }
    make_again(pass);
}

/// Blues of the wave that are gone or leave, as long as the fleet has too few without them. Where
/// another image is wanted after this, its rollout replaces what is there.
fn lacking(pass: &Pass<'_>) -> Vec<InstanceId> {
    let Some(rollout) = pass.running() else {
        return Vec::new();
    };
    if pass.state().next.is_some() || enough(pass) {
        return Vec::new();
    }
    let gone = |id: &&InstanceId| pass.instance(id).is_none_or(Instance::leaving);
    rollout.sets.blue.iter().filter(gone).cloned().collect()
}

fn make_again(pass: &mut Pass<'_>) {
    let from = pass.running().and_then(|rollout| rollout.from.clone());
    let Some(from) = from else {
        return;
    };
    let missing = pass
        .running()
        .map_or(0, |rollout| missing_to_go_back(pass.state(), rollout));
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    let lacking = lacking(pass);
    if lacking.is_empty() || pass.holds_all("blue that is gone is not made again") {
        return;
    }
    let Some(from) = pass.may_make(&from) else {
        return;
    };
    for lost in lacking.into_iter().take(missing) {
        let why = format!("{lost} is gone, and the rollout goes back");
        let purpose = Purpose::Repair(lost.clone());
        let place = pass.place_for(&purpose);
        let made = pass.create_at(from.clone(), purpose, &why, Claim::Reserved, place);
        let Some(made) = made else {
            return;
        };
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.sets.blue.retain(|id| *id != lost);
            rollout.sets.blue.push(made);
        }
    }
}

/// Whether a blue can serve, as far as is known; in an exclusive fleet, one of them.
fn able(pass: &Pass<'_>, id: &InstanceId) -> bool {
    could_serve(pass, id) && other_at_work(pass.state(), id).is_none()
}

fn could_serve(pass: &Pass<'_>, id: &InstanceId) -> bool {
    pass.instance(id)
        .is_some_and(|blue| !blue.leaving() && blue.proven && !pass.fails(id))
}

/// Whether a blue may be active now. One that only stood by, and has an entry, serves at once. One
/// that pulls its work, or was told to drain, has to be healthy in its role; it has
/// `healthy_deadline` for that.
fn ready(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let Some(instance) = pass.instance(id) else {
        return false;
    };
    // Its life goes on since the moment at which it was told to be active again.
    let drained = instance.since == instance.wanted_since;
    // One that was made meanwhile is found only once its provider has said at which address.
    let found = !instance.build.services || pass.visible(id);
    let stood_by = match instance.build.work {
        Work::Boot => !drained && found,
        Work::OnActive => false,
    };
    let told = instance.wanted_since;
    let deadline = told.after(pass.state().spec.replace.healthy_deadline.0);
    stood_by
        || instance.catalogue == CatalogueRole::Active
        || (told < pass.now && pass.judged(id).healthy_in_role())
        || deadline.reached(pass.now)
}

fn switch_back(pass: &mut Pass<'_>, ready: &[InstanceId]) {
    let mut switched = 0_u32;
    for id in ready {
        if pass
            .instance(id)
            .is_some_and(|blue| blue.catalogue != CatalogueRole::Active)
        {
            pass.place(id, CatalogueRole::Active);
            switched += 1;
        }
    }
    if switched > 0 {
        let text = format!("traffic is switched back: {switched} of blue are active again");
        pass.event(None, EventKind::Switch, text);
    }
    if Mutant::RestorePartOfBlue.lives() {
        for id in blue(pass).iter().skip(1) {
            pass.leave(id, DrainReason::RolledBack, "one is enough");
        }
    }
    let least = if Mutant::LetGreenGoUnreplaced.lives() {
        0
    } else {
        pass.state().must_serve()
    };
    let mut serving = pass.serving();
    let mut missed = Vec::new();
    let greens = green(pass);
    let only_green_is_found = only_green_is_found(pass, &greens);
    for id in greens {
        let Some(instance) = pass.instance(&id) else {
            continue;
        };
        let serves = pass.counts_as_serving(&id, instance);
        // One of which nothing is known may be the last that answers, such as right after a start.
        let found = is_found(instance);
        let unknown = found && !serves && !pass.fails(&id) && serving < least;
        if unknown || serves && serving <= least || found && only_green_is_found {
            missed.push(id);
            continue;
        }
        serving -= usize::from(serves);
        pass.leave(&id, DrainReason::RolledBack, "the rollout goes back");
    }
    if let Some(first) = missed.first() {
        let what = format!("{} of green go on serving, such as {first}", missed.len());
        let fact = format!("only {serving} are known to serve, and {least} must");
        stay(pass, what, fact);
    }
}

fn is_found(instance: &Instance) -> bool {
    instance.catalogue == CatalogueRole::Active && !instance.leaving()
}

/// Whether clients would find nothing at all without green, and a blue is on its way. What fails may
/// answer now and then, so it stays until they find that one. Not where its work or its room is what
/// blue waits for.
fn only_green_is_found(pass: &Pass<'_>, greens: &[InstanceId]) -> bool {
    let room_first = pass
        .running()
        .is_some_and(|rollout| rollout.sets.order == WaveOrder::RoomFirst);
    if room_first || is_exclusive(pass) || Mutant::LetGreenGoUnreplaced.lives() {
        return false;
    }
    let mut instances = pass.state().instances.iter();
    let found = |id: &InstanceId, one: &Instance| {
        is_found(one) && (!one.build.services || pass.visible(id))
    };
    let others = instances.any(|(id, one)| !greens.contains(id) && found(id, one));
    let on_its_way = |id: &InstanceId| {
        let instance = pass.instance(id);
        instance.is_some_and(|blue| !blue.leaving()) && !no_room(pass, id)
    };
    !others && blue(pass).iter().any(on_its_way)
}

/// Says of green that it goes on serving, because too few others do. Blue has `progress_deadline` to
/// be heard of and made again; then it is held, and gives way to another image that a person wants.
fn stay(pass: &mut Pass<'_>, what: String, fact: String) {
    let since = pass
        .running()
        .map_or(pass.now, |rollout| rollout.phase_since);
    let by = since.after(pass.state().spec.replace.progress_deadline.0);
    if by.reached(pass.now) {
        pass.hold(InvariantId::ServingCapacityNeverBelowMinimum, what, fact);
    } else {
        pass.wait(format!("{what}: {fact}"), pass.now.since(since), None);
    }
}

/// Ends when nothing is left of green and clients find blue. An agent that does not confirm the
/// names keeps it for `progress_deadline` at most: blue is active, and nothing is left to go back to.
fn finish(pass: &mut Pass<'_>) {
    let since = pass
        .running()
        .map_or(pass.now, |rollout| rollout.phase_since);
    let confirmed_by = since.after(pass.state().spec.replace.progress_deadline.0);
    let late = confirmed_by.reached(pass.now);
    let left = green(pass)
        .iter()
        .filter(|id| pass.instance(id).is_some())
        .count();
    let blues: Vec<InstanceId> = blue(pass)
        .into_iter()
        .filter(|id| pass.instance(id).is_some_and(|blue| !blue.leaving()))
        .collect();
    // One that fails now, or never was healthy, is admitted when it is: it restores nothing.
    let missing = blues
        .iter()
        .filter(|id| {
            let active = pass
                .instance(id)
                .is_some_and(|blue| blue.catalogue == CatalogueRole::Active);
            let found = pass.read_back(id) || (late && pass.role_read(id) == CatalogueRole::Active);
            able(pass, id) && !(active && found)
        })
        .count();
    if left > 0 {
        pass.wait(
            format!("{left} of green to leave"),
            pass.now.since(since),
            None,
        );
    }
    if missing > 0 {
        let mut what = format!("{missing} of blue to be read back as active");
        let agent = not_confirmed(pass);
        let until = agent.as_ref().map(|_| (confirmed_by, "it ends without"));
        if let Some(agent) = agent {
            what.push_str(&format!(": {agent}"));
        }
        pass.wait(what, pass.now.since(since), until);
    }
    let made_again = lacking(pass).len() + unproven(pass, &blues);
    if made_again > 0 {
        let what = format!("{made_again} of the old image to be made again and healthy");
        pass.wait(what, pass.now.since(since), None);
    }
    if left == 0 && missing == 0 && made_again == 0 {
        pass.go(Cause::Restored, "the old image serves");
        go_all_the_way_back(pass);
    }
}

/// Blues that were made again, because the wave's own left to make room, and that were never
/// healthy. Where another image is wanted, its rollout need not wait for them.
fn unproven(pass: &Pass<'_>, blues: &[InstanceId]) -> usize {
    let made_room = pass
        .running()
        .is_some_and(|rollout| rollout.sets.order == WaveOrder::RoomFirst);
    if !made_room || pass.state().next.is_some() {
        return 0;
    }
    let unproven = |id: &&InstanceId| pass.instance(id).is_some_and(|blue| !blue.proven);
    blues.iter().filter(unproven).count()
}

/// Earlier waves of this rollout run the new image and have no blue any more, and an earlier rollout
/// may have left what it could not take back: they go back by a rollout of their own. One that the
/// planner started itself is not turned around again.
fn go_all_the_way_back(pass: &mut Pass<'_>) {
    let state = pass.state();
    let (Some(rollout), None) = (&state.rollout, &state.next) else {
        return;
    };
    let Some(from) = rollout.from.clone() else {
        return;
    };
    let other = |instance: &&Instance| {
        let image = &instance.build.image;
        let there = !instance.leaving() && instance.replace != Some(DeleteBasis::ZoneLost);
        let left = *image != from.image && instance.protected.is_none();
        there && (left || *image == rollout.to.image)
    };
    let Some(other) = state.instances.values().find(other) else {
        return;
    };
    if rollout.started_by == crate::PLANNER {
        return;
    }
    let reason = format!(
        "some still run {} when {} has gone back: {}",
        other.build.image,
        rollout.id,
        rollout.reason.as_deref().unwrap_or("it went back")
    );
    pass.change().next = Some(NextRollout {
        build: from,
        by: crate::PLANNER.to_owned(),
        reason: Some(reason),
        aim: Aim::Back,
        emergency: None,
    });
}
