//! Gates: before the switch and before blue leaves, persons approve. A gate is asked for once per
//! rollout, at its first wave: what they approve is the image, seen to be healthy, and later waves
//! bring the same. While they are waited for, greens are watched as before.
//!
//! Nobody is waited for longer than `approval_timeout`, over all flaps: then the rollout goes back.

use calvin_model::{DrainReason, fleet::Gate};

use super::{
    bake,
    greens::{Progress, blue, broken, give_up_failed, green, why_not_healthy},
    held::approved,
    soak::enough,
};
use crate::{pass::Pass, report::InstanceClass, transition::Cause};

/// Every green has soaked: on to the switch, or to who decides about it.
pub(crate) fn soaked(pass: &mut Pass<'_>, why: &str) {
    if !approved(pass, Gate::Switch) {
        ask(pass, why);
        return;
    }
    if !may_switch(pass) {
        return;
    }
    restart_progress(pass);
    // Who is asked at the next gate has a time of their own.
    if pass
        .running()
        .is_some_and(|rollout| rollout.asked.is_some())
        && let Some(rollout) = &mut pass.change().rollout
    {
        rollout.asked = None;
    }
    pass.go(Cause::Soaked, why);
}

/// Whether nothing holds the switch. Says what does.
fn may_switch(pass: &mut Pass<'_>) -> bool {
    let Some(held) = pass.running_held() else {
        return true;
    };
    pass.say_held("traffic is not switched", &held);
    false
}

fn ask(pass: &mut Pass<'_>, why: &str) {
    let now = pass.now;
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.asked.get_or_insert(now);
    }
    pass.go(Cause::NeedsApproval, why);
}

/// What comes after a wait for persons has as much time as it would have had without it.
fn restart_progress(pass: &mut Pass<'_>) {
    let progress = pass.state().spec.replace.progress_deadline.0;
    let progress_by = pass.now.after(progress);
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.progress_by = progress_by;
    }
}

pub(crate) fn await_switch(pass: &mut Pass<'_>) {
    if give_up_failed(pass) == Progress::Ended {
        restart_progress(pass);
        return;
    }
    let approved = approved(pass, Gate::Switch);
    if let Some(why) = flapped(pass, approved) {
        restart_progress(pass);
        pass.go(Cause::Flapped, &why);
        return;
    }
    if !approved {
        wait(pass, Gate::Switch);
    } else if may_switch(pass) {
        passed(pass, Gate::Switch);
    }
}

/// The green that does not have its soak any more, and why. One of which nothing is known keeps
/// the wait as it is, until the switch is to begin: that needs a fresh word of each.
fn flapped(pass: &Pass<'_>, approved: bool) -> Option<String> {
    let enough = enough(pass);
    green(pass).iter().find_map(|id| {
        let judgement = pass.judged(id);
        let soaked = judgement.healthy_for.is_some_and(|long| long >= enough);
        let unknown = match judgement.class {
            InstanceClass::Healthy | InstanceClass::Unhealthy | InstanceClass::Lost => false,
            InstanceClass::Starting
            | InstanceClass::Unknown
            | InstanceClass::Unmanaged
            | InstanceClass::Leaving => !approved,
        };
        (!soaked && !unknown).then(|| format!("{id}: {}", why_not_healthy(pass, id)))
    })
}

fn passed(pass: &mut Pass<'_>, gate: Gate) {
    let Some(rollout) = pass.running() else {
        return;
    };
    let who: Vec<String> = rollout
        .approvals
        .iter()
        .filter(|one| one.gate == gate)
        .map(|one| one.by.clone())
        .collect();
    restart_progress(pass);
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.asked = None;
    }
    pass.go(
        Cause::Approved,
        &format!("approved by {}", who.join(" and ")),
    );
}

/// Waits for persons, and goes back when they had their time.
fn wait(pass: &mut Pass<'_>, gate: Gate) {
    let timeout = pass.state().spec.replace.approval_timeout;
    let missing = pass.approvals_missing(gate);
    let fleet = pass.fleet;
    let Some(rollout) = pass.running() else {
        return;
    };
    let since = rollout.asked.unwrap_or(rollout.phase_since);
    let of = rollout.gates.approvals;
    let until = since.after(timeout.0);
    let counted = pass.counted();
    if until.reached(counted) {
        let why = format!(
            "{missing} of {of} approvals of the {gate} are missing after approval_timeout {timeout}"
        );
        pass.go_back(&why);
        return;
    }
    let what =
        format!("{missing} of {of} persons to approve the {gate}: calvin rollout approve {fleet}");
    let since = pass.now.since(since);
    let until = pass.now.after(until.left(counted));
    pass.wait(what, since, Some((until, "the rollout goes back")));
}

/// Green has baked: blue leaves, or somebody decides about it.
pub(crate) fn baked(pass: &mut Pass<'_>) {
    let why = "green was healthy under traffic";
    if !approved(pass, Gate::Retire) {
        ask(pass, why);
    } else if leave(pass) == Leaves::Now {
        pass.go(Cause::Baked, why);
    }
}

/// Whether blue leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Now,
    /// The others of its quorum could not do without it.
    NotYet,
}

fn leave(pass: &mut Pass<'_>) -> Leaves {
    let why = "green has proved itself";
    let blues = blue(pass);
    let kept = blues.iter().any(|id| {
        let stays = pass.instance(id).is_some_and(|one| !one.leaving());
        stays && pass.must_stay(id, why)
    });
    if kept {
        return Leaves::NotYet;
    }
    for id in blues {
        pass.leave(&id, DrainReason::Replaced, why);
    }
    Leaves::Now
}

pub(crate) fn await_retire(pass: &mut Pass<'_>) {
    if let Some(why) = broken(pass) {
        pass.go_back(&format!("green is not healthy while blue waits: {why}"));
        return;
    }
    if !approved(pass, Gate::Retire) {
        wait(pass, Gate::Retire);
    } else if bake::all_known_healthy(pass) && leave(pass) == Leaves::Now {
        passed(pass, Gate::Retire);
    }
}
