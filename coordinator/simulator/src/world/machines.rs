//! The machines' side: agents, their disks, checks, workloads, and their end of the sessions.

use std::time::Duration;

use calvin_lifecycle::{CheckOutcome, HookOutcome, HookRun, Input, Lifecycle, Output};
use calvin_model::{CatalogueRole, Connections, WorkloadState};
use calvin_planner::{Instance, Life, MachineState};
use calvin_proto::{
    convert::{FromAgent, ToAgent},
    wire,
};

use super::World;
use crate::{
    check::Rule,
    event::{AgentRun, Event, MachineNumber, SessionNumber},
    fault::Fault,
    machine::Link,
    network::{KEEPALIVE, Way},
    store::AGENT_DISK,
};

/// Time until a workload's process runs.
const WORKLOAD_START: Duration = Duration::from_millis(200);
/// Time until it is gone.
const WORKLOAD_STOP: Duration = Duration::from_millis(100);
/// Time of a hook.
const HOOK: Duration = Duration::from_millis(50);
/// Time until a workload that starts slowly runs, in milliseconds.
const SLOW_START_MS: (u64, u64) = (2_000, 20_000);
/// An agent's shortest and longest pause before it tries to connect again, in milliseconds.
const RECONNECT_MS: (u64, u64) = (300, 1_500);

impl World {
    /// An agent's process starts, on what an earlier one left on disk.
    pub(super) fn start_agent(&mut self, number: MachineNumber) {
        let run = AgentRun(self.next_serial());
        let now = self.now();
        let machine = self.machine_mut(number);
        if !machine.is_up() || machine.agent.is_some() {
            return;
        }
        if now < machine.away_until {
            let at = machine.away_until;
            self.queue.put(at, Event::AgentStarts(number));
            return;
        }
        let clock = machine.clock(now);
        machine.run = run;
        machine.tick_at = None;
        machine.checks.clear();
        machine.agent = Some(Lifecycle::new(
            machine.spec.clone(),
            machine.disk.clone(),
            machine.boot.clone(),
            clock,
        ));
        // What it had not written yet when it ended it never took.
        let taken = machine.agent.as_ref().map(Lifecycle::seen);
        machine.generation = taken.map(|(_, seen)| seen).unwrap_or_default();
        let (enrolled, workload) = (machine.enrolled, machine.workload);
        let names = machine.names.as_ref().map(|names| names.version);
        self.feed(number, Input::Workload(workload));
        if enrolled {
            self.feed(number, Input::Enrolled);
        }
        if let Some(version) = names {
            self.feed(number, Input::Names(version));
        }
        let at = self.soon(1, 50);
        self.queue.put(at, Event::Connect(number, run));
    }

    /// An agent's process ends; its workload goes on.
    pub(super) fn stop_agent(&mut self, number: MachineNumber) {
        let machine = self.machine_mut(number);
        machine.agent = None;
        machine.unheard.clear();
        machine.hung_until = Duration::ZERO;
        if let Some(link) = machine.session.take() {
            let at = self.soon(1, 10);
            self.queue.put(at, Event::LinkLost(link.desk, link.number));
        }
    }

    /// An agent stands still, and is told later what it missed.
    pub(super) fn agent_hangs(&mut self, number: MachineNumber, time: Duration) {
        let now = self.now;
        let machine = self.machine_mut(number);
        if machine.agent.is_none() {
            return;
        }
        machine.hung_until = now + time;
        let session = machine.session;
        self.queue.put(now + time, Event::AgentGoesOn(number));
        if let Some(link) = session.filter(|_| time > KEEPALIVE) {
            let at = now + KEEPALIVE;
            self.queue.put(at, Event::LinkLost(link.desk, link.number));
            let event = Event::AgentLost(number, link.number);
            self.queue.put(now + time, event);
        }
    }

    pub(super) fn agent_goes_on(&mut self, number: MachineNumber) {
        let now = self.now;
        let machine = self.machine_mut(number);
        if now < machine.hung_until {
            return;
        }
        for input in std::mem::take(&mut machine.unheard) {
            self.feed(number, input);
        }
    }

