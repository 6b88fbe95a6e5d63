//! One pass of the planner over many fleets: when nothing is to be done, and when every fleet
//! begins a rollout; and passes of planner and engine over a mixed environment whose fleets are all
//! replaced at the same time. Each figure twice: as the wall clock has it, and the processor time.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod memory;
mod report;
mod world;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use calvin_engine::{Decide, Engine, PassOutcome};

use calvin_model::{
    BootId, CatalogueRole, Digest, FleetName, FleetSpec, Generation, Health, ImageRef, InstanceId,
    Report, Role, Wanted, WorkloadState, fleet::FleetKind, image::Work,
};
use calvin_planner::{
    AgentObserved, Build, CatalogueObserved, Command, CommandInput, CommandOutcome,
    EnvironmentRules, EnvironmentState, FleetState, Instance, InstanceObserved, Life,
    MachineObserved, MachineState, Moment, Next, Observed, Plan, PlanInput, ProbeObserved, Purpose,
    Refusal, SessionObserved, command, plan,
};
use rustix::time::{ClockId, clock_gettime};

use self::{memory::peak_memory_mb, report::Figures, world::World};

/// Runs of each figure.
const RUNS: usize = 15;

/// Instances of one fleet.
const FLEET: usize = 100;

/// What the project promises of one pass over 10,000 instances: when something changes, and when
/// nothing does.
const CHANGED_MS: f64 = 100.0;
const UNCHANGED_MS: f64 = 10.0;

/// The mixed environment, and how long it is watched while all of it is replaced.
const INSTANCES: u32 = 10_000;
const FLEETS: u32 = 100;
const WATCHED: usize = 300;

struct Uniform {
    environment: EnvironmentState,
    rules: EnvironmentRules,
    fleets: BTreeMap<FleetName, FleetState>,
    observed: Observed,
}

fn build(version: &str) -> Build {
    Build {
        image: ImageRef {
            tag: format!("web@{version}").parse().expect("a tag"),
            digest: Digest::from_sha256([1; 32]),
        },
        work: Work::Boot,
        services: true,
        quorum: false,
    }
}

/// A healthy instance that serves since long ago.
fn instance(build: &Build) -> Instance {
    Instance {
        build: build.clone(),
        purpose: Purpose::Scale,
        life: Life::Up,
        since: Moment { ms: 0 },
        created: Moment { ms: 0 },
        wanted: Wanted {
            generation: Generation(1),
            role: Role::Active,
            drain: None,
        },
        wanted_since: Moment { ms: 0 },
        catalogue: CatalogueRole::Active,
        proven: true,
        replace: None,
        zone: None,
        protected: None,
        at_work: false,
        ordered: None,
    }
}

fn healthy(boot: &BootId) -> InstanceObserved {
    let age = Duration::from_secs(1);
    InstanceObserved {
        agent: Some(AgentObserved {
            age,
            report: Report {
                boot: boot.clone(),
                sequence: 9,
                generation_applied: Generation(1),
                role_applied: Some(Role::Active),
                health: Health::Healthy,
                health_for: Duration::from_secs(3_600),
                flaps: 0,
                clock_offset_ms: Some(0),
                workload: WorkloadState::Running,
                names: None,
                drain: None,
                failing: Vec::new(),
                connections: None,
                refused: None,
                names_unsaved: None,
                quorum: None,
                consul: None,
            },
        }),
        session: SessionObserved::Alive(Duration::from_secs(3_600)),
        gossip: None,
        probe: Some(ProbeObserved {
            age,
            passing: true,
            same_for: Duration::from_secs(3_600),
        }),
        machine: Some(MachineObserved {
            age,
            state: MachineState::Running,
            address: None,
        }),
        ..InstanceObserved::default()
    }
}

