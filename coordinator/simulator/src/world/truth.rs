//! What only the world can judge. The planner's own rules see what the planner sees: where it
//! misjudges an instance they misjudge it, too. Here stands what was true.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_engine::{
    PassOutcome,
    ports::{AgentLink as _, MachineTag, Probe as _},
};
use calvin_lifecycle::Lifecycle;
use calvin_model::{CatalogueRole, FleetName, Health, InstanceId};
use calvin_planner::{
    DeleteBasis, FleetReport, FleetState, InstanceClass, InvariantId, Life, MachineState, Phase,
    judge::{FRESH_INTERVALS, PROBE_FRESH},
    sums::{list_is_short, witnesses_needed},
};

use super::{World, cloud::boot_id};
use crate::{
    check::Rule,
    desk::{Desk, DeskNumber},
    event::{Event, MachineNumber},
    fault::Fault,
    machine::{Machine, Making},
    network::Cut,
};

/// The decision clock counts whole milliseconds, and each start begins within one.
const CLOCK_SLACK: Duration = Duration::from_millis(100);
/// A clock that is too fast is so by less than one second in so many.
const FASTER_BY: u32 = 100;

/// What is kept to judge the coordinators by.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// When each coordinator last heard of each instance.
    pub(super) heard: BTreeMap<(DeskNumber, InstanceId), Duration>,
    /// Machines that nobody asked for.
    pub(super) strays: BTreeSet<InstanceId>,
    /// Nobody's clock is too fast, and there is one coordinator at a time.
    one_time: bool,
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
    phases: BTreeMap<FleetName, Phase>,
    /// Those that were taken for lost, and are to be replaced or removed.
    lost: BTreeSet<InstanceId>,
}

impl Left {
    fn by(fleets: &BTreeMap<FleetName, FleetState>) -> Self {
        let mut left = Self::default();
        for (name, fleet) in fleets {
            if let Some(rollout) = fleet.running() {
                left.phases.insert(name.clone(), rollout.phase);
            }
            let lost = fleet.instances.iter().filter(|(_, one)| {
                let marked = one.replace == Some(DeleteBasis::Lost);
                marked || one.life == Life::Retiring(DeleteBasis::Lost)
            });
            left.lost.extend(lost.map(|(id, _)| id.clone()));
        }
        left
    }
}

impl Truth {
    pub(super) fn new(faults: &BTreeSet<Fault>) -> Self {
        let times = [Fault::ClockDrift, Fault::OldCoordinator];
        Self {
            one_time: !times.iter().any(|fault| faults.contains(fault)),
            ..Self::default()
        }
    }
}

impl World {
    /// A run of the coordinator begins.
    pub(super) fn begin_to_judge(&mut self) {
        self.truth.decided_at = Some(self.now());
        self.truth.left = None;
    }

    /// A run of the coordinator is gone. In the middle of a pass its clock had gone on, and may
    /// have been committed.
    pub(super) fn end_to_judge(&mut self, desk: &Desk) {
        let in_a_pass = desk.store.crashed || desk.fuse.is_burnt();
        if let Some(before) = self.truth.decided_at.take().filter(|_| in_a_pass) {
            self.truth.could_decide += self.now().saturating_sub(before);
        }
    }

    /// Judges what a pass did, by what was true at that moment.
    pub(crate) fn judge(&mut self, number: DeskNumber, outcome: PassOutcome) {
        if !self.is_newest(number) {
            return;
        }
        let now = self.now();
        if let Some(before) = self.truth.decided_at {
            self.truth.could_decide += now.saturating_sub(before);
        }
        self.truth.decided_at = match outcome {
            PassOutcome::Decided { .. } => Some(now),
            PassOutcome::Held | PassOutcome::Stopped => None,
        };
        self.check_clock();
        let left = Left::by(&self.disk.borrow().stored.fleets);
        if let Some(before) = self.truth.left.take()
            && let Some(desk) = self.desks.get(&number)
        {
            for instance in left.lost.difference(&before.lost) {
                self.check_loss(number, desk, instance);
            }
            for (fleet, phase) in &left.phases {
                let baked = *phase == Phase::Draining || *phase == Phase::AwaitingRetire;
                if baked && before.phases.get(fleet) == Some(&Phase::Baking) {
                    self.check_bake(desk, fleet);
                }
            }
        }
        self.truth.left = Some(left);
    }

