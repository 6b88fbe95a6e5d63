//! What is marked to be replaced: another is made and serves first, then it leaves, if what speaks
//! against it still does and nobody misses it.

use std::collections::BTreeSet;

use calvin_model::{CatalogueRole, DrainReason, InstanceId, fleet::FleetKind};

use super::{
    and_others, enough, ordered, repair,
    room::{
        go_first, goes_first, in_the_way, is_unhealthy, makes_no_room, no_room, no_room_at_all,
    },
    select,
};
use crate::{
    invariant::InvariantId,
    judge::Loss,
    pass::Pass,
    phase::Phase,
    plan::DeleteBasis,
    report::InstanceClass,
    state::{Life, Purpose, Rollout},
};

pub(super) fn replace_marked(pass: &mut Pass<'_>, idle: &BTreeSet<InstanceId>) {
    let marked = select(pass, |id, instance| {
        let idle = idle.contains(id) && !is_kept_aside(pass, id);
        instance.replace.is_some() && !instance.leaving() && !idle
    });
    let (lost, marked): (Vec<_>, Vec<_>) = marked.into_iter().partition(|id| {
        let found = pass.instance(id);
        found.is_some_and(|one| one.replace == Some(DeleteBasis::ZoneLost))
    });
    for old in lost {
        make_elsewhere(pass, &old);
    }
    if pass.running().is_some() {
        beside_a_rollout(pass, marked);
        return;
    }
    let (held, free): (Vec<_>, Vec<_>) = marked.into_iter().partition(|id| held(pass, id));
    for old in free {
        replace_one(pass, &old);
    }
    say_held(pass, &held);
}

/// A rollout replaces what it finds; what it leaves is replaced after it. What keeps it from going on
/// is replaced meanwhile.
fn beside_a_rollout(pass: &mut Pass<'_>, marked: Vec<InstanceId>) {
    let Some((rollout, started)) = pass.running().map(|it| (it.id.clone(), it.started)) else {
        return;
    };
    let since = pass.now.since(started);
    let mut waits_for_guard = Vec::new();
    for old in marked {
        if is_kept_aside(pass, &old) {
            let why = "it serves nobody, and is not protected any more";
            pass.leave(&old, DrainReason::Repaired, why);
            continue;
        }
        let needs_it = lost_voter(pass, &old) || keeps_the_room(pass, &old);
        let in_the_way = !needs_it && in_the_way(pass, &old);
        if (needs_it || in_the_way) && held(pass, &old) {
            waits_for_guard.push(old);
            continue;
        }
        if needs_it {
            replace_one(pass, &old);
            continue;
        }
        if is_one_too_many(pass, &old) {
            go_without(pass, &old);
            continue;
        }
        if gives_room(pass, &old) && !held(pass, &old) {
            go_first(pass, &old);
            continue;
        }
        if in_the_way && pass.may_delete(pass.draining()) {
            let why = "the rollout has no room, and it serves nobody and is one too many";
            pass.leave(&old, DrainReason::Repaired, why);
            continue;
        }
        pass.wait(
            format!("{rollout} to end: then {old} is replaced"),
            since,
            None,
        );
    }
    say_held(pass, &waits_for_guard);
}

/// Whether a guard holds the replacement of an instance: that of one that a person ordered away goes on.
fn held(pass: &Pass<'_>, id: &InstanceId) -> bool {
    pass.guard.is_some() && !ordered(pass, id)
}

fn say_held(pass: &mut Pass<'_>, held: &[InstanceId]) {
    if let Some(first) = held.first() {
        let what = format!("{} stays for now", and_others(first, held.len()));
        pass.guarded(what);
    }
}

/// Whether an instance that was ordered away never served and is no part of the rollout: nobody waits
/// for it, and the rollout may need its place.
fn is_kept_aside(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let ordered = pass.instance(id).is_some_and(|one| {
        let hidden = one.catalogue < CatalogueRole::Entered;
        hidden && one.replace == Some(DeleteBasis::Ordered)
    });
    let sets = pass.running().map(|rollout| &rollout.sets);
    ordered && sets.is_some_and(|sets| !sets.green.contains(id) && !sets.blue.contains(id))
}

/// Whether a lost member keeps a rollout of its quorum from going on: the others must be healthy for
/// that, so it is replaced meanwhile. One that the wave replaces anyway is not, unless the wave goes back:
/// then it would be missed.
fn lost_voter(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let quorum = pass.state().spec.kind == FleetKind::Quorum;
    let lost = pass.judged(id).loss == Loss::TwoSources;
    let replaces = pass.running().is_some_and(|rollout| {
        rollout.phase != Phase::RollingBack && rollout.sets.blue.contains(id)
    });
    quorum && lost && !replaces
}

