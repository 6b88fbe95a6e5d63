//! The coordinator's side: what becomes of its requests, and what it gets to see.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use calvin_engine::ports::{AgentLink as _, CreateOrder, Machine as Listed};
use calvin_model::{BootId, CatalogueRole, Epoch, Health, InstanceId, NamesSnapshot};
use calvin_planner::{DeleteBasis, Life, MachineState, ProviderFault, judge::FRESH_INTERVALS};
use calvin_proto::convert::{Order, ToAgent};

use super::World;
use crate::{
    agents::Session,
    check::Rule,
    event::{Event, MachineNumber},
    machine::{Machine, Making},
    provider::Request,
    scenario::Fault,
};

/// Time from one list of the provider, or one probe, to the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a machine takes, in milliseconds.
const MAKE_MS: (u64, u64) = (200, 900);
/// How long it takes at a slow provider, in milliseconds.
const MAKE_SLOWLY_MS: (u64, u64) = (3_000, 12_000);
/// How long a deletion takes, in milliseconds.
const DELETE_MS: (u64, u64) = (100, 500);
/// One creation of so many fails at a failing provider.
const FAILURES: u32 = 3;
/// Pause of the provider before it tries a failed creation again.
const CREATE_AGAIN: Duration = Duration::from_secs(2);

impl World {
    /// A run of the coordinator speaks from now on.
    pub(crate) fn speak(&mut self, epoch: &Epoch) {
        self.speaking = Some(epoch.clone());
        self.begin_to_judge();
        self.catalogue.speak(epoch.number);
    }

    /// Whether the coordinator's process has ended.
    pub(crate) fn has_crashed(&self) -> bool {
        self.store.crashed || self.killed || self.fuse.is_burnt()
    }

    /// The coordinator's process is gone: all that was only in its memory is lost. What it had
    /// asked for before is on its way.
    pub(crate) fn crash(&mut self) {
        self.take_requests();
        self.note(format_args!("the coordinator is gone"));
        self.end_to_judge();
        self.speaking = None;
        self.store.crashed = false;
        self.killed = false;
        self.fuse.renew();
        self.link.outbox.clear();
        self.link.closing.clear();
        self.provider.crash();
        self.catalogue.crash();
        for session in self.link.crash() {
            let at = self.soon(1, 20);
            let event = Event::AgentLost(session.machine, session.number);
            self.queue.put(at, event);
        }
    }

    /// Takes what a pass handed in.
    pub(crate) fn take_requests(&mut self) {
        for request in std::mem::take(&mut self.provider.requests) {
            match request {
                Request::Create(order) => self.create(&order),
                Request::Delete(instance, basis) => self.delete(&instance, &basis),
            }
        }
        for session in std::mem::take(&mut self.link.closing) {
            if let Some(instance) = self.link.instance_of(session).cloned() {
                let machine = self.link.sessions[&instance].machine;
                self.link_lost(session);
                let at = self.soon(1, 10);
                self.queue.put(at, Event::AgentLost(machine, session));
            }
        }
        if self.catalogue.fresh {
            self.catalogue.fresh = false;
            self.check_publication();
            let sessions: Vec<Session> = self.link.sessions.values().copied().collect();
            for session in sessions {
                self.send_names(session);
            }
        }
        for (instance, wanted) in std::mem::take(&mut self.link.outbox) {
            let session = self.link.sessions.get(&instance).copied();
            if let (Some(session), Some(epoch)) = (session, self.speaking.clone()) {
                self.send_to_agent(session, &ToAgent::Wanted(Order { epoch, wanted }));
            }
        }
    }

