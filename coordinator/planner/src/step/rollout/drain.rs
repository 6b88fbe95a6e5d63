//! Draining: blue finishes what it has. All of it leaves together, so that until then the way back
//! is a switch.

use calvin_model::{DrainReason, InstanceId, Mutant, fleet::OnDrainTimeout};

use super::greens::blue;
use crate::{
    invariant::InvariantId,
    pass::Pass,
    plan::DeleteBasis,
    state::{Instance, Life},
    step::drain::{Drained, drained},
    transition::Cause,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let mut all = true;
    for id in blue(pass) {
        // One that had to stay when the others left: nothing to do for one that leaves.
        pass.leave(&id, DrainReason::Replaced, "green has proved itself");
        match drained(pass, &id) {
            Drained::Done => {}
            Drained::Waits => all = false,
            Drained::TimedOut(why) => match pass.state().spec.drain.on_timeout {
                OnDrainTimeout::Force => {}
                OnDrainTimeout::Hold => all &= Mutant::ForceDrainOnHold.lives(),
                OnDrainTimeout::Back if blue_could_serve(pass) => {
                    pass.go_back(&format!("{id} is not drained in time: {why}"));
                    return;
                }
                OnDrainTimeout::Back => {
                    let what = "it does not go back: no blue is known to be healthy".to_owned();
                    pass.hold(InvariantId::ServingCapacityNeverBelowMinimum, what, why);
                    all = false;
                }
            },
        }
    }
    if !all {
        return;
    }
    for id in blue(pass) {
        // What the budget does not allow now is removed as soon as it does.
        if is_retiring(pass, &id) || pass.may_delete(0) {
            pass.retire(&id, DeleteBasis::Replaced, "green serves in its place");
        }
    }
    pass.go(Cause::Drained, "blue has finished what it had");
}

fn is_retiring(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let retiring = |one: &Instance| matches!(one.life, Life::Retiring(_));
    pass.instance(id).is_some_and(retiring)
}

fn blue_could_serve(pass: &Pass<'_>) -> bool {
    blue(pass).iter().any(|id| pass.judged(id).serves())
}
