//! The world: what there is, which time it is, and what happens next.
//!
//! What a coordinator hands in stays at its desk until its pass is over; then the world takes it,
//! unless the coordinator has crashed.

mod at_work;
mod catalogue;
mod cloud;
mod coordinator;
mod fate;
mod machines;
mod sampling;
mod sessions;
mod stores;
mod truth;
mod twins;
mod voters;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    rc::Rc,
    time::Duration,
};

use calvin_model::{FleetName, InstanceId, NamesSnapshot, ZoneName};
use calvin_planner::{EnvironmentRules, ProviderRules};

pub(crate) use self::sampling::Sampler;
pub use self::sampling::{FleetSample, Sample};
pub(crate) use self::stores::Copy;
use self::{cloud::CloudState, fate::Fate, truth::Truth};
use crate::{
    check::Rule,
    desk::{Desk, DeskNumber},
    event::{Event, MachineNumber, Queue},
    fault::Fault,
    fuse::Fuse,
    image::SimImages,
    log::{Keep, Log},
    machine::Machine,
    network::Network,
    scenario::{Crash, Pace, Scenario, Step},
    store::Disk,
};

/// Time from the first news to the pass that looks at them: what arrives together is looked at
/// together.
const TOGETHER: Duration = Duration::from_millis(20);

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    now: Duration,
    queue: Queue,
    random: fastrand::Rng,
    network: Network,
    pub(crate) log: Log,
    pub(crate) disk: Rc<RefCell<Disk>>,
    /// Coordinators that run, while their engines are not at work.
    pub(crate) desks: BTreeMap<DeskNumber, Box<Desk>>,
    images: Rc<SimImages>,
    pub(crate) fuse: Fuse,
    cloud: CloudState,
    fate: Fate,
    pub(crate) machines: Vec<Machine>,
    /// Machines that exist, by their tag.
    pub(crate) by_instance: BTreeMap<InstanceId, MachineNumber>,
    /// Of two machines of one instance, that which is not the instance.
    twins: BTreeMap<InstanceId, MachineNumber>,
    /// Instances of which two machines were ever made.
    doubled: BTreeSet<InstanceId>,
    /// Fleets of which never two may be at work.
    exclusive: BTreeSet<FleetName>,
    /// The newest names that any coordinator has published: what agents have, or will have.
    pub(crate) served: Rc<NamesSnapshot>,
    faults: BTreeSet<Fault>,
    /// Until when things go wrong by chance.
    faults_until: Duration,
    /// Another coordinator is to start beside the one that runs.
    pub(crate) another: bool,
    /// Somebody starts one on a copy of the store.
    pub(crate) copy: Option<Copy>,
    /// Backups of the store, the oldest first, and when the next is made.
    backups: VecDeque<Disk>,
    backup_due: Duration,
    /// The newest of them is put in the store's place, as soon as no coordinator runs.
    pub(crate) restoring: bool,
    /// What `calvin.toml` says.
    rules: EnvironmentRules,
    /// Until when names reach nobody.
    names_stale_until: Duration,
    /// What an operator presses next, each with its own chance.
    pub(crate) presses: Vec<fastrand::Rng>,
    /// What is kept to judge the coordinators by.
    truth: Truth,
    /// Most machines at one time.
    machines_max: usize,
    pub(crate) pace: Pace,
    pub(crate) sampler: Sampler,
    serial: u64,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64, keep: Keep) -> Self {
        let fuse = match scenario.crash {
            Crash::AtAction(number) => Fuse::after(number),
            Crash::Never | Crash::AtWrite(..) | Crash::EveryWrite(_) => Fuse::default(),
        };
        let images = SimImages::new(&scenario.images, scenario.pace.check);
        let mut random = fastrand::Rng::with_seed(seed);
        let fate = Fate::new(random.u64(..), scenario.only.clone());
        let mut world = Self {
            now: Duration::ZERO,
            queue: Queue::default(),
            random,
            network: Network::new(&scenario.faults),
            log: Log::new(keep),
            disk: Rc::new(RefCell::new(Disk::new(scenario.crash))),
            desks: BTreeMap::new(),
            images: Rc::new(images),
            fuse,
            cloud: CloudState::new(scenario.cloud, &scenario.faults),
            fate,
            machines: Vec::new(),
            by_instance: BTreeMap::new(),
            twins: BTreeMap::new(),
            doubled: BTreeSet::new(),
            exclusive: at_work::exclusive(scenario),
            served: Rc::new(crate::catalogue::no_names()),
            faults: scenario.faults.clone(),
            faults_until: scenario.faults_for,
            another: false,
            copy: None,
            backups: VecDeque::new(),
            backup_due: Duration::ZERO,
            restoring: false,
            rules: rules(scenario),
            names_stale_until: Duration::ZERO,
            presses: Vec::new(),
            truth: Truth::new(&scenario.faults),
            machines_max: machines_max(scenario),
            pace: scenario.pace,
            sampler: Sampler::new(scenario),
            serial: 0,
        };
        world.queue.put(world.pace.look, Event::List);
        world.queue.put(world.pace.look, Event::Probe);
        if !scenario.faults.is_empty() {
            world.queue.put(Duration::from_secs(1), Event::Fate);
        }
        if scenario.sample_every.is_some() {
            world.queue.put(Duration::ZERO, Event::Sample);
        }
        world
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Until when things go wrong by chance, if any do.
    pub(crate) fn faults_until(&self) -> Duration {
        self.faults_until
    }

    /// Lets time pass until a coordinator is due, or until `at`.
    pub(crate) fn advance(&mut self, at: Duration) {
        loop {
            let due = self.desks.values().map(|desk| desk.due).min();
            let end = due.map_or(at, |due| due.min(at));
            if self.queue.next_at().is_none_or(|next| next > end) {
                self.set_now(end.max(self.now));
                return;
            }
            self.happen();
        }
    }

    fn set_now(&mut self, now: Duration) {
        self.now = now;
        self.log.set_now(now);
        for desk in self.desks.values_mut() {
            desk.set_now(now);
        }
    }

    fn happen(&mut self) {
        let Some((at, event)) = self.queue.take() else {
            return;
        };
        self.set_now(at.max(self.now));
        match event {
            Event::MachineMade(number) => self.machine_made(number),
            Event::MachineGone(number) => self.machine_gone(number),
            Event::List => self.list_machines(),
            Event::Probe => self.probe_targets(),
            Event::Connect(number, run) => self.connect(number, run),
            Event::AgentLost(number, session) => self.agent_lost(number, session),
            Event::LinkLost(desk, session) => {
                self.link_lost(desk, session);
            }
            Event::ToAgent(number, session, message) => self.agent_hears(number, session, *message),
            Event::Names(number, session, names) => self.names_arrive(number, session, names),
            Event::FromAgent(desk, session, message) => self.link_hears(desk, session, message),
            Event::Committed(number, run, revision) => self.committed(number, run, revision),
            Event::Check(number, run, index) => self.check(number, run, index),
            Event::Hook(number, run, hook) => self.hook_ended(number, run, hook),
            Event::Tick(number, run) => self.tick(number, run),
            Event::Workload(number, order, state) => self.workload(number, order, state),
            Event::AgentStarts(number) => self.start_agent(number),
            Event::AgentGoesOn(number) => self.agent_goes_on(number),
            Event::DeathNoticed(number) => self.death_noticed(number),
            Event::MadeAfterAll(order) => self.made_after_all(&order),
            Event::ProviderWorks => self.provider_works(),
            Event::Fate => self.fate(),
            Event::Heal(instance) => self.network.heal(&instance),
            Event::StoreWorks => self.disk.borrow_mut().failing = None,
            Event::CatalogueWorks => self.catalogue_works(),
            Event::Sample => self.sample(),
            Event::CopyEnds(desk) => self.copy_ends(desk),
        }
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        self.log.line(what);
    }

    pub(crate) fn broken(&self, rule: Rule, text: String) {
        self.log.broken(rule, text);
    }

    fn machine(&self, number: MachineNumber) -> &Machine {
        // Numbers are given by this world and machines are never taken out.
        &self.machines[number.0]
    }

    fn machine_mut(&mut self, number: MachineNumber) -> &mut Machine {
        // As above.
        &mut self.machines[number.0]
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn soon(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        self.now + Duration::from_millis(self.random.u64(least_ms..=most_ms))
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// One in so many, when things of this kind go wrong.
    fn chance(&mut self, fault: Fault, one_in: u32) -> bool {
        self.has(fault) && self.random.u32(..one_in) == 0
    }

    /// A coordinator has something to look at.
    fn poke(&mut self, desk: DeskNumber) {
        let at = self.now + TOGETHER;
        if let Some(desk) = self.desks.get_mut(&desk) {
            desk.poke(at);
        }
    }

    /// The working machine of an instance, while it is not being deleted.
    pub(crate) fn running(&self, instance: &InstanceId) -> Option<MachineNumber> {
        let number = *self.by_instance.get(instance)?;
        self.machine(number).is_up().then_some(number)
    }
}

/// The provider has the zones that the fleets name.
fn rules(scenario: &Scenario) -> EnvironmentRules {
    let mut zones: Vec<ZoneName> = Vec::new();
    for zone in scenario.specs().flat_map(|spec| &spec.zones) {
        if !zones.contains(zone) {
            zones.push(zone.clone());
        }
    }
    let provider = (crate::provider::NAME.to_owned(), ProviderRules { zones });
    EnvironmentRules {
        providers: [provider].into(),
        ..EnvironmentRules::default()
    }
}

/// Two sets, and one more machine for each of a set while it is repaired, in every fleet.
fn machines_max(scenario: &Scenario) -> usize {
    let pressed = if scenario.faults.contains(&Fault::Operators) {
        crate::simulation::PRESSED_COUNT_MAX
    } else {
        0
    };
    let most = |count: u32| {
        let counts = scenario.steps.iter().map(|step| match step {
            Step::Scale(count) => *count,
            Step::Apply(_)
            | Step::Rollout(_)
            | Step::RollBackIn(_)
            | Step::Undo
            | Step::UndoWhenFailing(_)
            | Step::Delete
            | Step::KillMachine
            | Step::AgentsAway(_)
            | Step::Stray
            | Step::Blackout(_)
            | Step::Wait(_) => count,
        });
        counts.max().unwrap_or(count).max(count).max(pressed)
    };
    let machines = scenario.specs().map(|spec| u64::from(most(spec.count)) * 3);
    usize::try_from(machines.sum::<u64>()).unwrap_or(usize::MAX)
}