    /// A machine dies with all on it, whatever its provider says of it.
    pub(super) fn machine_dies(&mut self, number: MachineNumber) {
        let machine = self.machine_mut(number);
        machine.dead = true;
        machine.workload_orders += 1;
        machine.workload = WorkloadState::Stopped;
        machine.agent = None;
        machine.unheard.clear();
        // Nobody says goodbye for a machine that is dead.
        if let Some(link) = machine.session.take() {
            let at = self.now + KEEPALIVE;
            self.queue.put(at, Event::LinkLost(link.desk, link.number));
        }
    }

    /// Whether a machine is dead that is yet to be replaced, or gone.
    pub(crate) fn is_any_dead(&self) -> bool {
        let disk = self.disk.borrow();
        let mut records = disk
            .stored
            .fleets
            .values()
            .flat_map(|fleet| &fleet.instances);
        let up = |one: &Instance| one.life == Life::Up && one.protected.is_none();
        if records.any(|(id, one)| up(one) && !self.by_instance.contains_key(id)) {
            return true;
        }
        let mut there = self.by_instance.values();
        there.any(|number| {
            let machine = self.machine(*number);
            machine.dead && !self.truth.strays.contains(&machine.instance)
        })
    }

    /// Whether clients do not find yet an active instance that answers again: one that failed more
    /// than once is shown again only after a while.
    pub(crate) fn is_any_hidden(&self) -> bool {
        let disk = self.disk.borrow();
        let records = disk.stored.fleets.values();
        let mut records = records.flat_map(|fleet| &fleet.instances);
        records.any(|(id, one)| {
            let active = one.catalogue == CatalogueRole::Active;
            let mut entries = self.served.entries.iter();
            let found = entries.any(|it| it.instance == *id && it.role == CatalogueRole::Active);
            let answers = self
                .running(id)
                .is_some_and(|number| self.machine(number).answers(self.now));
            active && answers && !found
        })
    }

    pub(super) fn death_noticed(&mut self, number: MachineNumber) {
        let machine = self.machine_mut(number);
        if machine.dead && machine.state == MachineState::Running {
            machine.state = MachineState::Stopped;
            let instance = machine.instance.clone();
            self.note(format_args!("the provider notices that {instance} is dead"));
        }
    }

    /// Tells an agent one thing and does what it says.
    pub(super) fn feed(&mut self, number: MachineNumber, input: Input) {
        let now = self.now();
        let machine = self.machine_mut(number);
        let (clock, run) = (machine.clock(now), machine.run);
        let Some(agent) = &mut machine.agent else {
            return;
        };
        if now < machine.hung_until {
            machine.unheard.push(input);
            return;
        }
        let outputs = agent.handle(clock, input);
        machine.note_role(now);
        self.check_generation(number);
        for output in outputs {
            self.obey(number, run, output);
        }
        self.schedule_tick(number, run);
    }

    fn schedule_tick(&mut self, number: MachineNumber, run: AgentRun) {
        let now = self.now();
        let machine = self.machine_mut(number);
        let Some(deadline) = machine.agent.as_ref().and_then(Lifecycle::deadline) else {
            return;
        };
        let at = machine
            .world_time(deadline)
            .max(now + Duration::from_millis(1));
        if machine.tick_at.is_none_or(|tick| tick > at || tick <= now) {
            machine.tick_at = Some(at);
            self.queue.put(at, Event::Tick(number, run));
        }
    }

