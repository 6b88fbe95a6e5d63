//! What is asked of the world, and what goes wrong in it.

use calvin_model::{CatalogueRole, InstanceId};
use calvin_planner::{FleetReport, FleetState, Instance, MachineState, Phase};

use super::{Agent, World, web};

impl World {
    pub(crate) fn web(&self) -> &FleetState {
        &self.fleets[&web()]
    }

    pub(crate) fn report(&self) -> &FleetReport {
        &self.reports[&web()]
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        let rollout = self.fleets.get(&web())?.rollout.as_ref()?;
        Some(rollout.phase)
    }

    /// The instances that serve: found as active, of that version.
    pub(crate) fn active(&self, version: &str) -> Vec<InstanceId> {
        let roles = self.catalogue.get(&web()).cloned().unwrap_or_default();
        let active = roles
            .into_iter()
            .filter(|(id, role)| *role == CatalogueRole::Active && !self.hidden.contains(id));
        active
            .map(|(id, _)| id)
            .filter(|id| {
                self.machines
                    .get(id)
                    .is_some_and(|one| one.version == version)
            })
            .collect()
    }

    pub(crate) fn staying(&self) -> Vec<(&InstanceId, &Instance)> {
        let all = self.web().instances.iter();
        all.filter(|(_, instance)| !instance.leaving()).collect()
    }

    pub(crate) fn agent(&mut self, id: &InstanceId) -> &mut Agent {
        &mut self.machines.get_mut(id).unwrap().agent
    }

    pub(crate) fn kill_agent(&mut self, id: &InstanceId) {
        let ms = self.ms;
        self.agent(id).ended_at = Some(ms);
    }

    pub(crate) fn revive_agent(&mut self, id: &InstanceId) {
        self.agent(id).ended_at = None;
    }

    /// Lets every agent run again that has a machine and an identity.
    pub(crate) fn revive_unrevoked(&mut self) {
        for (id, machine) in &mut self.machines {
            if machine.state == MachineState::Running && !self.revoked.contains(id) {
                machine.agent.ended_at = None;
            }
        }
    }

    pub(crate) fn kill_machine(&mut self, id: &InstanceId) {
        self.end_machine(id, MachineState::Absent);
    }

    /// Ends all that runs on a machine. One that is not there any more does not come back.
    pub(crate) fn end_machine(&mut self, id: &InstanceId, state: MachineState) {
        let ms = self.ms;
        let machine = self.machines.get_mut(id).unwrap();
        if machine.state == MachineState::Absent {
            return;
        }
        machine.state = state;
        machine.agent.ended_at.get_or_insert(ms);
        machine.workload_answers = false;
    }

    pub(crate) fn cut_path(&mut self, id: &InstanceId) {
        let ms = self.ms;
        self.machines.get_mut(id).unwrap().path_cut_at = Some(ms);
    }
}
