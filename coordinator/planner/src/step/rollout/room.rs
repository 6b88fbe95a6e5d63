//! Making room: there may be nothing on top, or there is no room for it, so the wave's blue leaves
//! first: names, work, machine, as far as enough others serve. Its greens are made when it is gone.

use calvin_model::{DrainReason, InstanceId, fleet::OnDrainTimeout};

use super::greens::blue;
use crate::{
    invariant::InvariantId,
    pass::Pass,
    plan::DeleteBasis,
    state::{Instance, Life, Wave, WaveOrder},
    step::drain::{Drained, drained},
    transition::Cause,
    waves::{Sizing, new_and_old},
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
    let mut there = There {
        serving: pass.serving(),
        leaving: pass.draining(),
    };
    for id in &left {
        let life = pass.instance(id).map(|one| one.life.clone());
        match life {
            Some(Life::Making | Life::Up) => let_go(pass, id, &mut there),
            Some(Life::Draining(_)) => {
                if drain(pass, id) == Phases::Ended {
                    return;
                }
            }
            Some(Life::Retiring(_)) | None => {}
        }
    }
    if go_on_with_less(pass, &left) == Phases::Ended {
        return;
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

/// What may not leave now would hold for ever what has left already, so the wave goes on with as
/// many as left. Where none has, it begins again as soon as there is room for it on top.
fn go_on_with_less(pass: &mut Pass<'_>, left: &[InstanceId]) -> Phases {
    let leaving = |id: &InstanceId| pass.instance(id).is_some_and(Instance::leaving);
    if left.iter().any(leaving) {
        return Phases::Stays;
    }
    let Some(rollout) = pass.running() else {
        return Phases::Stays;
    };
    let sets = rollout.sets.clone();
    let gone: Vec<InstanceId> = sets
        .blue
        .iter()
        .filter(|id| !left.contains(id))
        .cloned()
        .collect();
    let (sets, why) = if gone.is_empty() {
        if !fits_on_top(pass, sets.to_make) {
            return Phases::Stays;
        }
        (Wave::default(), "there is room on top now")
    } else {
        let number = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        let fewer = Wave {
            to_make: sets.to_make.min(number),
            blue: gone,
            ..sets
        };
        (fewer, "it goes on with as many as could leave")
    };
    let progress = pass.state().spec.replace.progress_deadline.0;
    let progress_by = pass.now.after(progress);
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.sets = sets;
        rollout.progress_by = progress_by;
    }
    pass.go(Cause::RoomMade, why);
    Phases::Ended
}

/// Whether the wave would not have to make room if it began now. What it has reserved is its own;
/// where it begins again, it reserves again.
fn fits_on_top(pass: &mut Pass<'_>, reserved: u32) -> bool {
    let mut ledger = std::mem::take(&mut pass.ledger);
    let state = pass.state();
    ledger.release(state, reserved);
    let size = state.running().and_then(|rollout| {
        let (new, old) = new_and_old(state, &rollout.to);
        let fits = ledger.room(state).fits;
        Sizing::of_rollout(state, rollout).next(new, old, fits)
    });
    let fits = size.is_some_and(|size| size.order == WaveOrder::GreenFirst);
    if !fits {
        ledger.reserve(state, reserved);
    }
    pass.ledger = ledger;
    fits
}

/// How many serve, and how many are on their way to be deleted: counted once.
#[derive(Debug)]
struct There {
    serving: usize,
    leaving: u32,
}

/// Lets a blue leave, if it is not missed and may be deleted.
fn let_go(pass: &mut Pass<'_>, id: &InstanceId, there: &mut There) {
    let (serving, least) = (there.serving, pass.state().must_serve());
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
    if pass.may_delete(there.leaving) {
        pass.leave(id, DrainReason::Replaced, "it makes room for green");
        there.serving -= usize::from(serves);
        there.leaving += u32::from(pass.drains(id));
    }
}

/// Whether the phase has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phases {
    Stays,
    Ended,
}

fn drain(pass: &mut Pass<'_>, id: &InstanceId) -> Phases {
    let why = match drained(pass, id) {
        Drained::Waits => return Phases::Stays,
        Drained::Done => "it makes room for green".to_owned(),
        Drained::TimedOut(left) => match pass.state().spec.drain.on_timeout {
            OnDrainTimeout::Hold => return Phases::Stays,
            OnDrainTimeout::Force => format!("its time to drain is up: {left}"),
            OnDrainTimeout::Back => {
                pass.go_back(&format!("{id} is not drained in time: {left}"));
                return Phases::Ended;
            }
        },
    };
    if pass.may_delete(0) {
        pass.retire(id, DeleteBasis::Replaced, &why);
    }
    Phases::Stays
}
