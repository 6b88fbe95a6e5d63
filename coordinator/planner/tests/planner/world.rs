//! A small deterministic world: what the engine, providers, agents and the catalogue are to the
//! planner. It carries plans out at once and shows the result at the next look.

mod faults;
mod kinds;
mod locks;
mod machine;
mod room;
mod several;
mod windows;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_model::{
    CatalogueRole, Digest, FleetName, FleetSpec, ImageRef, InstanceId, image::Work,
};
use calvin_planner::{
    Action, AgentObserved, Build, Capacity, CatalogueObserved, CheckObserved, Command,
    CommandInput, EnvironmentRules, EnvironmentState, Event, FaultKind, FleetReport, FleetState,
    InstanceObserved, Life, MachineObserved, MachineState, Moment, Next, Observed, Phase, Plan,
    PlanInput, ProbeObserved, ProviderFault, Refusal, SessionObserved, command, plan,
};

pub(crate) use locks::{LEASE_MS, Lock};
pub(crate) use machine::{Agent, Behaviour, Machine};
pub(crate) use room::{Room, ids, served};

/// How often agents report, and how long the world steps.
pub(crate) const STEP: Duration = Duration::from_secs(1);

/// The world.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) ms: u64,
    pub(crate) fleets: BTreeMap<FleetName, FleetState>,
    /// How many rollouts fleets had that are no more.
    pub(crate) gone: BTreeMap<FleetName, u64>,
    pub(crate) environment: EnvironmentState,
    pub(crate) rules: EnvironmentRules,
    pub(crate) machines: BTreeMap<InstanceId, Machine>,
    pub(crate) catalogue: BTreeMap<FleetName, BTreeMap<InstanceId, CatalogueRole>>,
    pub(crate) hidden: BTreeSet<InstanceId>,
    pub(crate) unconfirmed: Vec<InstanceId>,
    /// What the catalogue's own checks say, where it has some.
    pub(crate) checks: BTreeMap<InstanceId, CheckObserved>,
    /// The lock of the exclusive fleet, where the catalogue has locks.
    pub(crate) lock: Option<Lock>,
    /// What a person must look at, of every instance.
    pub(crate) alarm: Option<String>,
    /// Nothing was read back from the catalogue in this run.
    pub(crate) catalogue_unread: bool,
    pub(crate) revoked: BTreeSet<InstanceId>,
    pub(crate) behaviour: BTreeMap<String, Behaviour>,
    pub(crate) events: Vec<Event>,
    pub(crate) reports: BTreeMap<FleetName, FleetReport>,
    pub(crate) actions: Vec<Action>,
    pub(crate) work: Work,
    pub(crate) services: bool,
    pub(crate) created: BTreeSet<InstanceId>,
    pub(crate) peak: usize,
    pub(crate) started_at: u64,
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) boot_delay_ms: u64,
    /// How many machines the provider can make.
    pub(crate) room: Room,
    /// How many machines the provider can have; it cannot say if absent.
    pub(crate) slots: Option<u32>,
    /// Most machines that were in flight at the same time.
    pub(crate) in_flight: usize,
    /// How long a member of a quorum takes to have all that the others agreed on.
    pub(crate) catch_up_ms: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            // The coordinator has been looking for a day.
            ms: 86_400_000,
            fleets: BTreeMap::new(),
            environment: EnvironmentState::default(),
            rules: EnvironmentRules::default(),
            gone: BTreeMap::new(),
            machines: BTreeMap::new(),
            catalogue: BTreeMap::new(),
            hidden: BTreeSet::new(),
            unconfirmed: Vec::new(),
            checks: BTreeMap::new(),
            lock: None,
            alarm: None,
            catalogue_unread: false,
            revoked: BTreeSet::new(),
            behaviour: BTreeMap::new(),
            events: Vec::new(),
            reports: BTreeMap::new(),
            actions: Vec::new(),
            work: Work::Boot,
            services: true,
            created: BTreeSet::new(),
            peak: 0,
            started_at: 0,
            seed: 1,
            plan: Plan::default(),
            boot_delay_ms: 2_000,
            room: Room::default(),
            slots: None,
            in_flight: 0,
            catch_up_ms: 0,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { ms: self.ms }
    }

    pub(crate) fn build(&self, version: &str) -> Build {
        let byte = version.bytes().fold(0_u8, u8::wrapping_add);
        Build {
            image: ImageRef {
                tag: format!("web@{version}").parse().unwrap(),
                digest: Digest::from_sha256([byte; 32]),
            },
            work: self.work,
            services: self.services,
            quorum: true,
        }
    }

    /// Gives an order, as `ann`.
    pub(crate) fn order(&mut self, order: &Command) -> Result<Vec<String>, Refusal> {
        self.order_by("ann", order)
    }

    /// Gives an order, as `who`.
    pub(crate) fn order_by(&mut self, who: &str, order: &Command) -> Result<Vec<String>, Refusal> {
        let windows = self.windows();
        let input = CommandInput {
            now: self.now(),
            wall_ms: self.ms,
            environment: &self.environment,
            rules: &self.rules,
            fleets: &self.fleets,
            windows: &windows,
            gone: &self.gone,
        };
        let outcome = command(&input, order, who)?;
        if let Some(environment) = outcome.environment.clone() {
            self.environment = environment;
        }
        self.fleets.extend(outcome.changes);
        self.events.extend(outcome.events);
        Ok(outcome.lines)
    }

    pub(crate) fn apply(&mut self, text: &str, version: &str) {
        let spec = spec(text);
        let build = self.build(version);
        let order = Command::ApplyFleet {
            spec: Box::new(spec),
            build,
        };
        self.order(&order).unwrap();
    }

    pub(crate) fn start(&mut self, version: &str) -> Result<Vec<String>, Refusal> {
        let build = self.build(version);
        self.order(&Command::StartRollout {
            fleet: web(),
            build,
            plan: None,
            emergency: None,
        })
    }

    /// What the coordinator sees now.
    pub(crate) fn observed(&self) -> Observed {
        let mut observed = Observed {
            report_interval: STEP,
            watching_for: Duration::from_millis(self.ms - self.started_at),
            windows: self.windows(),
            ..Observed::default()
        };
        observed
            .provider_lists
            .insert("process".to_owned(), Duration::ZERO);
        if let Some(slots) = self.slots {
            let there = u32::try_from(self.machines_there()).unwrap();
            let free = Capacity::Free(slots.saturating_sub(there));
            observed.capacity.insert("process".to_owned(), free);
        }
        let known: BTreeSet<&InstanceId> = self
            .fleets
            .values()
            .flat_map(|fleet| fleet.instances.keys())
            .chain(&self.revoked)
            .collect();
        for id in known {
            observed.instances.insert(id.clone(), self.see(id));
        }
        for (fleet, roles) in self.catalogue.iter().filter(|_| !self.catalogue_unread) {
            let visible = roles.keys().filter(|id| !self.hidden.contains(*id));
            let seen = CatalogueObserved {
                roles: roles.clone(),
                visible: visible.cloned().collect(),
                unconfirmed: self.unconfirmed.clone(),
                checks: self.checks.clone(),
            };
            observed.catalogue.insert(fleet.clone(), seen);
        }
        observed
    }

    fn ago(&self, then: u64) -> Duration {
        Duration::from_millis(self.ms.saturating_sub(then))
    }

    fn see(&self, id: &InstanceId) -> InstanceObserved {
        let mut seen = InstanceObserved {
            revoked: self.revoked.contains(id),
            alarm: self.alarm.clone(),
            lock: self.see_lock(id),
            ..InstanceObserved::default()
        };
        let wanted = self
            .fleets
            .values()
            .find_map(|fleet| fleet.instances.get(id));
        let version = wanted.map(|found| found.build.image.tag.version.to_string());
        if self.behaves(&version.unwrap_or_default()) == Behaviour::CannotBeMade {
            seen.fault = Some(ProviderFault {
                message: "the image's digest is another".to_owned(),
                tries: 1,
                retry_in: Duration::ZERO,
                permanent: true,
                kind: FaultKind::Image,
            });
        } else if self.is_full_for(id) {
            seen.fault = self.room.fault();
        }
        let Some(machine) = self.machines.get(id) else {
            seen.machine = Some(MachineObserved {
                age: Duration::ZERO,
                state: MachineState::Absent,
                address: None,
            });
            return seen;
        };
        let there = machine.state != MachineState::Absent;
        seen.machine = Some(MachineObserved {
            age: Duration::ZERO,
            state: machine.state,
            address: there.then(|| "127.0.0.2".parse().unwrap()),
        });
        if let Some(at) = machine.agent.last_word_at
            && at >= self.started_at
        {
            let mut report = machine.agent.report.clone();
            report.quorum = self.votes(id);
            let age = self.ago(at);
            seen.agent = Some(AgentObserved { age, report });
            let gone_at = machine.agent.ended_at.or(machine.path_cut_at);
            seen.session = match gone_at {
                None => SessionObserved::Alive(self.ago(machine.made_at.max(self.started_at))),
                Some(at) => SessionObserved::Ended(self.ago(at)),
            };
        }
        if there && self.services && machine.agent.report.sequence > 0 {
            let answers = machine.workload_answers && machine.path_cut_at.is_none();
            seen.probe = Some(ProbeObserved {
                age: Duration::ZERO,
                passing: answers,
                same_for: STEP,
            });
        }
        seen
    }

    fn behaves(&self, version: &str) -> Behaviour {
        let found = self.behaviour.get(version).copied();
        found.unwrap_or(Behaviour::Healthy)
    }

    /// Plans once, checks the rules, and carries the plan out.
    pub(crate) fn pass(&mut self) {
        self.seed += 1;
        let observed = self.observed();
        let before = self.fleets.clone();
        let environment = self.environment.clone();
        let input = PlanInput {
            now: self.now(),
            seed: self.seed,
            wall_ms: self.ms,
            environment: &environment,
            rules: &self.rules,
            fleets: &before,
            observed: &observed,
        };
        let caught = std::panic::catch_unwind(|| plan(&input));
        let made = caught.unwrap_or_else(|_| panic!("{}", self.story()));
        assert_eq!(made, plan(&input), "the same input gives the same plan");
        if let Some(after) = &made.environment {
            self.environment = (**after).clone();
        }
        self.events.extend(made.events.clone());
        for (name, fleet) in &made.fleets {
            match &fleet.next {
                Next::Same => assert!(fleet.events.is_empty(), "{:?}", fleet.events),
                Next::Change(after) => {
                    self.fleets.insert(name.clone(), (**after).clone());
                }
                Next::Remove => {
                    let removed = self.fleets.remove(name).unwrap();
                    self.gone.insert(name.clone(), removed.rollouts);
                }
            }
            self.events.extend(fleet.events.clone());
            self.reports.insert(name.clone(), fleet.report.clone());
        }
        self.hidden = made
            .fleets
            .values()
            .flat_map(|fleet| fleet.hidden.clone())
            .collect();
        self.actions.clear();
        for fleet in made.fleets.values() {
            for action in &fleet.actions {
                self.carry_out(action);
            }
        }
        self.peak = self.peak.max(self.machines_there());
        if let Some(slots) = self.slots {
            assert!(self.machines_there() <= usize::try_from(slots).unwrap());
        }
        let instances = self.fleets.values().flat_map(|one| one.instances.values());
        let making = instances.filter(|one| one.life == Life::Making).count();
        self.in_flight = self.in_flight.max(making);
        self.exclusive_never_twice();
        self.locks_say_what_is(&made.fleets);
        self.plan = made;
    }

    pub(crate) fn machines_there(&self) -> usize {
        let machines = self.machines.values();
        machines
            .filter(|machine| machine.state != MachineState::Absent)
            .count()
    }

    fn carry_out(&mut self, action: &Action) {
        self.actions.push(action.clone());
        match action {
            Action::CreateMachine {
                instance, build, ..
            } => {
                let version = build.image.tag.version.to_string();
                let cannot = match self.behaves(&version) {
                    Behaviour::CannotBeMade | Behaviour::NeverMade => true,
                    Behaviour::Healthy | Behaviour::Broken | Behaviour::FailsWhenActive => false,
                };
                if cannot || self.is_full_for(instance) {
                    return;
                }
                self.created.insert(instance.clone());
                let machine = Machine::new(self.ms, version, build.work);
                self.machines.entry(instance.clone()).or_insert(machine);
            }
            Action::SetWanted { instance, wanted } => {
                if let Some(machine) = self.machines.get_mut(instance)
                    && machine.agent.ended_at.is_none()
                    && machine.path_cut_at.is_none()
                {
                    machine.agent.apply(*wanted, self.ms);
                }
                self.keep_lock();
            }
            Action::SetRoles { fleet, roles } => {
                self.catalogue.insert(fleet.clone(), roles.clone());
            }
            Action::RevokeIdentity { instance } => {
                self.revoked.insert(instance.clone());
                if let Some(machine) = self.machines.get_mut(instance) {
                    machine.agent.ended_at.get_or_insert(self.ms);
                }
            }
            Action::DeleteMachine { instance, .. } => {
                self.machines.remove(instance);
            }
        }
    }

    /// Lets one second pass: agents report, then the coordinator plans.
    pub(crate) fn tick(&mut self) {
        self.ms += u64::try_from(STEP.as_millis()).unwrap();
        let behaviours = self.behaviour.clone();
        for machine in self.machines.values_mut() {
            let behaviour = behaviours
                .get(&machine.version)
                .copied()
                .unwrap_or(Behaviour::Healthy);
            machine.step(self.ms, behaviour, self.boot_delay_ms);
        }
        self.keep_lock();
        self.pass();
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        for _ in 0..duration.as_secs() {
            self.tick();
        }
    }

    /// Lets time pass until `done`; at most for `limit` seconds.
    pub(crate) fn run_until(&mut self, limit: u32, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..limit {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("not within {limit} s: {}", self.story());
    }

    pub(crate) fn run_to(&mut self, phase: Phase) {
        self.run_until(3_600, |world| world.phase() == Some(phase));
    }

    /// Whether the next looks change and order nothing more.
    pub(crate) fn is_quiet(&mut self) -> bool {
        (0..5).all(|_| {
            self.tick();
            self.plan
                .fleets
                .values()
                .all(|fleet| fleet.next == Next::Same && fleet.actions.is_empty())
        })
    }

    /// The history, for a test that fails.
    pub(crate) fn story(&self) -> String {
        let lines = self.events.iter().map(|event| event.text.as_str());
        let tail = format!("{:#?}\n{:#?}", self.reports, self.actions);
        lines.chain([tail.as_str()]).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn tells(&self, text: &str) -> bool {
        self.events.iter().any(|event| event.text.contains(text))
    }
}

pub(crate) fn web() -> FleetName {
    "web".parse().unwrap()
}

/// A fleet file's text, with the name, an image and short times where it says nothing else.
pub(crate) fn spec(text: &str) -> FleetSpec {
    let mut spec = FleetSpec::parse(
        "web.toml",
        &format!("name = \"web\"\nimage = \"web@1.0\"\n{text}"),
    )
    .unwrap();
    if !text.contains("bake") {
        spec.replace.bake = calvin_model::HumanDuration::from_secs(20);
    }
    spec
}
