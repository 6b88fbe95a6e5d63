//! Rolling back: blue is told active and found as active again, in the same change of the
//! catalogue green leaves; green drains once its names are gone and had their time, then it goes.
//!
//! Where a blue has to begin its work first, or no blue is known to be healthy, green stays for as
//! long as any of it serves.

use calvin_model::{CatalogueRole, DrainReason, InstanceId, Role, image::Work};

use super::greens::{blue, green, why_not_healthy};
use crate::{
    invariant::InvariantId,
    pass::Pass,
    plan::EventKind,
    state::{Life, NextRollout},
    transition::Cause,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    restore(pass);
    let ready: Vec<InstanceId> = blue(pass)
        .into_iter()
        .filter(|id| ready(pass, id))
        .collect();
    let serving_green = green(pass).iter().any(|id| {
        pass.judged(id).serves()
            && pass
                .instance(id)
                .is_some_and(|green| green.catalogue == CatalogueRole::Active)
    });
    let serving_blue = ready.iter().any(|id| pass.judged(id).serves());
    if serving_green && !serving_blue {
        let fact = blue(pass).first().map_or_else(
            || "nothing is left of blue".to_owned(),
            |id| format!("{id}: {}", why_not_healthy(pass, id)),
        );
        let what = "green goes on serving: no blue is known to be healthy".to_owned();
        pass.hold(InvariantId::ServingCapacityNeverBelowMinimum, what, fact);
        return;
    }
    switch_back(pass, &ready);
    finish(pass);
}

/// Takes back whatever blue was told since the switch.
fn restore(pass: &mut Pass<'_>) {
    for id in blue(pass) {
        let Some(instance) = pass.instance(&id) else {
            continue;
        };
        match instance.life {
            Life::Draining(DrainReason::Replaced) => pass.live(&id, Life::Up),
            Life::Making | Life::Retiring(_) | Life::Draining(_) => continue,
            Life::Up => {}
        }
        // A blue that was made meanwhile, for one that was lost, has to prove itself first.
        if pass.instance(&id).is_some_and(|blue| blue.proven) {
            pass.want(&id, Role::Active, None);
        }
    }
}

/// Whether a blue may be active again: a workload that pulls its work has to be healthy at it.
fn ready(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let Some(instance) = pass.instance(id) else {
        return false;
    };
    if instance.leaving() || !instance.proven || pass.judged(id).failing() {
        return false;
    }
    match instance.build.work {
        Work::Boot => true,
        Work::OnActive => {
            instance.catalogue == CatalogueRole::Active
                || (instance.wanted_since < pass.now && pass.judged(id).healthy_in_role())
        }
    }
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
    for id in green(pass) {
        pass.leave(&id, DrainReason::RolledBack, "the rollout goes back");
    }
}

/// Ends when nothing is left of green and clients find blue.
fn finish(pass: &mut Pass<'_>) {
    let since = pass
        .running()
        .map_or(pass.now, |rollout| rollout.phase_since);
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
            let able = pass.instance(id).is_some_and(|blue| blue.proven);
            let active = pass
                .instance(id)
                .is_some_and(|blue| blue.catalogue == CatalogueRole::Active);
            able && !pass.judged(id).failing() && !(active && pass.read_back(id))
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
        let what = format!("{missing} of blue to be read back as active");
        pass.wait(what, pass.now.since(since), None);
    }
    if left == 0 && missing == 0 {
        pass.go(Cause::Restored, "the old image serves");
        go_all_the_way_back(pass);
    }
}

/// Earlier waves of this rollout run the new image and have no blue any more: they go back by a
/// rollout of their own. One that the planner started itself is not turned around again.
fn go_all_the_way_back(pass: &mut Pass<'_>) {
    let state = pass.state();
    let (Some(rollout), None) = (&state.rollout, &state.next) else {
        return;
    };
    let Some(from) = rollout.from.clone() else {
        return;
    };
    let replaced = state
        .instances
        .values()
        .any(|instance| !instance.leaving() && instance.build.image == rollout.to.image);
    if !replaced || rollout.started_by == crate::PLANNER {
        return;
    }
    let reason = format!(
        "earlier waves of {} run {}: {}",
        rollout.id,
        rollout.to.image,
        rollout.reason.as_deref().unwrap_or("it went back")
    );
    pass.change().next = Some(NextRollout {
        build: from,
        by: crate::PLANNER.to_owned(),
        reason: Some(reason),
    });
}