    fn create(&mut self, order: &CreateOrder) {
        let instance = &order.instance;
        let record = self.record_life(instance);
        if !matches!(record, Some(Life::Making | Life::Up)) {
            let text = format!("{instance} is made, its record is {record:?}");
            self.broken(Rule::OnlyCommittedReachesTheWorld, text);
        }
        if self.by_instance.contains_key(instance) {
            return;
        }
        let now = self.now();
        let waits = self
            .provider
            .faults
            .get(instance)
            .map(|(fault, again_at)| (fault.tries, *again_at));
        if waits.is_some_and(|(_, again_at)| now < again_at) {
            return;
        }
        if self.has(Fault::FailingProvider) && self.random.u32(..FAILURES) == 0 {
            let fault = ProviderFault {
                message: "no capacity".to_owned(),
                tries: waits.map_or(0, |(tries, _)| tries) + 1,
                retry_in: CREATE_AGAIN,
                permanent: false,
            };
            self.note(format_args!("{instance} could not be made"));
            let fault = (fault, now + CREATE_AGAIN);
            self.provider.faults.insert(instance.clone(), fault);
            return;
        }
        self.provider.faults.remove(instance);
        self.make(order);
    }

    fn make(&mut self, order: &CreateOrder) {
        let Some(image) = self.images.known.get(&order.image.tag) else {
            return;
        };
        let (spec, behaviour) = (image.spec.clone(), image.behaviour);
        let serial = self.next_serial();
        let number = MachineNumber(self.machines.len());
        let last = u32::try_from(number.0 + 1).unwrap_or(u32::MAX);
        let making = Making {
            instance: order.instance.clone(),
            address: Ipv4Addr::from(0x7f01_0000_u32.saturating_add(last)).into(),
            spec,
            behaviour,
            boot: boot_id(serial),
            clock_offset: Duration::from_secs(self.random.u64(1..1_000_000)),
        };
        self.note(format_args!("{} is being made", order.instance));
        self.machines.push(Machine::new(making));
        self.by_instance.insert(order.instance.clone(), number);
        if self.by_instance.len() > self.machines_max + self.truth.strays.len() {
            let text = format!("{} machines", self.by_instance.len());
            self.broken(Rule::MachinesBounded, text);
        }
        let (least, most) = if self.has(Fault::SlowProvider) {
            MAKE_SLOWLY_MS
        } else {
            MAKE_MS
        };
        let at = self.soon(least, most);
        self.queue.put(at, Event::MachineMade(number));
    }

    pub(super) fn machine_made(&mut self, number: MachineNumber) {
        let machine = self.machine_mut(number);
        if machine.state == MachineState::Creating {
            machine.state = MachineState::Running;
            self.start_agent(number);
        }
    }

    fn delete(&mut self, instance: &InstanceId, basis: &DeleteBasis) {
        let record = self.record_life(instance);
        if record != Some(Life::Retiring(basis.clone())) {
            let text = format!("{instance} is deleted, its record is {record:?}");
            self.broken(Rule::OnlyCommittedReachesTheWorld, text);
        }
        let entries = &self.catalogue.snapshot.entries;
        if entries.iter().any(|entry| entry.instance == *instance) {
            let text = format!("{instance} is deleted with an entry");
            self.broken(Rule::NoMachineDeletedThatClientsFind, text);
        }
        let Some(number) = self.by_instance.get(instance).copied() else {
            return;
        };
        if self.machine(number).state != MachineState::Deleting {
            self.note(format_args!("{instance} is being deleted"));
            self.machine_mut(number).state = MachineState::Deleting;
            let at = self.soon(DELETE_MS.0, DELETE_MS.1);
            self.queue.put(at, Event::MachineGone(number));
        }
    }

    /// A machine is gone with all on it.
    pub(super) fn machine_gone(&mut self, number: MachineNumber) {
        self.stop_agent(number);
        let machine = self.machine_mut(number);
        machine.state = MachineState::Absent;
        machine.workload_orders += 1;
        let instance = machine.instance.clone();
        self.by_instance.remove(&instance);
        self.note(format_args!("{instance} is gone"));
    }

    fn record_life(&self, instance: &InstanceId) -> Option<Life> {
        let fleets = self.store.stored.fleets.values();
        fleets
            .filter_map(|fleet| fleet.instances.get(instance))
            .map(|record| record.life.clone())
            .next()
    }

