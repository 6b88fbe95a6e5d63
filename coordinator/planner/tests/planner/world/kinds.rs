//! What the kinds of fleets mean in the world: who is at work, and who votes.

use calvin_model::{InstanceId, WorkloadState, fleet::FleetKind};
use calvin_planner::{FleetState, MachineState};

use super::World;

impl World {
    /// Machines that are at work: their workload runs and pulls its work.
    pub(crate) fn at_work(&self) -> Vec<InstanceId> {
        let machines = self.machines.iter();
        let working = machines.filter(|(_, machine)| {
            machine.state == MachineState::Running
                && machine.pulls
                && machine.agent.report.workload == WorkloadState::Running
        });
        working.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn exclusive_never_twice(&self) {
        let exclusive = |fleet: &FleetState| fleet.spec.kind == FleetKind::Exclusive;
        if self.fleets.values().any(exclusive) {
            let at_work = self.at_work();
            assert!(at_work.len() <= 1, "{at_work:?}\n{}", self.story());
        }
    }
}
