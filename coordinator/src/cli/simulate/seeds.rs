//! Many seeds: does any of them break a rule? The first that does is made as short as it can be.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use calvin_model::{FleetSpec, fleet::FleetKind, image::Work};
use calvin_simulator::{
    Behaviour, Fault, Pace, Scenario, Simulation, Tally, campaign, pace, shrink,
};

use super::SimulateArguments;
use crate::cli::{
    exit::Exit,
    failure::Failure,
    render,
    screen::{Format, Screen, Sink},
    setting::Setting,
    view::{SeedsView, ShortestView},
};

/// Instances where nothing is said.
const INSTANCES: u32 = 6;
/// How often progress is shown on a terminal, and in a pipe.
const SHOWN_EVERY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long things go wrong in the life of a real fleet, where nothing is said.
const HOUR: Duration = Duration::from_secs(3_600);
/// How long all may take to come to rest after that.
const REST: Duration = Duration::from_secs(600);

/// Puts a small fleet through everything.
pub(super) fn run(arguments: &SimulateArguments, setting: &Setting) -> Result<Exit, Failure> {
    let faults = arguments
        .faults
        .clone()
        .unwrap_or_else(|| Fault::ALL.into_iter().collect());
    let kind = FleetKind::from(arguments.kind);
    let count = match kind {
        FleetKind::Exclusive => 1,
        FleetKind::Service | FleetKind::Quorum => arguments.instances.unwrap_or(INSTANCES),
    };
    let scenario = |seed| {
        let mut scenario = Scenario::drawn(kind, count, faults.iter().copied(), seed);
        if !arguments.steps.is_empty() {
            scenario.steps.clone_from(&arguments.steps);
        }
        let time = arguments.fault_time.map(|time| time.0);
        if let Some(time) = time.or(arguments.hours()) {
            scenario.faults_for = time;
            scenario.limit = scenario.limit.max(time + REST);
        }
        scenario.only = arguments.only.as_ref().map(|only| only.0.clone());
        scenario
    };
    go(arguments, setting, &faults, count, &scenario)
}

/// Puts the fleets of files through what was asked for.
pub(super) fn run_fleets(
    arguments: &SimulateArguments,
    setting: &Setting,
    fleets: &[FleetSpec],
    faults: &BTreeSet<Fault>,
) -> Result<Exit, Failure> {
    let count: u32 = fleets.iter().map(|fleet| fleet.count).sum();
    let time = arguments.hours().unwrap_or(HOUR);
    let base = of_files(arguments, fleets, faults, time, pace(count));
    let scenario = |seed: u64| {
        let mut scenario = base.clone();
        let bad = faults.contains(&Fault::BadImage);
        if let (true, Some(new)) = (bad, scenario.images.last_mut()) {
            new.behaviour = match seed % 3 {
                0 => Behaviour::Good,
                1 => Behaviour::NeverHealthy,
                _ => Behaviour::BadOnceActive { after: REST / 60 },
            };
        }
        scenario
    };
    go(arguments, setting, faults, count, &scenario)
}

fn of_files(
    arguments: &SimulateArguments,
    fleets: &[FleetSpec],
    faults: &BTreeSet<Fault>,
    time: Duration,
    pace: Pace,
) -> Scenario {
    let mut scenario = Scenario::small(1)
        .then_rollout(2)
        .with_faults(faults.iter().copied());
    if let Some((first, more)) = fleets.split_first() {
        scenario.spec = first.clone();
        scenario.more = more.to_vec();
    }
    scenario.images.truncate(2);
    for image in &mut scenario.images {
        let kinds = |kind| fleets.iter().any(|fleet| fleet.kind == kind);
        image.votes = kinds(FleetKind::Quorum);
        if kinds(FleetKind::Exclusive) {
            image.work = Work::OnActive;
        }
    }
    scenario.cloud = arguments.cloud(fleets);
    scenario.pace = pace;
    scenario.faults_for = time;
    // A day for whatever the files' own policies wait for.
    scenario.limit = time + 24 * HOUR;
    scenario
}

fn go(
    arguments: &SimulateArguments,
    setting: &Setting,
    faults: &BTreeSet<Fault>,
    instances: u32,
    scenario: &(impl Fn(u64) -> Scenario + Sync),
) -> Result<Exit, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = arguments.seed_range();
    if arguments.trace {
        let seed = seeds.start;
        let outcome = Simulation::run(&scenario(seed), seed);
        super::trace(setting.screen, outcome.trace.as_str())?;
    }
    let total = seeds.end.saturating_sub(seeds.start);
    let meter = Meter::new(setting.screen, total);
    let started = Instant::now();
    let tally = campaign(seeds, threads, scenario, &|tally: &Tally| meter.show(tally));
    let took = started.elapsed();
    meter.clear()?;
    let shortest = tally.failures.first().and_then(|(seed, _)| {
        if total > 1 {
            setting.screen.remark(&format!(
                "seed {seed} breaks a rule; looking for its shortest run"
            ));
        }
        shrink(&scenario(*seed), *seed)
    });
    let shortest = shortest.map(|shrunk| {
        if arguments.files.is_empty() {
            ShortestView::of_the_small_fleet(&shrunk)
        } else {
            ShortestView::of_files(&shrunk)
        }
    });
    let view = SeedsView::new(&tally, took, threads, instances, faults, shortest);
    setting.screen.show(&view, render::simulate::seeds)?;
    Ok(if tally.broken > 0 {
        Exit::RuleBroken
    } else {
        Exit::Done
    })
}

/// Shows how far it is: on a terminal in place, in a pipe a line now and then.
struct Meter {
    screen: Screen,
    total: u64,
    shown: Mutex<Option<Instant>>,
    started: Instant,
}

impl Meter {
    fn new(screen: Screen, total: u64) -> Self {
        Self {
            screen,
            total,
            shown: Mutex::new(None),
            started: Instant::now(),
        }
    }

    fn show(&self, tally: &Tally) {
        if self.screen.format == Format::Json || tally.seeds >= self.total {
            return;
        }
        let every = match self.screen.sink {
            Sink::Terminal => SHOWN_EVERY.0,
            Sink::Pipe => SHOWN_EVERY.1,
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let since = shown.unwrap_or(self.started);
        if since.elapsed() < every {
            return;
        }
        *shown = Some(Instant::now());
        let line = format!(
            "{} of {} seeds, {} broken",
            tally.seeds, self.total, tally.broken
        );
        // Who reads no progress is told the result, or that it cannot be written.
        let _ = match self.screen.sink {
            Sink::Terminal => self.screen.text(&format!("\r\x1b[K{line}")),
            Sink::Pipe => self.screen.text(&format!("{line}\n")),
        };
    }

    fn clear(&self) -> Result<(), Failure> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match self.screen.sink {
            Sink::Terminal if shown.is_some() => self.screen.text("\r\x1b[K"),
            Sink::Terminal | Sink::Pipe => Ok(()),
        }
    }
}
