//! What only the world can judge. The planner's own rules see what the planner sees: where it
//! misjudges an instance they misjudge it, too. Here stands what was true.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_engine::{
    PassOutcome,
    ports::{AgentLink as _, Probe as _},
};
use calvin_lifecycle::Lifecycle;
use calvin_model::{CatalogueRole, FleetName, Health, InstanceId};
use calvin_planner::{
    DeleteBasis, FleetReport, InstanceClass, InvariantId, Life, MachineState, Phase,
    judge::{FRESH_INTERVALS, PROBE_FRESH},
    sums::witnesses_needed,
};

use super::World;
use crate::{
    check::Rule,
    event::{Event, MachineNumber},
    machine::{Machine, Making},
    scenario::fleet_name,
};

/// The decision clock counts whole milliseconds, and each start begins within one.
const CLOCK_SLACK: Duration = Duration::from_millis(100);

/// What is kept to judge the coordinator by.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// When the coordinator last heard of each instance, over all its runs.
    pub(crate) heard: BTreeMap<InstanceId, Duration>,
    /// Machines that nobody asked for.
    pub(crate) strays: BTreeSet<InstanceId>,
    /// Time in which somebody could decide.
    could_decide: Duration,
    /// The newest pass of this run that decided, or its start.
    decided_at: Option<Duration>,
    /// What this run's newest pass left; `None` before its first.
    left: Option<Left>,
}

/// What a pass left, as far as changes of it are judged.
#[derive(Debug, Default)]
struct Left {
    phase: Option<Phase>,
    /// Those that were taken for lost, and are to be replaced or removed.
    lost: BTreeSet<InstanceId>,
}

impl World {
    /// A run of the coordinator begins.
    pub(super) fn begin_to_judge(&mut self) {
        self.truth.decided_at = Some(self.now());
        self.truth.left = None;
    }

    /// A run of the coordinator has crashed. In the middle of a pass its clock had gone on, and may
    /// have been committed.
    pub(super) fn end_to_judge(&mut self) {
        let in_a_pass = self.store.crashed || self.fuse.is_burnt();
        if let Some(before) = self.truth.decided_at.take().filter(|_| in_a_pass) {
            self.truth.could_decide += self.now().saturating_sub(before);
        }
    }

    /// Judges what a pass did, by what was true at that moment.
    pub(crate) fn judge(&mut self, outcome: PassOutcome) {
        let now = self.now();
        if let Some(before) = self.truth.decided_at {
            self.truth.could_decide += now.saturating_sub(before);
        }
        self.truth.decided_at = match outcome {
            PassOutcome::Decided { .. } => Some(now),
            PassOutcome::Held | PassOutcome::Stopped => None,
        };
        self.check_clock();
        let left = self.left();
        if let Some(before) = self.truth.left.take() {
            let lost: Vec<InstanceId> = left.lost.difference(&before.lost).cloned().collect();
            for instance in lost {
                self.check_loss(&instance);
            }
            if (before.phase, left.phase) == (Some(Phase::Baking), Some(Phase::Draining)) {
                self.check_bake();
            }
        }
        self.truth.left = Some(left);
    }

    /// The decision clock counts no time in which nobody could decide: no deadline is used up then.
    fn check_clock(&mut self) {
        let moment = Duration::from_millis(self.store.stored.moment.ms);
        let could_decide = self.truth.could_decide;
        if moment > could_decide + CLOCK_SLACK {
            let text = format!("{moment:?}, somebody could decide for {could_decide:?}");
            self.broken(Rule::ClockStandsStillWhileAway, text);
        }
    }

    fn left(&self) -> Left {
        let Some(fleet) = self.store.stored.fleets.get(&fleet_name()) else {
            return Left::default();
        };
        let lost = fleet.instances.iter();
        let lost = lost.filter(|(_, one)| {
            let marked = one.replace == Some(DeleteBasis::Lost);
            marked || one.life == Life::Retiring(DeleteBasis::Lost)
        });
        Left {
            phase: fleet.running().map(|rollout| rollout.phase),
            lost: lost.map(|(id, _)| id.clone()).collect(),
        }
    }

    /// A machine that runs is taken for lost only after a long silence that most others do not
    /// share: no other source spoke against it.
    fn check_loss(&mut self, instance: &InstanceId) {
        let runs = self.running(instance).is_some();
        let Some(fleet) = self.store.stored.fleets.get(&fleet_name()).filter(|_| runs) else {
            return;
        };
        let silent_after = fleet.spec.repair.silent_after.0;
        let heard = self.truth.heard.get(instance).copied().unwrap_or_default();
        let silent_for = self.now().saturating_sub(heard);
        let others = fleet.instances.iter();
        let others = others.filter(|(id, one)| *id != instance && one.life == Life::Up);
        let (mut all, mut alive) = (0, 0);
        for (id, _) in others {
            all += 1;
            alive += usize::from(self.link.sessions.contains_key(id));
        }
        if silent_for <= silent_after || alive < witnesses_needed(all) {
            let text = format!(
                "{instance} is taken for lost and runs: silent for {silent_for:?}, {alive} of {all} others answer"
            );
            let rule = InvariantId::NoDeleteWithoutTwoSourcesOrOrder;
            self.broken(Rule::Planner(rule), text);
        }
    }