    fn obey(&mut self, number: MachineNumber, run: AgentRun, output: Output) {
        let now = self.now();
        match output {
            Output::Persist(record) => {
                let revision = record.revision;
                let machine = self.machine_mut(number);
                // It asks again until it is told that the record is on disk.
                if now < machine.full_until {
                    return;
                }
                machine.disk = Some(record);
                let event = Event::Committed(number, run, revision);
                self.queue.put(now + AGENT_DISK, event);
            }
            Output::StartWorkload => {
                let after = self.start_time();
                let states = (WorkloadState::Starting, WorkloadState::Running);
                self.order_workload(number, states, after);
            }
            Output::StopWorkload => self.order_workload(
                number,
                (WorkloadState::Stopping, WorkloadState::Stopped),
                WORKLOAD_STOP,
            ),
            Output::RunHook { run: hook, .. } => {
                self.queue.put(now + HOOK, Event::Hook(number, run, hook));
            }
            Output::CancelHook(_) => {}
            Output::RunChecks(checks) => {
                for index in &checks {
                    if !self.machine(number).checks.contains(index) {
                        self.queue.put(now, Event::Check(number, run, *index));
                    }
                }
                self.machine_mut(number).checks = checks;
            }
            Output::Report(report) => {
                self.send(number, wire::FromAgent::from(&FromAgent::Report(report)));
            }
            Output::Refused(refusal) => {
                let instance = self.machine(number).instance.clone();
                self.note(format_args!("{instance} refuses: {refusal}"));
            }
            Output::EndSession(refusal) => {
                let instance = self.machine(number).instance.clone();
                self.note(format_args!("{instance} ends its session: {refusal}"));
                self.end_session(number);
            }
        }
    }

    fn start_time(&mut self) -> Duration {
        if self.has(Fault::SlowStart) {
            Duration::from_millis(self.random.u64(SLOW_START_MS.0..=SLOW_START_MS.1))
        } else {
            WORKLOAD_START
        }
    }

    /// Asking again for what is already so changes nothing.
    fn order_workload(
        &mut self,
        number: MachineNumber,
        (first, then): (WorkloadState, WorkloadState),
        after: Duration,
    ) {
        let now = self.now();
        let machine = self.machine_mut(number);
        if machine.workload == first || machine.workload == then {
            return;
        }
        machine.workload_orders += 1;
        let order = machine.workload_orders;
        self.queue.put(now, Event::Workload(number, order, first));
        self.queue
            .put(now + after, Event::Workload(number, order, then));
    }

    fn send(&mut self, number: MachineNumber, message: wire::FromAgent) {
        let now = self.now();
        let machine = &self.machines[number.0];
        let Some(link) = machine.session else {
            return;
        };
        let way = Way::ToCoordinator;
        let arrivals = self
            .network
            .arrivals(&machine.instance, way, now, &mut self.random);
        let [first, second] = arrivals;
        if let Some(at) = second {
            let event = Event::FromAgent(link.desk, link.number, Box::new(message.clone()));
            self.queue.put(at, event);
        }
        if let Some(at) = first {
            let event = Event::FromAgent(link.desk, link.number, Box::new(message));
            self.queue.put(at, event);
        }
    }

    fn end_session(&mut self, number: MachineNumber) {
        let machine = self.machine_mut(number);
        let run = machine.run;
        if let Some(link) = machine.session.take() {
            let at = self.soon(1, 10);
            self.queue.put(at, Event::LinkLost(link.desk, link.number));
            self.feed(number, Input::SessionDown);
        }
        self.reconnect(number, run);
    }

    fn reconnect(&mut self, number: MachineNumber, run: AgentRun) {
        let at = self.soon(RECONNECT_MS.0, RECONNECT_MS.1);
        self.queue.put(at, Event::Connect(number, run));
    }

    pub(super) fn connect(&mut self, number: MachineNumber, run: AgentRun) {
        let machine = self.machine(number);
        if machine.run != run || machine.agent.is_none() || machine.session.is_some() {
            return;
        }
        if self.now < machine.hung_until {
            let at = machine.hung_until;
            self.queue.put(at, Event::Connect(number, run));
            return;
        }
        match self.accept(number) {
            Some((link, welcome)) => self.welcome(number, link, welcome),
            None => self.reconnect(number, run),
        }
    }

