//! Switching: green enters, then green is active and blue stands by, as one change of the
//! catalogue, and each is read back before the next.
//!
//! A workload that pulls its work is told to begin first, and enters only when it is healthy at
//! it. At no moment is nobody active: the roles change only while every green is healthy.

use calvin_model::{CatalogueRole, InstanceId, Role, image::Work};

use super::{
    greens::{Progress, blue, broken, green, why_not_healthy},
    provision::{not_confirmed, past_progress},
    stop, wave,
};
use crate::{
    invariant::InvariantId,
    judge::Loss,
    pass::Pass,
    phase::Phase,
    plan::EventKind,
    quorum::lags,
    state::{Life, WaveOrder},
    transition::Cause,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let greens = green(pass);
    let blues = blue(pass);
    let switched = pass.state().switched();
    // Once the first greens of a fleet serve, taking them away would help nobody. What made room
    // for them is made again.
    let made_room = made_room(pass);
    let can_go_back = !switched || !blues.is_empty() || made_room;
    if can_go_back {
        if let Some(why) = broken(pass) {
            pass.go_back(&format!(
                "green is not healthy while traffic is switched: {why}"
            ));
            return;
        }
        if past_progress(pass) == Progress::Ended {
            return;
        }
    }
    let lags = greens.iter().find_map(|id| lags(pass.state(), id, pass));
    if let Some(fact) = lags.filter(|_| !switched) {
        let what = "traffic is not switched".to_owned();
        pass.hold(InvariantId::QuorumOneAtATime, what, fact);
        return;
    }
    if switched {
        confirm(pass, &greens, &blues);
    } else if stop::comes_first(pass) {
        stop_first(pass, &greens);
    } else if begun(pass, &greens) && entered(pass, &greens) {
        switch(pass, &greens, &blues);
    }
}

/// Blue is stopped only for a green that is known to be healthy.
fn stop_first(pass: &mut Pass<'_>, greens: &[InstanceId]) {
    let Some(id) = greens.iter().find(|id| !pass.judged(id).healthy_in_role()) else {
        pass.go(Cause::StopFirst, "never two may be at work");
        return;
    };
    let what = format!("{id} to be healthy: {}", why_not_healthy(pass, id));
    let rollout = pass.running();
    let (since, by) = rollout.map_or((pass.now, pass.now), |rollout| {
        (rollout.phase_since, rollout.progress_by)
    });
    pass.wait(
        what,
        pass.now.since(since),
        Some((by, "the rollout goes back")),
    );
}

/// Whether what the wave replaces left before its greens were made.
fn made_room(pass: &Pass<'_>) -> bool {
    pass.running()
        .is_some_and(|rollout| rollout.sets.order == WaveOrder::RoomFirst)
}

/// Tells workloads that pull their work to begin. Says whether all are healthy at it.
fn begun(pass: &mut Pass<'_>, greens: &[InstanceId]) -> bool {
    let mut all = true;
    for id in greens {
        let Some(instance) = pass.instance(id) else {
            continue;
        };
        if instance.build.work == Work::OnActive {
            pass.want(id, Role::Active, None);
        }
        let Some(instance) = pass.instance(id) else {
            continue;
        };
        // A role that was wanted only now cannot have been applied yet.
        let told_now = instance.wanted_since == pass.now && instance.wanted.role == Role::Active;
        let not_told =
            instance.build.work == Work::OnActive && instance.wanted.role != Role::Active;
        let deadline = pass.state().spec.replace.healthy_deadline.0;
        let (told, by) = (instance.wanted_since, instance.wanted_since.after(deadline));
        if told_now || not_told || !pass.judged(id).healthy_in_role() {
            all = false;
            let what = format!(
                "{id} to be healthy in its role: {}",
                why_not_healthy(pass, id)
            );
            pass.wait(
                what,
                pass.now.since(told),
                Some((by, "the rollout goes back")),
            );
        }
    }
    all
}

