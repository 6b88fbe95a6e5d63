//! Who works, in truth: never two machines for one instance, never two of an exclusive fleet, whatever
//! anybody was told or believes.

use std::collections::BTreeSet;

use calvin_model::{FleetName, fleet::FleetKind};
use calvin_planner::InvariantId;

use super::World;
use crate::{check::Rule, event::MachineNumber, machine::Machine, scenario::Scenario};

/// The fleets of which never two may be at work.
pub(super) fn exclusive(scenario: &Scenario) -> BTreeSet<FleetName> {
    let specs = scenario.specs().filter(|spec| match spec.kind {
        FleetKind::Exclusive => true,
        FleetKind::Service | FleetKind::Quorum => false,
    });
    specs.map(|spec| spec.name.clone()).collect()
}

/// Whether a workload's process is there: from when it runs until it is gone.
fn works(machine: &Machine) -> bool {
    machine.is_up() && machine.at_work
}

impl World {
    /// Another workload runs: does it do so beside one that must not work with it?
    pub(super) fn check_at_work(&self, number: MachineNumber) {
        let machine = self.machine(number);
        if !works(machine) {
            return;
        }
        let fleet = &machine.tag.fleet;
        let alone = self.exclusive.contains(fleet);
        let others = self.machines.iter().enumerate();
        let mut others =
            others.filter(|(place, other)| MachineNumber(*place) != number && works(other));
        let beside = others.find(|(_, other)| {
            other.instance == machine.instance || alone && other.tag.fleet == *fleet
        });
        let Some((_, other)) = beside else {
            return;
        };
        let (rule, text) = if other.instance == machine.instance {
            let text = format!("two machines of {} are at work", machine.instance);
            (InvariantId::OneMachinePerIntent, text)
        } else {
            let text = format!("{} works beside {}", machine.instance, other.instance);
            (InvariantId::ExclusiveNeverTwice, text)
        };
        self.broken(Rule::Planner(rule), text);
    }
}