    fn welcome(&mut self, number: MachineNumber, link: Link, message: ToAgent) {
        let ahead = self.wall_ahead(link.desk);
        let machine = self.machine_mut(number);
        machine.session = Some(link);
        let first = !machine.enrolled;
        machine.enrolled = true;
        let clock_offset_ms = machine.wall_ahead_of(ahead);
        if first {
            self.feed(number, Input::Enrolled);
        }
        if let ToAgent::Welcome(welcome) = message {
            let input = Input::SessionUp {
                epoch: welcome.epoch,
                report_interval: welcome.report_interval,
                clock_offset_ms,
            };
            self.feed(number, input);
        }
    }

    pub(super) fn agent_lost(&mut self, number: MachineNumber, session: SessionNumber) {
        let machine = self.machine_mut(number);
        if machine.session.is_none_or(|link| link.number != session) {
            return;
        }
        machine.session = None;
        let run = machine.run;
        self.feed(number, Input::SessionDown);
        self.reconnect(number, run);
    }

    pub(super) fn agent_hears(
        &mut self,
        number: MachineNumber,
        session: SessionNumber,
        message: wire::ToAgent,
    ) {
        let link = self.machine(number).session;
        if link.is_none_or(|link| link.number != session) {
            return;
        }
        match ToAgent::try_from(message) {
            Ok(ToAgent::Wanted(order)) => {
                let input = Input::Wanted {
                    epoch: order.epoch,
                    wanted: order.wanted,
                };
                self.feed(number, input);
            }
            Ok(
                ToAgent::Names(_)
                | ToAgent::Welcome(_)
                | ToAgent::Trust(_)
                | ToAgent::Join(_)
                | ToAgent::Registration(_),
            ) => {}
            Err(error) => {
                let text = format!("to an agent: {}", error.in_words());
                self.broken(Rule::NothingOfOursIsRefused, text);
            }
        }
    }

    pub(super) fn committed(&mut self, number: MachineNumber, run: AgentRun, revision: u64) {
        if self.machine(number).run == run {
            self.feed(number, Input::Committed { revision });
        }
    }

    pub(super) fn check(&mut self, number: MachineNumber, run: AgentRun, index: usize) {
        let now = self.now();
        let machine = self.machine(number);
        if machine.run != run || machine.agent.is_none() || !machine.checks.contains(&index) {
            return;
        }
        let outcome = if machine.answers(now) {
            CheckOutcome::Pass
        } else {
            CheckOutcome::Fail("http answers 503".to_owned())
        };
        // Nobody stays connected to simulated workloads for longer than a request.
        let connections = Connections {
            count: 0,
            peers: Vec::new(),
        };
        self.feed(number, Input::Connections(Some(connections)));
        self.feed(number, Input::Check { index, outcome });
        self.ask_for_voters(number);
        let event = Event::Check(number, run, index);
        self.queue.put(now + self.pace.check, event);
    }

    pub(super) fn hook_ended(&mut self, number: MachineNumber, run: AgentRun, hook: HookRun) {
        if self.machine(number).run == run {
            let outcome = HookOutcome::Done;
            self.feed(number, Input::HookEnded { run: hook, outcome });
        }
    }

    pub(super) fn tick(&mut self, number: MachineNumber, run: AgentRun) {
        let now = self.now();
        let machine = self.machine_mut(number);
        if machine.run == run && machine.tick_at.is_some_and(|at| at <= now) {
            machine.tick_at = None;
            self.feed(number, Input::Tick);
        }
    }

    pub(super) fn workload(&mut self, number: MachineNumber, order: u64, state: WorkloadState) {
        let now = self.now;
        let machine = self.machine_mut(number);
        if machine.workload_orders == order && machine.is_up() {
            match state {
                WorkloadState::Running => {
                    machine.at_work = true;
                    machine.running_since = now;
                }
                WorkloadState::Stopped => machine.at_work = false,
                WorkloadState::NotWanted
                | WorkloadState::Starting
                | WorkloadState::Backoff
                | WorkloadState::Stopping => {}
            }
            machine.workload = state;
            self.check_at_work(number);
            self.feed(number, Input::Workload(state));
        }
    }
}