    pub(super) fn list_machines(&mut self) {
        let now = self.now();
        self.queue.put(now + LOOK_INTERVAL, Event::List);
        if self.speaking.is_none() {
            return;
        }
        let lists_nothing = now < self.lists_nothing_until;
        let machines: Vec<Listed> = self
            .by_instance
            .iter()
            .filter(|_| !lists_nothing)
            .map(|(instance, number)| {
                let machine = self.machine(*number);
                let made = machine.state != MachineState::Creating;
                Listed {
                    instance: instance.clone(),
                    state: machine.state,
                    address: made.then_some(machine.address),
                }
            })
            .collect();
        let before = self.provider.listed.take();
        self.poked |= before.is_none_or(|(_, before)| before != machines);
        self.provider.listed = Some((now, machines));
        // A snapshot that was lost on its way is sent again.
        let newest = self.catalogue.snapshot.version;
        let stored = &self.catalogue.stored;
        let behind = stored.iter().filter(|(_, stored)| **stored < Some(newest));
        let behind: BTreeSet<InstanceId> = behind.map(|(instance, _)| instance.clone()).collect();
        for instance in behind {
            if let Some(session) = self.link.sessions.get(&instance).copied() {
                self.send_names(session);
            }
        }
    }

    pub(super) fn probe_targets(&mut self) {
        let now = self.now();
        self.queue.put(now + LOOK_INTERVAL, Event::Probe);
        if self.speaking.is_none() {
            return;
        }
        let targets: Vec<InstanceId> = self.probe.targets.keys().cloned().collect();
        for instance in targets {
            let reached = self.running(&instance).is_some_and(|number| {
                !self.network.is_cut(&instance) && self.machine(number).answers(now)
            });
            self.poked |= self.probe.note(&instance, reached);
        }
    }

    /// A change of the names never takes away the last entry that answers, other than for one whose
    /// agent says at this moment that it is healthy: what broke since its last check nobody can know.
    fn check_publication(&mut self) {
        let now = self.now();
        let answering = |names: &NamesSnapshot| {
            let active = names.entries.iter().filter(|entry| match entry.role {
                CatalogueRole::Active => true,
                CatalogueRole::Absent | CatalogueRole::Standby | CatalogueRole::Entered => false,
            });
            active
                .filter(|entry| {
                    self.running(&entry.instance)
                        .is_some_and(|number| self.machine(number).answers(now))
                })
                .count()
        };
        let (before, after) = (answering(&self.served), answering(&self.catalogue.snapshot));
        let deleting = self
            .store
            .stored
            .fleets
            .values()
            .all(|fleet| fleet.deleting);
        self.served = self.catalogue.snapshot.clone();
        self.check_who_entered();
        let version = self.served.version;
        let active: Vec<&str> = self
            .served
            .entries
            .iter()
            .filter(|entry| entry.role == CatalogueRole::Active)
            .map(|entry| entry.instance.as_str())
            .collect();
        let line = format!("names {version}: active {active:?}, {after} answer");
        self.note(format_args!("{line}"));
        if before > 0 && after == 0 && !deleting && !self.is_any_said_to_be_healthy() {
            self.broken(Rule::LastEntryThatAnswersStays, line);
        }
    }

    /// Whether the agent of an instance that clients find as active has freshly said that it is
    /// healthy.
    fn is_any_said_to_be_healthy(&self) -> bool {
        let seen = self.link.observe();
        let fresh = self.link.report_interval() * FRESH_INTERVALS;
        let active = self.served.entries.iter();
        let mut active = active.filter(|entry| entry.role == CatalogueRole::Active);
        active.any(|entry| {
            let agent = seen.get(&entry.instance);
            let agent = agent.and_then(|seen| seen.agent.as_ref());
            agent.is_some_and(|said| said.age <= fresh && said.report.health == Health::Healthy)
        })
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
