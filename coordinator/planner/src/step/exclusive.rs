//! Exclusive fleets: notes whose work has stopped, on whose word; stops what is to be replaced once
//! another is ready; and measures how long nobody was active.

use calvin_model::{CatalogueRole, InstanceId, Role, fleet::FleetKind};

use crate::{
    exclusive::{LOCK_FRESH, stopped},
    invariant::InvariantId,
    moment::Moment,
    observed::{LockHolder, LockSeen},
    pass::Pass,
    phase::Phase,
    plan::EventKind,
    state::{Gap, Life},
};

/// Whether a fleet is exclusive.
pub(crate) fn is_exclusive(pass: &Pass<'_>) -> bool {
    pass.state().spec.kind == FleetKind::Exclusive
}

/// Notes whose work has stopped. Its entry goes with it: clients would find nobody there.
pub(crate) fn note(pass: &mut Pass<'_>) {
    if !is_exclusive(pass) {
        return;
    }
    let instances = pass.state().instances.iter();
    let proven: Vec<_> = instances
        .filter(|(_, instance)| instance.at_work)
        .filter_map(|(id, instance)| {
            let proof = stopped(instance, pass.seen(id), pass.judged(id), pass.now)?;
            Some((id.clone(), proof))
        })
        .collect();
    for (id, proof) in proven {
        if let Some(instance) = pass.change().instances.get_mut(&id) {
            instance.at_work = false;
            if instance.life == Life::Up && instance.catalogue >= CatalogueRole::Entered {
                instance.catalogue = CatalogueRole::Standby;
            }
        }
        let text = format!("the work of {id} has stopped: {proof}");
        pass.event(Some(&id), EventKind::Switch, text);
        let age = u64::try_from(proof.age().as_millis()).unwrap_or(u64::MAX);
        let since = Moment {
            ms: pass.now.ms.saturating_sub(age),
        };
        begin_gap(pass, since);
    }
}

/// From now on nobody is active, because a rollout changes who is.
fn begin_gap(pass: &mut Pass<'_>, since: Moment) {
    let changes = pass.running().is_some_and(|rollout| match rollout.phase {
        Phase::Stopping | Phase::Switching | Phase::RollingBack => {
            rollout.gap.is_none_or(|gap| gap.until.is_some())
        }
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    });
    if !changes {
        return;
    }
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.gap = Some(Gap { since, until: None });
    }
}

/// Stops what is to be replaced, and ends the count when another is active.
pub(crate) fn step(pass: &mut Pass<'_>) {
    if !is_exclusive(pass) || pass.state().deleting {
        return;
    }
    swap(pass);
    say_lock(pass);
    end_gap(pass);
}

/// What is read of the lock of an instance's fleet, while that counts.
fn lock_of<'a>(pass: &Pass<'a>, id: &InstanceId) -> Option<&'a LockSeen> {
    let lock = pass.seen(id)?.lock.as_ref()?;
    (lock.age <= LOCK_FRESH).then_some(lock)
}

/// Says who keeps whoever is to be active from the lock, without which it does not work.
fn say_lock(pass: &mut Pass<'_>) {
    let instances = pass.state().instances.iter();
    let told = instances.filter(|(_, one)| one.wanted.role == Role::Active);
    let told: Vec<_> = told
        .map(|(id, one)| (id.clone(), pass.now.since(one.wanted_since)))
        .collect();
    for (id, since) in told {
        let holder = match lock_of(pass, &id).map(|lock| &lock.holder) {
            None | Some(LockHolder::Itself) => continue,
            Some(LockHolder::Nobody) => "nobody".to_owned(),
            Some(LockHolder::Another(holder)) => holder.clone(),
        };
        let what = format!("{id} to take the lock of its fleet, which {holder} holds");
        pass.wait(what, since, None);
    }
}

