//! The provider: what becomes of requests, and what its lists say.
//!
//! Two of its faults are lies within a bound that whoever speaks to it knows: a list is of some
//! seconds ago, and a machine whose creation failed appears all the same. Its lists then count as
//! being as old as that bound, as an implementation for such a cloud must do: what is missing in
//! them was not asked for, or is gone.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use calvin_engine::ports::{CreateOrder, Machine as Listed, MachineTag};
use calvin_model::{BootId, InstanceId};
use calvin_planner::{
    DeleteBasis, FaultKind, Life, MachineState, ProviderFault, sums::list_is_short,
};

use super::{World, coordinator::DRIFT_PPM};
use crate::{
    check::Rule,
    desk::DeskNumber,
    event::{Event, MachineNumber},
    fault::Fault,
    machine::{Machine, Making},
    provider::Request,
    scenario::Cloud,
};

/// How long a machine takes at a slow provider, in milliseconds.
const MAKE_SLOWLY_MS: (u64, u64) = (3_000, 12_000);
/// How long a deletion takes, in milliseconds.
const DELETE_MS: (u64, u64) = (100, 500);
/// One request of so many fails at a failing provider.
const FAILURES: u32 = 3;
/// One creation of so many is said to have failed at a late provider.
const LATE: u32 = 4;
/// One creation of so many succeeds twice.
const DOUBLE: u32 = 6;
/// How much later its machine appears, in milliseconds.
const LATE_MS: (u64, u64) = (1_000, 8_000);
/// By how much a list lags behind at most.
const LAG: Duration = Duration::from_secs(8);
/// As old as this is a list that may lag, or lack what is made late.
const BOUND: Duration = Duration::from_secs(10);
/// Pause of the provider before it tries a failed request again.
const AGAIN: Duration = Duration::from_secs(2);

/// The provider's own state.
#[derive(Debug)]
pub(super) struct CloudState {
    model: Cloud,
    /// Its lists count as being so old.
    bound: Duration,
    /// It does nothing until then.
    pub(super) hung_until: Duration,
    /// Its lists lack most machines until then.
    pub(super) short_until: Duration,
    /// Its lists lack every machine until then.
    pub(super) empty_until: Duration,
    /// What it was asked while it did nothing.
    asked: Vec<(DeskNumber, Request)>,
    /// Machines that are being made now, and those that wait for their turn.
    making: usize,
    waiting: VecDeque<MachineNumber>,
    /// Instances whose machine is said to have failed, and comes.
    late: BTreeSet<InstanceId>,
    /// What it listed before, for lists that lag.
    past: VecDeque<(Duration, Vec<Listed>)>,
}

impl CloudState {
    pub(super) fn new(model: Cloud, faults: &BTreeSet<Fault>) -> Self {
        let lies = [Fault::OldList, Fault::LateProvider];
        let bound = if lies.iter().any(|lie| faults.contains(lie)) {
            BOUND
        } else {
            Duration::ZERO
        };
        Self {
            model,
            bound,
            hung_until: Duration::ZERO,
            short_until: Duration::ZERO,
            empty_until: Duration::ZERO,
            asked: Vec::new(),
            making: 0,
            waiting: VecDeque::new(),
            late: BTreeSet::new(),
            past: VecDeque::new(),
        }
    }
}

impl World {
    pub(super) fn create(&mut self, desk: DeskNumber, order: &CreateOrder) {
        let instance = &order.instance;
        let record = self.record_life(instance);
        // One that does not know that it was replaced acts on what it committed last.
        if self.is_newest(desk) && !matches!(record, Some(Life::Making | Life::Up)) {
            let text = format!("{instance} is made, its record is {record:?}");
            self.broken(Rule::OnlyCommittedReachesTheWorld, text);
        }
        let now = self.now;
        if now < self.cloud.hung_until {
            self.cloud
                .asked
                .push((desk, Request::Create(order.clone())));
            return;
        }
        if self.by_instance.contains_key(instance) || self.cloud.late.contains(instance) {
            return;
        }
        let Some(tries) = self.tries(desk, instance) else {
            return;
        };
        if self.chance(Fault::FailingProvider, FAILURES) {
            self.fails(desk, instance, tries, "no capacity");
            return;
        }
        if self.chance(Fault::LateProvider, LATE) {
            self.fails(desk, instance, tries, "no answer in time");
            self.cloud.late.insert(instance.clone());
            let at = self.soon(LATE_MS.0, LATE_MS.1);
            self.queue
                .put(at, Event::MadeAfterAll(Box::new(order.clone())));
            return;
        }
        self.forget_fault(instance);
        self.make(order);
        if self.chance(Fault::DoubleCreate, DOUBLE) {
            self.make(order);
        }
    }

