//! What the kinds of fleets mean in the world: who is at work, and who votes.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{FleetName, InstanceId, QuorumReport, WorkloadState, fleet::FleetKind};
use calvin_planner::{FleetPlan, FleetState, MachineState};

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

    /// Of whom a lock says that his work has stopped, it has.
    pub(super) fn locks_say_what_is(&self, made: &BTreeMap<FleetName, FleetPlan>) {
        let at_work = self.at_work();
        let events = made.values().flat_map(|fleet| &fleet.events);
        for event in events.filter(|event| event.text.contains("it has lost the lock")) {
            let id = event.instance.as_ref().unwrap();
            assert!(!at_work.contains(id), "{id}\n{}", self.story());
        }
    }

    /// What a member of the world's quorum says: every machine that was made and does not only learn is
    /// a member until it is deleted, those that run vote, and the oldest leads.
    pub(super) fn votes(&self, id: &InstanceId) -> Option<QuorumReport> {
        let machine = self.machines.get(id)?;
        let says = !machine.agent.quorum_fails && machine.agent.report.sequence > 0;
        let members = || self.machines.iter().filter(|(_, one)| !one.agent.learns);
        let alive = || members().filter(|(_, machine)| machine.state == MachineState::Running);
        let members = u32::try_from(members().count()).ok()?;
        says.then(|| QuorumReport {
            voters: u32::try_from(alive().count()).unwrap_or(u32::MAX),
            needed: members / 2 + 1,
            leader: alive()
                .min_by_key(|(first, machine)| (machine.made_at, *first))
                .is_some_and(|(first, _)| first == id),
            caught_up: !machine.agent.learns && machine.made_at + self.catch_up_ms <= self.ms,
            age: Duration::ZERO,
        })
    }
}
