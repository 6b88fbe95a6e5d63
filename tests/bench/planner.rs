//! One pass of the planner over many fleets: when nothing is to be done, and when every fleet
//! begins a rollout.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod report;

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use calvin_model::{
    BootId, CatalogueRole, Digest, FleetName, FleetSpec, Generation, Health, ImageRef, InstanceId,
    Report, Role, Wanted, WorkloadState, image::Work,
};
use calvin_planner::{
    AgentObserved, Build, CatalogueObserved, Command, CommandInput, EnvironmentRules,
    EnvironmentState, FleetState, Instance, InstanceObserved, Life, MachineObserved, MachineState,
    Moment, Observed, PlanInput, ProbeObserved, Purpose, SessionObserved, command, plan,
};

use self::report::Figures;

/// Runs of each figure.
const RUNS: usize = 15;

/// Instances of one fleet.
const FLEET: usize = 100;

struct World {
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
            },
        }),
        session: SessionObserved::Alive(Duration::from_secs(3_600)),
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

fn world(fleets: usize) -> World {
    let boot: BootId = "b0".parse().expect("a boot id");
    let mut world = World {
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

fn begin_rollouts(world: &mut World, now: Moment) {
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

/// Milliseconds of each run, and how many actions a pass planned.
fn passes(world: &World, now: Moment) -> (Vec<f64>, usize) {
    let mut actions = 0;
    let runs = (0..RUNS)
        .map(|_| {
            let input = PlanInput {
                now,
                seed: 7,
                wall_ms: now.ms,
                environment: &world.environment,
                rules: &world.rules,
                fleets: &world.fleets,
                observed: &world.observed,
            };
            let start = Instant::now();
            let planned = black_box(plan(black_box(&input)));
            let took = start.elapsed().as_secs_f64() * 1000.0;
            actions = planned
                .fleets
                .values()
                .map(|fleet| fleet.actions.len())
                .sum();
            took
        })
        .collect();
    (runs, actions)
}

fn main() {
    let mut figures = Figures::new("planner");
    let now = Moment { ms: 86_400_000 };
    for fleets in [1, 10, 100] {
        let instances = fleets * FLEET;
        // What the project promises: 10,000 instances in one pass of less than 100 ms.
        let limit = (instances == 10_000).then_some(100.0);
        let mut world = world(fleets);
        let (runs, _) = passes(&world, now);
        figures.add(
            format!("{instances} instances, nothing to do"),
            runs,
            "ms",
            limit,
        );
        begin_rollouts(&mut world, now);
        let (runs, _) = passes(&world, now);
        figures.add(
            format!("{instances} instances, all rollouts begin"),
            runs,
            "ms",
            limit,
        );
    }
    figures.print();
}