fn uniform(fleets: usize) -> Uniform {
    let boot: BootId = "b0".parse().expect("a boot id");
    let mut world = Uniform {
        environment: EnvironmentState::default(),
        rules: EnvironmentRules::default(),
        fleets: BTreeMap::new(),
        observed: Observed {
            report_interval: Duration::from_secs(5),
            watching_for: Duration::from_secs(86_400),
            ..Observed::default()
        },
    };
    world
        .observed
        .provider_lists
        .insert("process".to_owned(), Duration::from_secs(1));
    for number in 0..fleets {
        let name: FleetName = format!("fleet-{number}").parse().expect("a name");
        let text = format!("name = \"{name}\"\nimage = \"web@1.0\"\ncount = {FLEET}\n");
        let spec = FleetSpec::parse("bench", &text).expect("a fleet file");
        let mut state = FleetState::new(spec);
        state.serving = Some(build("1.0"));
        let mut catalogue = CatalogueObserved::default();
        for index in 0..FLEET {
            let random = u64::try_from(index).expect("a small number");
            let id = InstanceId::new(&name, random);
            state.instances.insert(id.clone(), instance(&build("1.0")));
            catalogue.roles.insert(id.clone(), CatalogueRole::Active);
            catalogue.visible.push(id.clone());
            world.observed.instances.insert(id, healthy(&boot));
        }
        world.observed.catalogue.insert(name.clone(), catalogue);
        world.fleets.insert(name, state);
    }
    world
}

fn begin_rollouts(world: &mut Uniform, now: Moment) {
    let names: Vec<_> = world.fleets.keys().cloned().collect();
    for fleet in names {
        let order = Command::StartRollout {
            fleet,
            build: build("2.0"),
            plan: None,
            emergency: None,
        };
        let input = CommandInput {
            windows: &BTreeMap::new(),
            now,
            wall_ms: now.ms,
            environment: &world.environment,
            rules: &world.rules,
            fleets: &world.fleets,
            gone: &BTreeMap::new(),
        };
        let outcome = command(&input, &order, "bench").expect("the order is taken");
        world.fleets.extend(outcome.changes);
    }
}

/// Milliseconds that something took.
#[derive(Debug, Clone, Copy)]
struct Spent {
    wall: f64,
    processor: f64,
}

/// Runs something, and says what it took.
fn spent<T>(what: impl FnOnce() -> T) -> (T, Spent) {
    let processor = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let whole = Duration::from_secs(u64::try_from(time.tv_sec).expect("not that long"));
        whole + Duration::from_nanos(u64::try_from(time.tv_nsec).expect("below a second"))
    };
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (began, used) = (Instant::now(), processor());
    let made = what();
    let spent = Spent {
        wall: ms(began.elapsed()),
        processor: ms(processor().saturating_sub(used)),
    };
    (made, spent)
}

/// On a machine with nothing else to do both are the same, for one thread that waits for nothing; so
/// the limit is on what others' work does not change.
fn add(figures: &mut Figures, name: &str, runs: &[Spent], limit: Option<f64>) {
    let wall = runs.iter().map(|run| run.wall).collect();
    let processor = runs.iter().map(|run| run.processor).collect();
    figures.add(name, wall, "ms", None);
    figures.add(format!("{name}, processor"), processor, "ms", limit);
}

fn passes(world: &Uniform, now: Moment) -> Vec<Spent> {
    let input = PlanInput {
        now,
        seed: 7,
        wall_ms: now.ms,
        environment: &world.environment,
        rules: &world.rules,
        fleets: &world.fleets,
        observed: &world.observed,
    };
    // What a pass makes is also thrown away: that is part of its price.
    let run = || spent(|| drop(black_box(plan(black_box(&input))))).1;
    (0..RUNS).map(|_| run()).collect()
}

/// The planner, with a watch.
#[derive(Debug, Clone, Default)]
struct Timed(Rc<RefCell<Option<Decided>>>);

/// One decision: what it took, and whether it changes or does anything.
#[derive(Debug, Clone, Copy)]
struct Decided {
    spent: Spent,
    changes: bool,
}

impl Decide for Timed {
    fn plan(&self, input: &PlanInput<'_>) -> Plan {
        let (made, spent) = spent(|| plan(black_box(input)));
        let changes = made
            .fleets
            .values()
            .any(|fleet| fleet.next != Next::Same || !fleet.actions.is_empty());
        *self.0.borrow_mut() = Some(Decided { spent, changes });
        made
    }

    fn command(
        &self,
        input: &CommandInput<'_>,
        order: &Command,
        who: &str,
    ) -> Result<CommandOutcome, Refusal> {
        command(input, order, who)
    }
}

/// A mixed environment, the engine that keeps it, and what its passes took.
struct Environment {
    engine: Engine<World, Timed>,
    decided: Timed,
}

impl Environment {
    fn new() -> Self {
        let decided = Timed::default();
        let world = World::new(world::rules(INSTANCES));
        let run = "a1".parse().expect("a run id");
        let engine = Engine::start_with(world, decided.clone(), run, 7).expect("it starts");
        Self { engine, decided }
    }

