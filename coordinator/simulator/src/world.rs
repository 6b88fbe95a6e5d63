//! The world: what there is, which time it is, and what happens next.
//!
//! It implements the engine's ports by its parts. What the engine hands in stays in those parts
//! until its pass is over; then the world takes it, unless the coordinator has crashed.

mod coordinator;
mod fate;
mod machines;
mod sessions;
mod truth;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use calvin_engine::ports::{AgentLink, Catalogue, Clock, Images, Ports, Probe, Provider, Store};
use calvin_lifecycle::Spec;
use calvin_model::{Epoch, ImageManifest, ImageRef, InstanceId, NamesSnapshot, image::ImageTag};
use calvin_planner::{EnvironmentRules, MachineState};

use self::truth::Truth;
use crate::{
    agents::SimLink,
    catalogue::SimCatalogue,
    check::Rule,
    event::{Event, MachineNumber, Queue},
    fuse::Fuse,
    machine::Machine,
    network::Network,
    probe::SimProbe,
    provider::{NAME, SimProvider},
    scenario::{Behaviour, Crash, Fault, Scenario, Step},
    store::SimStore,
};

/// Time from the first news to the pass that looks at them: what arrives together is looked at
/// together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Wall clock of the world's beginning: November 2023.
const WALL_BEGINNING_MS: u64 = 1_700_000_000_000;

/// Time for the engine.
#[derive(Debug, Default)]
pub(crate) struct SimClock {
    pub(crate) now: Duration,
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        self.now
    }

    fn wall_ms(&self) -> u64 {
        WALL_BEGINNING_MS + u64::try_from(self.now.as_millis()).unwrap_or(0)
    }
}

/// One recorded image.
#[derive(Debug)]
pub(crate) struct KnownImage {
    pub(crate) manifest: ImageManifest,
    pub(crate) spec: Arc<Spec>,
    pub(crate) behaviour: Behaviour,
}

/// Recorded images.
#[derive(Debug, Default)]
pub(crate) struct SimImages {
    pub(crate) known: BTreeMap<ImageTag, KnownImage>,
}

