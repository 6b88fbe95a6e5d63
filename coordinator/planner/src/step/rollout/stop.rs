//! Stopping, in exclusive fleets: what is at work is told to stop, and green begins only when that is
//! known to have happened. What cannot be reached is waited for without end: nobody knows what it
//! does. Going back meanwhile lets blue go on.

use calvin_model::InstanceId;

use super::greens::{green, why_not_healthy};
use crate::{
    pass::Pass,
    step::exclusive::{is_exclusive, say_waits, stop},
    transition::Cause,
};

/// Whether somebody else of an exclusive fleet may be at work, so that green must wait.
pub(super) fn comes_first(pass: &Pass<'_>) -> bool {
    let goes_back = pass.running().is_some_and(|rollout| rollout.from.is_some());
    is_exclusive(pass) && goes_back && !others_at_work(pass).is_empty()
}

fn others_at_work(pass: &Pass<'_>) -> Vec<InstanceId> {
    let greens = green(pass);
    let instances = pass.state().instances.iter();
    instances
        .filter(|(id, one)| one.may_work() && !greens.contains(id))
        .map(|(id, _)| id.clone())
        .collect()
}

pub(crate) fn step(pass: &mut Pass<'_>) {
    let broken = green(pass).into_iter().find(|id| {
        let gone = pass.instance(id).is_none_or(|green| green.leaving());
        gone || pass.judged(id).failing()
    });
    if let Some(id) = broken {
        let why = why_not_healthy(pass, &id);
        pass.go_back(&format!(
            "green is not healthy while blue is stopped: {id}: {why}"
        ));
        return;
    }
    let at_work = others_at_work(pass);
    for id in &at_work {
        stop(pass, id, "green is ready, and never two may be at work");
        say_waits(pass, id, "green's work");
    }
    if at_work.is_empty() {
        let progress = pass.state().spec.replace.progress_deadline.0;
        let progress_by = pass.now.after(progress);
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.progress_by = progress_by;
        }
        pass.go(Cause::Stopped, "nobody else is at work");
    }
}