    /// One pass, a second after the last: what the planner took, what the whole took, and whether
    /// anything changed.
    fn pass(&mut self) -> (Spent, Spent, bool) {
        self.engine.ports_mut().forward(Duration::from_secs(1));
        let (outcome, whole) = spent(|| self.engine.pass());
        assert!(
            matches!(outcome, PassOutcome::Decided { .. }),
            "{outcome:?}"
        );
        let decided = self.decided.0.borrow_mut().take().expect("it decided");
        (decided.spent, whole, decided.changes)
    }

    fn order(&mut self, order: &Command) {
        let taken = self.engine.command(order, "bench").expect("it is taken");
        assert!(taken.changes.len() == 1, "{order:?}");
    }

    fn running(&self) -> usize {
        let view = self.engine.view();
        let fleets = view.fleets.values();
        fleets.filter(|fleet| fleet.running().is_some()).count()
    }

    /// Passes until every rollout has ended.
    fn settle(&mut self) {
        let mut passes = 0;
        while self.running() > 0 {
            self.pass();
            passes += 1;
            assert!(passes < 3_600, "{} rollouts do not end", self.running());
        }
        for _ in 0..100 {
            self.pass();
        }
    }
}

fn build_of(spec: &FleetSpec, version: &str) -> Build {
    Build {
        work: match spec.kind {
            FleetKind::Exclusive => Work::OnActive,
            FleetKind::Service | FleetKind::Quorum => Work::Boot,
        },
        quorum: spec.kind == FleetKind::Quorum,
        ..build(version)
    }
}

fn mixed(figures: &mut Figures) {
    let mut environment = Environment::new();
    let specs = world::mixed(FLEETS, INSTANCES);
    for spec in &specs {
        environment.order(&Command::ApplyFleet {
            spec: Box::new(spec.clone()),
            build: build_of(spec, "1.0"),
        });
    }
    environment.settle();
    assert_eq!(environment.engine.ports_mut().machines(), 10_000);
    let mut rest = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (decided, whole, changes) = environment.pass();
        assert!(!changes, "it is at rest");
        rest.0.push(decided);
        rest.1.push(whole);
    }
    for spec in &specs {
        environment.order(&Command::StartRollout {
            fleet: spec.name.clone(),
            build: build_of(spec, "2.0"),
            plan: None,
            emergency: None,
        });
    }
    let mut moving = (Vec::new(), Vec::new());
    let mut still = (Vec::new(), Vec::new());
    let mut most = 0;
    while moving.0.len() + still.0.len() < WATCHED && environment.running() > 0 {
        let (decided, whole, changes) = environment.pass();
        let kind = if changes { &mut moving } else { &mut still };
        kind.0.push(decided);
        kind.1.push(whole);
        most = most.max(environment.engine.ports_mut().machines());
    }
    println!(
        "mixed: {} passes with rollouts, {} of them changed nothing; up to {most} machines; {} rollouts run on",
        moving.0.len() + still.0.len(),
        still.0.len(),
        environment.running(),
    );
    for (name, (plans, passes), limit) in [
        ("at rest", rest, UNCHANGED_MS),
        ("all replaced, nothing changed", still, UNCHANGED_MS),
        ("all replaced, something changed", moving, CHANGED_MS),
    ] {
        add(figures, &format!("mixed, {name}"), &plans, Some(limit));
        let name = format!("mixed, {name}, whole pass");
        add(figures, &name, &passes, None);
    }
}

fn main() {
    let mut figures = Figures::new("planner");
    mixed(&mut figures);
    let peak = peak_memory_mb().unwrap_or(f64::NAN);
    figures.add("mixed, peak resident memory", vec![peak], "MB", None);
    let now = Moment { ms: 86_400_000 };
    for fleets in [1, 10, 100] {
        let instances = fleets * FLEET;
        let limit = |ms: f64| (instances == 10_000).then_some(ms);
        let mut world = uniform(fleets);
        let name = format!("{instances} instances, nothing to do");
        add(
            &mut figures,
            &name,
            &passes(&world, now),
            limit(UNCHANGED_MS),
        );
        begin_rollouts(&mut world, now);
        let name = format!("{instances} instances, all rollouts begin");
        add(&mut figures, &name, &passes(&world, now), limit(CHANGED_MS));
    }
    figures.print();
}