/// Outside of rollouts: tells the one that is to be replaced to stop once another is ready, which
/// begins when that has stopped.
fn swap(pass: &mut Pass<'_>) {
    if pass.running().is_some() {
        return;
    }
    let Some(ready) = successor(pass) else {
        return;
    };
    let instances = pass.state().instances.iter();
    let others: Vec<InstanceId> = instances
        .filter(|(id, one)| **id != ready && one.replace.is_some() && one.may_work())
        .map(|(id, _)| id.clone())
        .collect();
    for old in others {
        stop(pass, &old, &format!("{ready} is ready in its place"));
        say_waits(pass, &old, &format!("{ready} to be active"));
    }
}

/// Who is to be active next: the one that stays, is not to be replaced, and is healthy for long
/// enough.
pub(crate) fn successor(pass: &Pass<'_>) -> Option<InstanceId> {
    let enough = pass.state().spec.replace.min_healthy.0;
    let instances = pass.state().instances.iter();
    let mut ready = instances.filter(|(id, one)| {
        let long = pass.judged(id).healthy_for;
        !one.leaving() && one.replace.is_none() && long.is_some_and(|long| long >= enough)
    });
    ready.next().map(|(id, _)| id.clone())
}

/// Tells an instance to stop its work.
pub(crate) fn stop(pass: &mut Pass<'_>, id: &InstanceId, why: &str) {
    let to_stop = pass
        .instance(id)
        .is_some_and(|one| !one.leaving() && one.wanted.role == Role::Active);
    if !to_stop {
        return;
    }
    pass.want(id, Role::Standby, None);
    let text = format!("{id} is told to stop its work: {why}");
    pass.event(Some(id), EventKind::Switch, text);
}

/// Says what keeps `then` from happening: one that listens is waited for; one that does not is held
/// for ever, because nobody knows what it does.
pub(crate) fn say_waits(pass: &mut Pass<'_>, id: &InstanceId, then: &str) {
    let Some(instance) = pass.instance(id) else {
        return;
    };
    let since = pass.now.since(instance.wanted_since);
    let judgement = pass.judged(id);
    if judgement.connected {
        let what = format!("{id} to say that its work has stopped: then {then}");
        pass.wait(what, since, None);
        return;
    }
    let seen = pass.seen(id);
    let machine = seen.and_then(|seen| seen.machine).map_or_else(
        || "its provider says nothing of it".to_owned(),
        |machine| format!("its provider says that it is {:?}", machine.state),
    );
    let lock = lock_of(pass, id).map_or_else(String::new, |lock| match &lock.holder {
        LockHolder::Itself => "; it holds the lock of its fleet".to_owned(),
        LockHolder::Nobody => "; nobody holds the lock of its fleet".to_owned(),
        LockHolder::Another(holder) => format!("; {holder} holds the lock of its fleet"),
    });
    let what = format!(
        "{id} may still be at work, so nothing else may be: {then} waits; bring its agent back, or \
         power its machine off"
    );
    let fact = format!(
        "it was told to stop {:.0} s ago and is silent for {:.0} s; {}{lock}",
        since.as_secs_f64(),
        judgement.silent_for.as_secs_f64(),
        machine.to_lowercase()
    );
    pass.hold(InvariantId::ExclusiveNeverTwice, what, fact);
}

/// Ends the count of how long nobody was active, once clients find one that is healthy at it.
fn end_gap(pass: &mut Pass<'_>) {
    let Some((id, gap)) = pass.state().rollout.as_ref().and_then(|rollout| {
        let gap = rollout.gap.filter(|gap| gap.until.is_none())?;
        Some((rollout.id.clone(), gap))
    }) else {
        return;
    };
    let instances = pass.state().instances.iter();
    let mut active = instances.filter(|(one, instance)| {
        instance.catalogue == CatalogueRole::Active
            && pass.judged(one).healthy_in_role()
            && pass.read_back(one)
    });
    let found = active.next().map(|(one, _)| one.clone());
    let now = pass.now;
    let Some(found) = found else {
        let what = format!("somebody of {id} to be active: nobody is");
        pass.wait(what, gap.length(now), None);
        return;
    };
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.gap = Some(Gap {
            until: Some(now),
            ..gap
        });
    }
    let text = format!(
        "{id}: nobody was active for {:.1} s, until {found} was",
        gap.length(now).as_secs_f64()
    );
    pass.event(Some(&found), EventKind::Switch, text);
}