    /// How often it has failed before; nothing while it waits to be tried again.
    fn tries(&self, desk: DeskNumber, instance: &InstanceId) -> Option<u32> {
        let faults = self.desks.get(&desk).map(|desk| &desk.provider.faults);
        match faults.and_then(|faults| faults.get(instance)) {
            Some((_, again_at)) if self.now < *again_at => None,
            Some((fault, _)) => Some(fault.tries),
            None => Some(0),
        }
    }

    fn fails(&mut self, desk: DeskNumber, instance: &InstanceId, tries: u32, why: &str) {
        let fault = ProviderFault {
            message: why.to_owned(),
            tries: tries + 1,
            retry_in: AGAIN,
            permanent: false,
            kind: FaultKind::Other,
        };
        self.note(format_args!("the provider fails for {instance}: {why}"));
        let fault = (fault, self.now + AGAIN);
        if let Some(desk) = self.desks.get_mut(&desk) {
            desk.provider.faults.insert(instance.clone(), fault);
        }
    }

    fn forget_fault(&mut self, instance: &InstanceId) {
        for desk in self.desks.values_mut() {
            desk.provider.faults.remove(instance);
        }
    }

    pub(super) fn made_after_all(&mut self, order: &CreateOrder) {
        if self.cloud.late.remove(&order.instance)
            && !self.by_instance.contains_key(&order.instance)
        {
            self.forget_fault(&order.instance);
            self.make(order);
        }
    }

    fn make(&mut self, order: &CreateOrder) {
        let Some(image) = self.images.known.get(&order.image.tag) else {
            return;
        };
        let (spec, behaviour) = (image.spec.clone(), image.behaviour);
        let serial = self.next_serial();
        let number = MachineNumber(self.machines.len());
        let last = u32::try_from(number.0 + 1).unwrap_or(u32::MAX);
        let fast_ppm = if self.has(Fault::ClockDrift) {
            self.random.u32(..DRIFT_PPM)
        } else {
            0
        };
        let making = Making {
            instance: order.instance.clone(),
            tag: MachineTag {
                fleet: order.fleet.clone(),
                image: order.image.clone(),
                epoch: order.epoch,
            },
            address: Ipv4Addr::from(0x7f01_0000_u32.saturating_add(last)).into(),
            spec,
            behaviour,
            boot: boot_id(serial),
            clock_offset: Duration::from_secs(self.random.u64(1..1_000_000)),
            fast_ppm,
            leaks_until: self.faults_until,
        };
        self.note(format_args!("{} is being made", order.instance));
        self.machines.push(Machine::new(making));
        if self.by_instance.contains_key(&order.instance) {
            self.add_twin(&order.instance, number);
        } else {
            self.by_instance.insert(order.instance.clone(), number);
        }
        self.check_machines();
        self.cloud.waiting.push_back(number);
        self.begin_to_make();
    }

    /// Machines that nobody wants any more are not counted: how long they stay is the provider's
    /// matter.
    fn check_machines(&self) {
        if self.by_instance.len() <= self.machines_max {
            return;
        }
        let disk = self.disk.borrow();
        let wanted = |(instance, number): &(&InstanceId, &MachineNumber)| {
            let records = disk.stored.fleets.values();
            let record = records
                .filter_map(|fleet| fleet.instances.get(*instance))
                .next();
            self.machine(**number).is_up() && record.is_some_and(|record| !record.leaving())
        };
        let machines = self.by_instance.iter().filter(wanted).count();
        if machines > self.machines_max {
            self.broken(Rule::MachinesBounded, format!("{machines} machines"));
        }
    }

    /// As many at one time as the provider can.
    fn begin_to_make(&mut self) {
        let room = |making: usize, most: Option<usize>| most.is_none_or(|most| making < most);
        while room(self.cloud.making, self.cloud.model.in_flight)
            && let Some(number) = self.cloud.waiting.pop_front()
        {
            self.cloud.making += 1;
            let (least, most) = if self.has(Fault::SlowProvider) {
                MAKE_SLOWLY_MS
            } else {
                let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let (least, most) = self.cloud.model.make;
                (ms(least), ms(most).max(ms(least)))
            };
            let at = self.soon(least, most);
            self.queue.put(at, Event::MachineMade(number));
        }
    }