    /// Whoever is called healthy has said so freshly: the planner's own rules believe its judgement.
    pub(crate) fn check_said(&mut self, reports: &BTreeMap<FleetName, FleetReport>) {
        let seen = self.link.observe();
        let fresh = self.link.report_interval() * FRESH_INTERVALS;
        let called = reports
            .values()
            .flat_map(|report| &report.instances)
            .filter(|(_, one)| one.class == InstanceClass::Healthy);
        let unsaid: Vec<&InstanceId> = called
            .map(|(instance, _)| instance)
            .filter(|instance| {
                let said = seen.get(*instance).and_then(|seen| seen.agent.as_ref());
                !said.is_some_and(|said| said.age <= fresh && said.report.health == Health::Healthy)
            })
            .collect();
        for instance in unsaid {
            let text = format!("{instance} is called healthy and has not said so freshly");
            self.broken(Rule::HealthyOnlyWhenSaid, text);
        }
    }

    /// Blue leaves only when every green answers, or nobody could know yet that it does not.
    fn check_bake(&mut self) {
        let now = self.now();
        let fleet = self.store.stored.fleets.get(&fleet_name());
        let greens = fleet
            .and_then(|fleet| fleet.running())
            .map(|rollout| rollout.sets.green.clone())
            .unwrap_or_default();
        let seen = self.link.observe();
        let probed = self.probe.results();
        let fresh = self.link.report_interval() * FRESH_INTERVALS;
        for green in greens {
            let answers = self
                .running(&green)
                .is_some_and(|number| self.machine(number).answers(now));
            let said = seen.get(&green).and_then(|seen| seen.agent.as_ref());
            let said =
                said.is_some_and(|said| said.age <= fresh && said.report.health == Health::Healthy);
            let probe = probed.get(&green);
            let reached = probe.is_some_and(|probe| probe.age <= PROBE_FRESH && probe.passing);
            if !answers && !said && !reached {
                let text = format!("blue leaves, and {green} does not answer");
                let rule = InvariantId::BlueStaysUntilGreenIsProven;
                self.broken(Rule::Planner(rule), text);
            }
        }
    }

    /// What cannot stay healthy is never found under its service's own name.
    pub(super) fn check_who_entered(&mut self) {
        let entered: Vec<InstanceId> = self
            .served
            .entries
            .iter()
            .filter(|entry| match entry.role {
                CatalogueRole::Entered | CatalogueRole::Active => true,
                CatalogueRole::Absent | CatalogueRole::Standby => false,
            })
            .map(|entry| entry.instance.clone())
            .collect();
        for instance in entered {
            let number = self.by_instance.get(&instance);
            if number.is_some_and(|number| self.machine(*number).is_unfit()) {
                let text = format!("{instance} is found and cannot stay healthy");
                self.broken(Rule::Planner(InvariantId::UnprovenNeverServes), text);
            }
        }
    }

    /// An agent never goes back to an older wanted state, in whatever order they arrive.
    pub(super) fn check_generation(&mut self, number: MachineNumber) {
        let machine = self.machine_mut(number);
        let Some((_, seen)) = machine.agent.as_ref().map(Lifecycle::seen) else {
            return;
        };
        let before = machine.generation;
        machine.generation = seen;
        if seen < before {
            let text = format!("{}: {seen} after {before}", machine.instance);
            self.broken(Rule::Planner(InvariantId::GenerationNeverGoesBack), text);
        }
    }

    /// Whoever had an identity and is gone has none any more.
    pub(crate) fn check_identities(&mut self, records: &[InstanceId]) {
        let left: Vec<InstanceId> = self
            .machines
            .iter()
            .filter(|machine| machine.enrolled && !records.contains(&machine.instance))
            .map(|machine| machine.instance.clone())
            .filter(|instance| !self.link.revoked.contains(instance))
            .collect();
        for instance in left {
            let text = format!("{instance} is gone, its identity is not revoked");
            self.broken(Rule::NothingLeakedOnceQuiet, text);
        }
    }

    /// Machines that a coordinator asked for.
    pub(crate) fn own_machines(&self) -> Vec<InstanceId> {
        let strays = &self.truth.strays;
        let own = self.by_instance.keys();
        own.filter(|id| !strays.contains(*id)).cloned().collect()
    }

    /// There is a machine with our tag that no coordinator ever asked for.
    pub(crate) fn add_stray(&mut self) {
        let serial = self.next_serial();
        let instance = InstanceId::new(&fleet_name(), serial);
        let Some((spec, behaviour)) = self
            .images
            .known
            .values()
            .next()
            .map(|image| (image.spec.clone(), image.behaviour))
        else {
            return;
        };
        let number = MachineNumber(self.machines.len());
        let last = u32::try_from(number.0 + 1).unwrap_or(u32::MAX);
        let mut machine = Machine::new(Making {
            instance: instance.clone(),
            address: std::net::Ipv4Addr::from(0x7f01_0000_u32.saturating_add(last)).into(),
            spec,
            behaviour,
            boot: super::coordinator::boot_id(serial),
            clock_offset: Duration::from_secs(serial),
        });
        machine.state = MachineState::Running;
        self.note(format_args!("{instance} is there, and nobody asked for it"));
        self.machines.push(machine);
        self.by_instance.insert(instance.clone(), number);
        self.truth.strays.insert(instance);
        self.start_agent(number);
    }

    /// For so long the coordinator reaches no machine, and the provider lists none.
    pub(crate) fn black_out(&mut self, time: Duration) {
        let until = self.now() + time;
        self.note(format_args!("nothing is reached or listed for {time:?}"));
        self.lists_nothing_until = until;
        let instances: Vec<InstanceId> = self.by_instance.keys().cloned().collect();
        for instance in instances {
            self.network.cut(&instance);
            self.lose_session(&instance);
            self.queue.put(until, Event::Heal(instance));
        }
    }
}
