//! Provisioning: greens are made, and each becomes healthy in time or is given up.

use calvin_model::InstanceId;

use super::{
    greens::{Progress, give_up_failed, green, why_not_healthy},
    wave,
};
use crate::{pass::Pass, transition::Cause};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let Some(rollout) = pass.running() else {
        return;
    };
    if !rollout.sets.begun() {
        let held = pass.held(rollout.aim, rollout.emergency.as_ref());
        match held {
            Some(held) => pass.say_held("the wave does not begin", &held),
            None => wave::begin(pass),
        }
        return;
    }
    if give_up_failed(pass) == Progress::Ended {
        return;
    }
    // Where every green that there is is healthy and the others wait for a budget or for room, it
    // is no fault of the image.
    let healthy = |id: &InstanceId| pass.judged(id).healthy_in_role();
    let waits_for_others = to_make(pass) > 0 && green(pass).iter().all(healthy);
    if !waits_for_others && past_progress(pass) == Progress::Ended {
        return;
    }
    let deadline = pass.state().spec.replace.healthy_deadline.0;
    let mut healthy = to_make(pass) == 0;
    for id in green(pass) {
        let Some(instance) = pass.instance(&id) else {
            continue;
        };
        if pass.judged(&id).healthy_in_role() {
            continue;
        }
        healthy = false;
        let (created, by) = (instance.created, instance.created.after(deadline));
        let until = (!instance.proven).then_some((by, "it is given up"));
        let what = format!("{id} is not healthy: {}", why_not_healthy(pass, &id));
        pass.wait(what, pass.now.since(created), until);
    }
    if let Some(remark) = pass
        .running()
        .and_then(|rollout| rollout.sets.remark.clone())
    {
        let since = pass
            .running()
            .map_or(pass.now, |rollout| rollout.phase_since);
        pass.wait(remark, pass.now.since(since), None);
    }
    if healthy {
        pass.go(Cause::AllHealthy, "every green is healthy");
    }
}

fn to_make(pass: &Pass<'_>) -> u32 {
    pass.running().map_or(0, |rollout| rollout.sets.to_make)
}

/// Goes back when no green has become healthy for too long.
pub(crate) fn past_progress(pass: &mut Pass<'_>) -> Progress {
    let progress = pass.state().spec.replace.progress_deadline;
    let passed = pass
        .running()
        .is_some_and(|rollout| rollout.progress_by.reached(pass.counted()));
    if !passed {
        return Progress::GoesOn;
    }
    let waits: Vec<String> = green(pass)
        .iter()
        .filter(|id| !pass.judged(id).healthy_in_role())
        .map(|id| format!("{id}: {}", why_not_healthy(pass, id)))
        .collect();
    let first = waits.into_iter().next().or_else(|| not_confirmed(pass));
    let why = format!(
        "no progress within progress_deadline {progress}: {}",
        first.unwrap_or_else(|| "greens did not stay healthy".to_owned())
    );
    pass.go_back(&why);
    Progress::Ended
}

/// Which agent keeps names from being read back, if one does.
pub(super) fn not_confirmed(pass: &Pass<'_>) -> Option<String> {
    if let Some(agent) = pass.catalogue.unconfirmed.first() {
        return Some(format!("{agent} has not confirmed the newest names"));
    }
    (pass.returning > 0).then(|| {
        let many = pass.returning;
        format!("{many} agents have no session at this moment and may serve older names")
    })
}
