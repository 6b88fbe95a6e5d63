//! Making room: there may be nothing on top, or there is no room for it, so the wave's blue leaves
//! first: names, work, machine, as far as enough others serve. Its greens are made when it is gone.

use calvin_model::{DrainReason, InstanceId, fleet::OnDrainTimeout};

use super::greens::blue;
use crate::{
    invariant::InvariantId,
    pass::Pass,
    plan::DeleteBasis,
    state::Life,
    step::drain::{Drained, drained},
    transition::Cause,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let left = blue(pass);
    if left.is_empty() {
        // Greens have their whole time from here.
        let progress = pass.state().spec.replace.progress_deadline.0;
        let progress_by = pass.now.after(progress);
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.progress_by = progress_by;
        }
        pass.go(Cause::RoomMade, "nothing is left of what it replaces");
        return;
    }
    for id in &left {
        let life = pass.instance(id).map(|one| one.life.clone());
        match life {
            Some(Life::Making | Life::Up) => let_go(pass, id),
            Some(Life::Draining(_)) => {
                if drain(pass, id) == Goes::Back {
                    return;
                }
            }
            Some(Life::Retiring(_)) | None => {}
        }
    }
    let since = pass
        .running()
        .map_or(pass.now, |rollout| rollout.phase_since);
    let remark = pass.running().and_then(|one| one.sets.remark.clone());
    let mut what = format!("{} to make room for as many", left.len());
    if let Some(remark) = remark {
        what.push_str(&format!(": {remark}"));
    }
    pass.wait(what, pass.now.since(since), None);
}

/// Lets a blue leave, if it is not missed and may be deleted.
fn let_go(pass: &mut Pass<'_>, id: &InstanceId) {
    let (serving, least) = (pass.serving(), pass.state().must_serve());
    let serves = pass
        .instance(id)
        .is_some_and(|found| pass.counts_as_serving(id, found));
    if serves && serving <= least {
        pass.hold(
            InvariantId::ServingCapacityNeverBelowMinimum,
            format!("{id} does not make room yet"),
            format!("only {serving} are known to serve, and {least} must"),
        );
        return;
    }
    if pass.may_delete(pass.draining()) {
        pass.leave(id, DrainReason::Replaced, "it makes room for green");
    }
}

/// Whether a rollout goes on or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    Back,
}

fn drain(pass: &mut Pass<'_>, id: &InstanceId) -> Goes {
    let why = match drained(pass, id) {
        Drained::Waits => return Goes::On,
        Drained::Done => "it makes room for green".to_owned(),
        Drained::TimedOut(left) => match pass.state().spec.drain.on_timeout {
            OnDrainTimeout::Hold => return Goes::On,
            OnDrainTimeout::Force => format!("its time to drain is up: {left}"),
            OnDrainTimeout::Back => {
                pass.go_back(&format!("{id} is not drained in time: {left}"));
                return Goes::Back;
            }
        },
    };
    if pass.may_delete(0) {
        pass.retire(id, DeleteBasis::Replaced, &why);
    }
    Goes::On
}