impl Images for SimImages {
    fn manifest(&self, image: &ImageRef) -> Option<ImageManifest> {
        self.known
            .get(&image.tag)
            .map(|image| image.manifest.clone())
    }
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: SimClock,
    queue: Queue,
    random: fastrand::Rng,
    network: Network,
    pub(crate) store: SimStore,
    provider: SimProvider,
    pub(crate) link: SimLink,
    pub(crate) catalogue: SimCatalogue,
    probe: SimProbe,
    images: SimImages,
    pub(crate) fuse: Fuse,
    pub(crate) machines: Vec<Machine>,
    /// Machines that exist, by their tag.
    pub(crate) by_instance: BTreeMap<InstanceId, MachineNumber>,
    /// The epoch of the coordinator's run, while it runs.
    speaking: Option<Epoch>,
    /// The snapshot before the newest.
    served: NamesSnapshot,
    faults: BTreeSet<Fault>,
    /// Until when things go wrong by chance.
    faults_until: Duration,
    /// Something happened that the coordinator is to look at.
    poked: bool,
    /// Fate ends this run of the coordinator.
    killed: bool,
    /// What is kept to judge the coordinator by.
    truth: Truth,
    /// Until when the provider lists nothing.
    lists_nothing_until: Duration,
    /// Most machines at one time.
    machines_max: usize,
    serial: u64,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        let fuse = match scenario.crash {
            Crash::AtAction(number) => Fuse::after(number),
            Crash::Never | Crash::AtWrite(..) | Crash::EveryWrite(_) => Fuse::default(),
        };
        let images = scenario.images.iter().map(|image| {
            let manifest = image.manifest();
            let known = KnownImage {
                spec: Arc::new(Spec::of(&manifest)),
                manifest,
                behaviour: image.behaviour,
            };
            (image.tag.clone(), known)
        });
        let catalogue = SimCatalogue::new(fuse.clone());
        let mut world = Self {
            clock: SimClock::default(),
            queue: Queue::default(),
            random: fastrand::Rng::with_seed(seed),
            network: Network::new(&scenario.faults),
            store: SimStore::new(scenario.crash),
            provider: SimProvider::new(fuse.clone()),
            link: SimLink::new(fuse.clone()),
            served: catalogue.snapshot.clone(),
            catalogue,
            probe: SimProbe::default(),
            images: SimImages {
                known: images.collect(),
            },
            fuse,
            machines: Vec::new(),
            by_instance: BTreeMap::new(),
            speaking: None,
            faults: scenario.faults.clone(),
            faults_until: scenario.faults_for,
            poked: false,
            killed: false,
            truth: Truth::default(),
            lists_nothing_until: Duration::ZERO,
            machines_max: machines_max(scenario),
            serial: 0,
        };
        let second = Duration::from_secs(1);
        world.queue.put(second, Event::List);
        world.queue.put(second, Event::Probe);
        world.queue.put(second, Event::Fate);
        world
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now
    }

    /// Lets time pass until there is news for the coordinator, or until `at`.
    pub(crate) fn until_news(&mut self, at: Duration) {
        self.poked = false;
        let mut end = at;
        while let Some(next) = self.queue.next_at()
            && next <= end
        {
            self.happen();
            if self.poked {
                end = end.min(self.now() + TOGETHER);
                self.poked = false;
            }
        }
        self.set_now(end.max(self.now()));
    }

    /// Lets time pass until `at`, whatever happens.
    pub(crate) fn until(&mut self, at: Duration) {
        while self.queue.next_at().is_some_and(|next| next <= at) {
            self.happen();
        }
        self.set_now(at);
    }

    fn set_now(&mut self, now: Duration) {
        self.clock.now = now;
        self.store.now = now;
        self.provider.now = now;
        self.link.now = now;
        self.probe.now = now;
    }

    fn happen(&mut self) {
        let Some((at, event)) = self.queue.take() else {
            return;
        };
        self.set_now(at.max(self.now()));
        match event {
            Event::MachineMade(number) => self.machine_made(number),
            Event::MachineGone(number) => self.machine_gone(number),
            Event::List => self.list_machines(),
            Event::Probe => self.probe_targets(),
            Event::Connect(number, run) => self.connect(number, run),
            Event::AgentLost(number, session) => self.agent_lost(number, session),
            Event::LinkLost(session) => self.link_lost(session),
            Event::ToAgent(number, session, message) => self.agent_hears(number, session, *message),
            Event::FromAgent(session, message) => self.link_hears(session, *message),
            Event::Committed(number, run, revision) => self.committed(number, run, revision),
            Event::Check(number, run, index) => self.check(number, run, index),
            Event::Hook(number, run, hook) => self.hook_ended(number, run, hook),
            Event::Tick(number, run) => self.tick(number, run),
            Event::Workload(number, order, state) => self.workload(number, order, state),
            Event::AgentStarts(number) => self.start_agent(number),
            Event::Fate => self.fate(),
            Event::Heal(instance) => self.network.heal(&instance),
            Event::StoreWorks => self.store.failing = None,
        }
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let now = self.now();
        self.store.trace.line(now, what);
    }

    pub(crate) fn broken(&mut self, rule: Rule, text: String) {
        let now = self.now();
        self.store.violations.add(now, rule, text);
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
        self.now() + Duration::from_millis(self.random.u64(least_ms..=most_ms))
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The existing machine of an instance, while it is not being deleted.
    pub(crate) fn running(&self, instance: &InstanceId) -> Option<MachineNumber> {
        let number = *self.by_instance.get(instance)?;
        (self.machine(number).state == MachineState::Running).then_some(number)
    }
}

/// Two sets, and one more machine for each of a set while it is repaired.
fn machines_max(scenario: &Scenario) -> usize {
    let counts = scenario.steps.iter().map(|step| match step {
        Step::Scale(count) => *count,
        Step::Apply(_)
        | Step::Rollout(_)
        | Step::RollBackIn(_)
        | Step::Undo
        | Step::Delete
        | Step::KillMachine
        | Step::AgentsAway(_)
        | Step::Stray
        | Step::Blackout(_)
        | Step::Wait(_) => scenario.spec.count,
    });
    let count = counts.max().unwrap_or(scenario.spec.count);
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_mul(3)
}

impl Ports for World {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn rules(&self) -> EnvironmentRules {
        EnvironmentRules::default()
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    fn providers(&self) -> Vec<(&str, &dyn Provider)> {
        vec![(NAME, &self.provider)]
    }

    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider> {
        if name == NAME {
            Some(&mut self.provider)
        } else {
            None
        }
    }

    fn catalogue(&mut self) -> &mut dyn Catalogue {
        &mut self.catalogue
    }

    fn agents(&mut self) -> &mut dyn AgentLink {
        &mut self.link
    }

    fn probe(&mut self) -> &mut dyn Probe {
        &mut self.probe
    }

    fn images(&self) -> &dyn Images {
        &self.images
    }
}