/// Lets every green enter. Says whether clients find all of them.
fn entered(pass: &mut Pass<'_>, greens: &[InstanceId]) -> bool {
    for id in greens {
        pass.place(id, CatalogueRole::Entered);
    }
    read_back(pass, greens, "entered")
}

/// Makes green active and blue stand by, in the catalogue.
fn switch(pass: &mut Pass<'_>, greens: &[InstanceId], blues: &[InstanceId]) {
    let unproven = greens.iter().find(|id| !pass.judged(id).healthy_in_role());
    if let Some(id) = unproven {
        pass.hold(
            InvariantId::UnprovenNeverServes,
            "traffic is not switched".to_owned(),
            format!("{id}: {}", why_not_healthy(pass, id)),
        );
        return;
    }
    for id in greens {
        pass.want(id, Role::Active, None);
        pass.place(id, CatalogueRole::Active);
    }
    // Also those that were lost with their zone: one that comes back must not serve the old image.
    let all = pass.running().map(|rollout| rollout.sets.blue.clone());
    for id in &all.unwrap_or_default() {
        // One that is not up yet, or leaves already, has no entry to change.
        if pass.instance(id).is_some_and(|blue| blue.life == Life::Up) {
            pass.place(id, CatalogueRole::Standby);
        }
    }
    let text = format!(
        "traffic is switched: {} active, {} to stand by; every green entered, healthy, read back",
        greens.len(),
        blues.len()
    );
    pass.event(None, EventKind::Switch, text);
}

/// Waits until clients find what was switched.
fn confirm(pass: &mut Pass<'_>, greens: &[InstanceId], blues: &[InstanceId]) {
    // A lost member of a quorum waits for its replacement, and may have no address for an entry.
    let lost = |id: &InstanceId| pass.judged(id).loss == Loss::TwoSources;
    let gone = |id: &InstanceId| lost(id) && pass.role_read(id) == CatalogueRole::Absent;
    let blues_there = blues.iter().filter(|id| !gone(id));
    let both: Vec<InstanceId> = greens.iter().chain(blues_there).cloned().collect();
    if !read_back(pass, &both, "switched") {
        return;
    }
    let why = "every live agent serves the new names";
    pass.event(
        None,
        EventKind::Switch,
        format!("the switch is read back: {why}"),
    );
    // Greens that others made room for prove themselves under traffic as any others do.
    if blues.is_empty() && !made_room(pass) {
        wave::finish(pass);
    } else {
        pass.go(Cause::Switched, why);
    }
}

fn read_back(pass: &mut Pass<'_>, ids: &[InstanceId], what: &str) -> bool {
    let missing: Vec<&InstanceId> = ids.iter().filter(|id| !pass.read_back(id)).collect();
    let Some(first) = missing.first() else {
        return true;
    };
    let detail = not_confirmed(pass).unwrap_or_else(|| format!("{first} is not found so yet"));
    let since = pass
        .running()
        .map_or(pass.now, |rollout| rollout.phase_since);
    let by = pass
        .running()
        .map_or(pass.now, |rollout| rollout.progress_by);
    let what = format!("{} to be read back as {what}: {detail}", missing.len());
    pass.wait(
        what,
        pass.now.since(since),
        Some((by, "the rollout goes back")),
    );
    false
}

/// Whether a switch that another run of the coordinator decided is not to be shown yet: clients may
/// still find blue, and green may have broken since. It is shown when green is heard to be healthy;
/// where it is not, the rollout goes back, or `progress_deadline` ends the waiting.
pub(crate) fn names_wait(pass: &Pass<'_>) -> bool {
    let unseen = !pass.observed.catalogue.contains_key(pass.fleet);
    let switching = pass
        .running()
        .is_some_and(|rollout| rollout.phase == Phase::Switching);
    unseen
        && switching
        && pass.state().switched()
        && !blue(pass).is_empty()
        && !green(pass).iter().all(|id| pass.judged(id).healthy())
}