    pub(super) fn machine_made(&mut self, number: MachineNumber) {
        self.cloud.making = self.cloud.making.saturating_sub(1);
        self.begin_to_make();
        let machine = self.machine_mut(number);
        if machine.state == MachineState::Creating {
            machine.state = MachineState::Running;
            self.start_agent(number);
        }
    }

    pub(super) fn delete(&mut self, desk: DeskNumber, instance: &InstanceId, basis: &DeleteBasis) {
        let record = self.record_life(instance);
        if self.is_newest(desk) {
            if record != Some(Life::Retiring(basis.clone())) {
                let text = format!("{instance} is deleted, its record is {record:?}");
                self.broken(Rule::OnlyCommittedReachesTheWorld, text);
            }
            let entries = &self.served.entries;
            if entries.iter().any(|entry| entry.instance == *instance) {
                let text = format!("{instance} is deleted with an entry");
                self.broken(Rule::NoMachineDeletedThatClientsFind, text);
            }
        } else if matches!(record, Some(Life::Making | Life::Up | Life::Draining(_))) {
            let text = format!("{instance} is deleted by an old coordinator: {record:?}");
            self.broken(Rule::OnlyCommittedReachesTheWorld, text);
        }
        if self.now < self.cloud.hung_until {
            let request = Request::Delete(instance.clone(), basis.clone());
            self.cloud.asked.push((desk, request));
            return;
        }
        let Some(number) = self.by_instance.get(instance).copied() else {
            if !self.cloud.late.contains(instance) {
                self.forget_fault(instance);
            }
            return;
        };
        if self.machine(number).state == MachineState::Deleting {
            return;
        }
        let Some(tries) = self.tries(desk, instance) else {
            return;
        };
        if self.chance(Fault::FailingProvider, FAILURES) {
            self.fails(desk, instance, tries, "could not be deleted");
            return;
        }
        self.forget_fault(instance);
        self.note(format_args!("{instance} is being deleted"));
        self.machine_mut(number).state = MachineState::Deleting;
        let at = self.soon(DELETE_MS.0, DELETE_MS.1);
        self.queue.put(at, Event::MachineGone(number));
    }

    /// A machine is gone with all on it.
    pub(super) fn machine_gone(&mut self, number: MachineNumber) {
        self.stop_agent(number);
        let machine = self.machine_mut(number);
        machine.state = MachineState::Absent;
        machine.workload_orders += 1;
        let instance = machine.instance.clone();
        self.forget_machine(&instance, number);
        self.note(format_args!("{instance} is gone"));
    }

    /// It does nothing for so long.
    pub(super) fn provider_hangs(&mut self, time: Duration) {
        self.note(format_args!("the provider hangs for {time:?}"));
        self.cloud.hung_until = self.now + time;
        self.queue.put(self.now + time, Event::ProviderWorks);
    }

    pub(super) fn provider_works(&mut self) {
        if self.now < self.cloud.hung_until {
            return;
        }
        for (desk, request) in std::mem::take(&mut self.cloud.asked) {
            // What was asked is done, whatever was decided since.
            match request {
                Request::Create(order) => {
                    if !self.by_instance.contains_key(&order.instance) {
                        self.make(&order);
                    }
                }
                Request::Delete(instance, _) => self.delete_after_all(desk, &instance),
            }
        }
    }

    fn delete_after_all(&mut self, desk: DeskNumber, instance: &InstanceId) {
        let Some(number) = self.by_instance.get(instance).copied() else {
            return;
        };
        if self.tries(desk, instance).is_some()
            && self.machine(number).state != MachineState::Deleting
        {
            self.machine_mut(number).state = MachineState::Deleting;
            let at = self.soon(DELETE_MS.0, DELETE_MS.1);
            self.queue.put(at, Event::MachineGone(number));
        }
    }

    fn record_life(&self, instance: &InstanceId) -> Option<Life> {
        let disk = self.disk.borrow();
        let fleets = disk.stored.fleets.values();
        fleets
            .filter_map(|fleet| fleet.instances.get(instance))
            .map(|record| record.life.clone())
            .next()
    }