/// Whether an instance in whose place another serves already has the room that a rollout waits for,
/// while it waits for that rollout.
fn keeps_the_room(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let begun = pass.running().is_some_and(|it| it.sets.begun());
    let replaced = replacement(pass, id).is_some_and(|new| serves(pass, &new));
    !begun && replaced && no_room_at_all(pass)
}

/// Whether the fleet has its count without one that was ordered away, and a rollout that has no room to
/// begin its wave waits for it, as it does for the rollout.
fn is_one_too_many(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let count = usize::try_from(pass.state().spec.count).unwrap_or(usize::MAX);
    let begun = pass.running().is_some_and(|it| it.sets.begun());
    !begun && ordered(pass, id) && pass.state().kept() >= count && no_room_at_all(pass)
}

/// Whether an unhealthy instance of an earlier wave leaves for the sake of a rollout that makes no room.
fn gives_room(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let blue = |it: &Rollout| it.sets.blue.contains(id);
    makes_no_room(pass) && !pass.running().is_some_and(blue) && goes_first(pass, id)
}

/// Whether a green of the running wave already serves instead of an instance that leaves with blue: in
/// a quorum it waits for the lost member that it was made for, so that one must not wait for it.
fn wave_replaces(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let running = pass.running();
    let blue = running.is_some_and(|rollout| {
        rollout.phase != Phase::RollingBack && rollout.sets.blue.contains(id)
    });
    blue && pass.state().switched()
}

fn replace_one(pass: &mut Pass<'_>, old: &InstanceId) {
    let never_up = pass
        .instance(old)
        .is_some_and(|one| one.life == Life::Making && one.replace == Some(DeleteBasis::Ordered));
    // Nobody misses it, and it may have the place in flight that another needs.
    if never_up {
        let why = "it was ordered away before it came up";
        pass.leave(old, DrainReason::Repaired, why);
        return;
    }
    match replacement(pass, old) {
        None if enough(pass) => go_without(pass, old),
        None => {
            repair(pass, old, "it is to be replaced");
            if replacement(pass, old).is_none() && no_room_at_all(pass) {
                go_first(pass, old);
            }
        }
        Some(new) if serves(pass, &new) => {
            go(pass, old, &format!("{new} serves in its place"));
        }
        Some(new) if wave_replaces(pass, &new) => {
            go(
                pass,
                old,
                &format!("green serves in the place of {new}, which was made for it"),
            );
        }
        Some(new) if no_room(pass, &new) && goes_first(pass, old) => go_first(pass, old),
        Some(new) => {
            let since = pass.instance(&new).map_or(pass.now, |new| new.created);
            let what = format!("{new} to serve in the place of {old}");
            pass.wait(what, pass.now.since(since), None);
        }
    }
}

/// The instance that was made in the place of another, and stays.
fn replacement(pass: &Pass<'_>, old: &InstanceId) -> Option<InstanceId> {
    let mut instances = pass.state().instances.iter();
    let found =
        instances.find(|(_, made)| !made.leaving() && made.purpose == Purpose::Repair(old.clone()));
    found.map(|(id, _)| id.clone())
}

/// Makes an instance in another zone than the one that is lost; the old one stays where it is.
fn make_elsewhere(pass: &mut Pass<'_>, old: &InstanceId) {
    match replacement(pass, old) {
        None => repair(pass, old, "its zone is lost"),
        Some(new) if serves(pass, &new) => {}
        Some(new) => {
            let since = pass.instance(&new).map_or(pass.now, |new| new.created);
            let what = format!("{new} to serve in the place of {old}, whose zone is lost");
            pass.wait(what, pass.now.since(since), None);
        }
    }
}

fn serves(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let active = pass
        .instance(id)
        .is_some_and(|instance| instance.catalogue == CatalogueRole::Active);
    active && pass.read_back(id) && pass.judged(id).healthy_in_role()
}

/// Lets an instance leave that the fleet has too many of, once as many serve as are wanted. One that
/// was ordered away and that no client finds will never serve, and keeps nobody from it.
fn go_without(pass: &mut Pass<'_>, old: &InstanceId) {
    let count = usize::try_from(pass.state().spec.count).unwrap_or(usize::MAX);
    let idle = pass.instance(old).is_some_and(|one| {
        one.catalogue < CatalogueRole::Entered && one.replace == Some(DeleteBasis::Ordered)
    });
    if idle || pass.serving() >= count {
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
        DeleteBasis::Unhealthy if is_unhealthy(pass, old) => {
            pass.leave(old, DrainReason::Repaired, why);
        }
        DeleteBasis::Ordered => pass.leave(old, DrainReason::Repaired, why),
        DeleteBasis::Lost
        | DeleteBasis::Unmanaged
        | DeleteBasis::Unhealthy
        | DeleteBasis::ZoneLost
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