    /// The decision clock counts no time in which nobody could decide: no deadline is used up then.
    fn check_clock(&self) {
        let moment = Duration::from_millis(self.disk.borrow().stored.moment.ms);
        let could_decide = self.truth.could_decide;
        if self.truth.one_time && moment > could_decide + CLOCK_SLACK {
            let text = format!("{moment:?}, somebody could decide for {could_decide:?}");
            self.broken(Rule::ClockStandsStillWhileAway, text);
        }
    }

    /// A machine that runs is taken for lost only after a long silence that most others do not
    /// share, where no other source spoke against it. A list that lacks it is one, even when it lies;
    /// not one that lacks most.
    fn check_loss(&self, number: DeskNumber, desk: &Desk, instance: &InstanceId) {
        if self.running(instance).is_none() {
            return;
        }
        let disk = self.disk.borrow();
        let fleets = &disk.stored.fleets;
        let holds = |fleet: &&FleetState| fleet.instances.contains_key(instance);
        let Some(fleet) = fleets.values().find(holds) else {
            return;
        };
        let silent_after = fleet.spec.repair.silent_after.0;
        let heard = self.truth.heard.get(&(number, instance.clone()));
        let silent_for = self
            .now()
            .saturating_sub(heard.copied().unwrap_or_default());
        let listed = |id: &InstanceId| {
            let list = desk.provider.listed.as_ref();
            list.is_none_or(|(_, list)| list.iter().any(|listed| listed.instance == *id))
        };
        let (mut all, mut alive, mut lacks) = (0, 0, 0);
        for (id, one) in fleets.values().flat_map(|fleet| &fleet.instances) {
            let answers = desk.link.sessions.contains_key(id);
            // What is silent in a zone that a person says is lost stands for nothing.
            let lost_zone = disk.stored.environment.has_lost(one.zone.as_ref());
            if id == instance || one.life == Life::Up && (answers || !lost_zone) {
                lacks += usize::from(!listed(id));
            }
            if id != instance && one.life == Life::Up {
                all += 1;
                alive += usize::from(answers);
            }
        }
        if !listed(instance) && !list_is_short(lacks, all + 1) {
            return;
        }
        let soon = silent_for + silent_for / FASTER_BY <= silent_after;
        if soon || alive < witnesses_needed(all) {
            let text = format!(
                "{instance} is taken for lost and runs: silent for {silent_for:?}, {alive} of {all} others answer"
            );
            let rule = InvariantId::NoDeleteWithoutTwoSourcesOrOrder;
            self.broken(Rule::Planner(rule), text);
        }
    }

    /// Whoever is called healthy has said so freshly: the planner's own rules believe its judgement.
    pub(crate) fn check_said(
        &self,
        number: DeskNumber,
        reports: &BTreeMap<FleetName, FleetReport>,
    ) {
        let Some(desk) = self.desks.get(&number) else {
            return;
        };
        let seen = desk.link.observe();
        let fresh = desk.link.report_interval() * FRESH_INTERVALS;
        let called = reports
            .values()
            .flat_map(|report| &report.instances)
            .filter(|(_, one)| one.class == InstanceClass::Healthy);
        for (instance, _) in called {
            let said = seen.get(instance).and_then(|seen| seen.agent.as_ref());
            if !said.is_some_and(|said| said.age <= fresh && said.report.health == Health::Healthy)
            {
                let text = format!("{instance} is called healthy and has not said so freshly");
                self.broken(Rule::HealthyOnlyWhenSaid, text);
            }
        }
    }

    /// Blue leaves only when every green answers, or nobody could know yet that it does not.
    fn check_bake(&self, desk: &Desk, fleet: &FleetName) {
        let now = self.now();
        let disk = self.disk.borrow();
        let rollout = disk.stored.fleets.get(fleet).and_then(FleetState::running);
        let Some(rollout) = rollout else {
            return;
        };
        let seen = desk.link.observe();
        let probed = desk.probe.results();
        let fresh = desk.link.report_interval() * FRESH_INTERVALS;
        for green in &rollout.sets.green {
            let answers = self
                .running(green)
                .is_some_and(|number| self.machine(number).answers(now));
            let said = seen.get(green).and_then(|seen| seen.agent.as_ref());
            let said =
                said.is_some_and(|said| said.age <= fresh && said.report.health == Health::Healthy);
            let probe = probed.get(green);
            let reached = probe.is_some_and(|probe| probe.age <= PROBE_FRESH && probe.passing);
            if !answers && !said && !reached {
                let text = format!("blue leaves, and {green} does not answer");
                let rule = InvariantId::BlueStaysUntilGreenIsProven;
                self.broken(Rule::Planner(rule), text);
            }
        }
    }