    fn is_in_lost_zone(&self, instance: &InstanceId) -> bool {
        let stored = &self.disk.borrow().stored;
        let mut fleets = stored.fleets.values();
        let record = fleets.find_map(|fleet| fleet.instances.get(instance));
        record.is_some_and(|record| stored.environment.has_lost(record.zone.as_ref()))
    }

    pub(super) fn list_machines(&mut self) {
        let now = self.now;
        self.queue.put(now + self.pace.look, Event::List);
        let mut machines = self.true_list();
        if self.has(Fault::OldList) {
            self.cloud.past.push_back((now, machines.clone()));
            // It never goes back in time.
            let past = &mut self.cloud.past;
            while past.front().is_some_and(|(at, _)| *at + LAG < now) {
                past.pop_front();
            }
            for _ in 0..self.random.usize(..past.len()).min(2) {
                past.pop_front();
            }
            if let Some((_, listed)) = past.front() {
                machines.clone_from(listed);
            }
        }
        if now < self.cloud.empty_until {
            self.leave_out(&mut machines, 0);
        } else if now < self.cloud.short_until {
            let kept = machines.len() / 4;
            self.leave_out(&mut machines, kept);
        }
        // What it was asked meanwhile is done at that moment, and listed after it.
        let hung = now <= self.cloud.hung_until && self.cloud.hung_until > Duration::ZERO;
        let numbers: Vec<DeskNumber> = self.desks.keys().copied().collect();
        for number in numbers {
            if hung {
                continue;
            }
            let at = now.checked_sub(self.cloud.bound);
            let Some(desk) = self.desks.get_mut(&number) else {
                continue;
            };
            if desk.epoch.is_none() || desk.is_frozen(now) {
                continue;
            }
            let listed = &mut desk.provider.listed;
            let news = listed
                .as_ref()
                .is_none_or(|(_, before)| *before != machines);
            if news {
                let tags = machines.iter().filter_map(|one| {
                    let known = self.by_instance.get(&one.instance)?;
                    let tag = self.machines[known.0].tag.clone();
                    Some((one.instance.clone(), tag))
                });
                desk.provider.tags.extend(tags);
            }
            *listed = Some((at.unwrap_or_default(), machines.clone()));
            if news {
                self.poke(number);
            }
            self.send_names_again(number);
        }
    }

    /// Of what is not being removed, all but the first. What is being removed stays in the list: a
    /// record whose removal an earlier run began is forgotten by the first list without its
    /// machine, and no source is left that could say that the list was short.
    /// Nor is anything left out where that were too little to make a list short: each is as likely
    /// gone as left out, and its provider is one of the two sources that are believed.
    fn leave_out(&self, machines: &mut Vec<Listed>, kept: usize) {
        let life = |listed: &Listed| self.record_life(&listed.instance);
        let removed = |listed: &Listed| matches!(life(listed), Some(Life::Retiring(_)) | None);
        let mut place = 0;
        let mut stays = |listed: &Listed| {
            place += 1;
            removed(listed) || place <= kept
        };
        let (stay, left_out): (Vec<Listed>, Vec<Listed>) =
            machines.iter().cloned().partition(|listed| stays(listed));
        // Of a zone that a person says is lost, nothing that is not listed is a surprise.
        let up = |listed: &&Listed| match life(listed) {
            Some(Life::Up | Life::Draining(_)) => !self.is_in_lost_zone(&listed.instance),
            Some(Life::Making | Life::Retiring(_)) | None => false,
        };
        let lacks = left_out.iter().filter(up).count();
        let of = lacks + stay.iter().filter(up).count();
        if list_is_short(lacks, of) {
            *machines = stay;
        }
    }

    fn true_list(&self) -> Vec<Listed> {
        let machines = self.by_instance.iter().flat_map(|(instance, number)| {
            let both = self.both(instance, *number);
            both.into_iter().flatten().map(|number| {
                let machine = self.machine(number);
                let made = machine.state != MachineState::Creating;
                Listed {
                    instance: instance.clone(),
                    state: machine.state,
                    address: made.then_some(machine.address),
                }
            })
        });
        machines.collect()
    }
}

/// # Panics
/// Never: hexadecimal digits are a boot id.
pub(super) fn boot_id(serial: u64) -> BootId {
    match format!("{serial:016x}").parse() {
        Ok(boot) => boot,
        Err(error) => unreachable!("the simulator's own boot id: {error}"),
    }
}
