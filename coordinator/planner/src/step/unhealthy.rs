//! Instances that stay unhealthy: after `repair_after`, by their own agents' clocks, each is
//! replaced. The new one is made first; where there is no room for it and nobody misses the
//! unhealthy one, that one leaves first. One that is healthy again for long enough stays.

use std::{cmp::Reverse, time::Duration};

use calvin_model::{CatalogueRole, InstanceId, Role, fleet::FleetKind};

use super::{
    repair::{makes_no_room, mark},
    rollout::why_not_healthy,
};
use crate::{
    pass::Pass,
    plan::DeleteBasis,
    report::InstanceClass,
    state::{Instance, Life},
    sums::repair_limit,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    take_back(pass);
    let ill = ill(pass);
    let after = pass.state().spec.repair.repair_after;
    let (due, early): (Vec<_>, Vec<_>) = ill.into_iter().partition(|(long, _)| *long > after.0);
    if let Some((long, first)) = early.first() {
        let at = pass.now.after(after.0.saturating_sub(*long));
        let what = format!("{first} to be healthy: {}", why_not_healthy(pass, first));
        pass.wait(what, *long, Some((at, "it is replaced")));
    }
    let Some((long, first)) = due.first().cloned() else {
        return;
    };
    let fact = format!(
        "{first} has been unhealthy for {:.0} s: {}",
        long.as_secs_f64(),
        why_not_healthy(pass, &first)
    );
    if pass.running().is_some() && !makes_no_room(pass) {
        let what = format!("the rollout to end, then {first} is replaced: {fact}");
        pass.wait(what, long, None);
        return;
    }
    if let Some(first) = pass.ledger.waits_for(pass.state()) {
        pass.wait(format!("{first}; {fact}"), long, None);
        return;
    }
    if pass.guarded(format!("{first} is not replaced")) {
        return;
    }
    let room = limit(pass).saturating_sub(being_replaced(pass));
    for (_, id) in due.iter().take(room) {
        let why = format!(
            "unhealthy for more than repair_after {after}: {}",
            why_not_healthy(pass, id)
        );
        mark(pass, id, Some(DeleteBasis::Unhealthy), &why);
    }
    if let Some((long, next)) = due.get(room) {
        let waits = due.len() - room;
        let what = format!("others to be replaced first: {waits} more are unhealthy, {next} next");
        pass.wait(what, *long, None);
    }
}

/// Those that serve, or are to, and say that they cannot; the longest unhealthy first. A rollout
/// that runs looks after its own sets.
fn ill(pass: &Pass<'_>) -> Vec<(Duration, InstanceId)> {
    let idle = pass.state().not_to_serve();
    let instances = pass.state().instances.iter();
    let mut ill: Vec<(Duration, InstanceId)> = instances
        .filter(|(id, one)| {
            let marked = one.replace.is_some() || one.protected.is_some();
            one.life == Life::Up && one.proven && !marked && !idle.contains(*id)
        })
        .filter_map(|(id, _)| Some((pass.judged(id).unhealthy_for?, id.clone())))
        .collect();
    ill.sort_by_key(|(long, id)| (Reverse(*long), id.clone()));
    ill
}

/// How many may be replaced at a time: of those that vote, one.
fn limit(pass: &Pass<'_>) -> usize {
    let staying = pass.state().instances.values();
    match pass.state().spec.kind {
        FleetKind::Service => repair_limit(staying.filter(|one| !one.leaving()).count()),
        FleetKind::Exclusive | FleetKind::Quorum => 1,
    }
}

fn being_replaced(pass: &Pass<'_>) -> usize {
    let instances = pass.state().instances.values();
    instances.filter(|one| is_marked(one)).count()
}

fn is_marked(instance: &Instance) -> bool {
    instance.replace == Some(DeleteBasis::Unhealthy)
}

/// Whether the one of an exclusive fleet has stopped its work for another that does not serve yet: as
/// a standby it is healthy again, and that says nothing of its work. When the other serves, it is
/// one too many.
fn has_given_way(pass: &Pass<'_>, instance: &Instance) -> bool {
    let mut others = pass.state().instances.values();
    let serves = others.any(|one| {
        let active = one.catalogue == CatalogueRole::Active && one.wanted.role == Role::Active;
        active && !one.leaving()
    });
    let exclusive = pass.state().spec.kind == FleetKind::Exclusive;
    exclusive && instance.wanted.role != Role::Active && !serves
}

/// One that is healthy again for as long as a new one has to be needs no replacement. One that
/// only flaps does not get there, and one of which nothing is known is waited for.
fn take_back(pass: &mut Pass<'_>) {
    let enough = pass.state().spec.replace.min_healthy.0;
    let instances = pass.state().instances.iter();
    let marked: Vec<InstanceId> = instances
        .filter(|(_, one)| is_marked(one) && !one.leaving() && !has_given_way(pass, one))
        .map(|(id, _)| id.clone())
        .collect();
    for id in marked {
        let judgement = pass.judged(&id);
        if judgement.healthy_for.is_some_and(|long| long >= enough) {
            mark(pass, &id, None, "it is healthy again");
        } else if judgement.class != InstanceClass::Unhealthy {
            let what = format!("{id} to stay healthy, or to be unhealthy when it is replaced");
            pass.wait(what, judgement.age, None);
        }
    }
}