    /// What cannot stay healthy is never found under its service's own name.
    pub(super) fn check_who_entered(&self) {
        let entered = self.served.entries.iter().filter(|entry| match entry.role {
            CatalogueRole::Entered | CatalogueRole::Active => true,
            CatalogueRole::Absent | CatalogueRole::Standby => false,
        });
        for entry in entered {
            let instance = &entry.instance;
            let number = self.by_instance.get(instance);
            // A person who skips the soak answers for it. Of a workload that works only while it is active nobody knew better when it was approved.
            let disk = self.disk.borrow();
            if disk.promoted.contains(instance) || disk.approved.contains(instance) {
                continue;
            }
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
    pub(crate) fn check_identities(&self, records: &[&InstanceId]) {
        let disk = self.disk.borrow();
        let gone = self.machines.iter().filter(|machine| {
            let instance = &machine.instance;
            let recorded = records.binary_search(&instance).is_ok();
            machine.enrolled && !recorded && !disk.lost_track.contains(instance)
        });
        for machine in gone.filter(|machine| !disk.revoked.contains(&machine.instance)) {
            let text = format!("{} is gone, its identity is not revoked", machine.instance);
            self.broken(Rule::NothingLeakedOnceQuiet, text);
        }
    }

    /// Machines that a coordinator asked for.
    pub(crate) fn own_machines(&self) -> Vec<&InstanceId> {
        let strays = &self.truth.strays;
        let machines = self.by_instance.keys();
        machines.filter(|id| !strays.contains(*id)).collect()
    }

    /// There is a machine with our tag that no coordinator ever asked for.
    pub(crate) fn add_stray(&mut self) {
        let serial = self.next_serial();
        let fleets = self.disk.borrow().stored.fleets.keys().next().cloned();
        let image = self.images.known.iter().next();
        let (Some(fleet), Some((tag, image))) = (fleets, image) else {
            return;
        };
        let (spec, behaviour) = (image.spec.clone(), image.behaviour);
        let reference = crate::image::reference(tag);
        let instance = InstanceId::new(&fleet, serial);
        let number = MachineNumber(self.machines.len());
        let last = u32::try_from(number.0 + 1).unwrap_or(u32::MAX);
        let mut machine = Machine::new(Making {
            instance: instance.clone(),
            tag: MachineTag {
                fleet,
                image: reference,
                epoch: 0,
            },
            address: std::net::Ipv4Addr::from(0x7f01_0000_u32.saturating_add(last)).into(),
            spec,
            behaviour,
            boot: boot_id(serial),
            clock_offset: Duration::from_secs(serial),
            fast_ppm: 0,
            leaks_until: Duration::ZERO,
        });
        machine.state = MachineState::Running;
        self.note(format_args!("{instance} is there, and nobody asked for it"));
        self.machines.push(machine);
        self.by_instance.insert(instance.clone(), number);
        self.truth.strays.insert(instance);
        self.start_agent(number);
    }

    /// For so long no coordinator reaches a machine, and the provider lists none. One alone goes on
    /// being listed: where nothing says otherwise it is as likely gone as left out.
    pub(crate) fn black_out(&mut self, time: Duration) {
        let until = self.now() + time;
        let own = self.own_machines().len();
        if list_is_short(own, own) {
            self.note(format_args!("nothing is reached or listed for {time:?}"));
            self.cloud.empty_until = until;
        } else {
            self.note(format_args!("nothing is reached for {time:?}"));
        }
        let instances: Vec<InstanceId> = self.by_instance.keys().cloned().collect();
        for instance in instances {
            self.network.cut(&instance, Cut::Both);
            self.lose_sessions(&instance);
            self.queue.put(until, Event::Heal(instance));
        }
    }
}
