//! Deletes a fleet: every instance leaves, and a rollout that runs has nothing left to do.

use calvin_model::{DrainReason, InstanceId};

use crate::{pass::Pass, transition::Cause};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if !pass.state().deleting {
        return;
    }
    if pass.holds_others("the fleet is not deleted") {
        return;
    }
    if pass.running().is_some() {
        pass.go(Cause::FleetDeleted, "the fleet is being deleted");
    }
    let staying: Vec<InstanceId> = pass
        .state()
        .instances
        .iter()
        .filter(|(_, instance)| !instance.leaving())
        .map(|(id, _)| id.clone())
        .collect();
    for id in staying {
        pass.leave(&id, DrainReason::FleetDeleted, "the fleet is being deleted");
    }
}
