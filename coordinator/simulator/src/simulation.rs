//! Runs a scenario: coordinators, one after the other or at once, on the same world, an operator
//! who gives one order after the other, and a look at all rules when everything is quiet.

mod answer;
mod operator;
mod press;
mod quiet;
mod recover;
mod start;
mod tidy;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use calvin_engine::{Decide, Engine, Notice, PassOutcome, Planner};
use calvin_model::{InstanceId, image::ImageTag};
use calvin_planner::{InvariantId, Phase};

use self::operator::{Operator, Progress};
pub(crate) use self::press::PRESSED_COUNT_MAX;
use crate::{
    check::{Rule, Violation},
    desk::{DeskNumber, Dock},
    log::Keep,
    scenario::Scenario,
    store::Copies,
    trace::Trace,
    world::{Sample, World},
};

/// How long a coordinator that crashed stays away, in milliseconds.
const AWAY_MS: (u64, u64) = (50, 2_000);

/// A scenario on its way with one seed.
#[derive(Debug)]
pub struct Simulation;

/// What a simulation came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened, if it was kept. Same scenario and seed, same trace.
    pub trace: Trace,
    /// Rules that were broken; none, if all is well.
    pub violations: Vec<Violation>,
    /// What was noted at regular times, if that was wanted.
    pub samples: Vec<Sample>,
    /// How it ended.
    pub ended: Ended,
}

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whether every step was taken and all came to rest before the limit.
    pub quiet: bool,
    /// When it ended, in virtual time.
    pub at: Duration,
    /// The newest rollout's phase.
    pub phase: Option<Phase>,
    /// The image that serves.
    pub serving: Option<ImageTag>,
    /// The active instances, with their images.
    pub active: BTreeMap<InstanceId, ImageTag>,
    /// Machines that exist.
    pub machines: usize,
    /// Writes to the store that were tried.
    pub writes: u64,
    /// Actions that were handed out.
    pub actions: u64,
    /// Runs of the coordinator.
    pub runs: u64,
    /// Passes over all runs.
    pub passes: u64,
    /// When each step was taken.
    pub steps_at: Vec<Duration>,
    /// What an operator answered, who was waited for.
    pub answers: Vec<(Duration, String)>,
    /// What happened by chance, counted as [`Scenario::only`] counts it.
    pub happened: u64,
}

/// A run of a coordinator.
#[derive(Debug)]
struct Run<D> {
    number: DeskNumber,
    /// It works on a copy of the store.
    on_copy: bool,
    engine: Engine<Dock, D>,
    /// What a person was shown after the last pass.
    notices: Arc<Vec<Notice>>,
}

struct Runner<'a, D> {
    decide: D,
    world: World,
    operator: Operator<'a>,
    limit: Duration,
    random: fastrand::Rng,
    runs: Vec<Run<D>>,
    /// When the next run starts, if one is to.
    start_at: Option<Duration>,
    /// Whether the next run starts on a store that is none of its own.
    copies: Copies,
    started: u64,
    passes: u64,
}

impl Simulation {
    /// Runs a scenario to its end, and keeps its trace.
    #[must_use]
    pub fn run(scenario: &Scenario, seed: u64) -> Outcome {
        Self::run_with(scenario, seed, Planner)
    }

    /// As `run`, with decisions that are not the planner's: for tests that break a rule on
    /// purpose, and see that it is noticed.
    #[must_use]
    pub fn run_with<D: Decide + Clone>(scenario: &Scenario, seed: u64, decide: D) -> Outcome {
        Self::run_keeping(scenario, seed, decide, Keep::Trace)
    }

    /// As `run_with`; says whether the trace is kept. That changes nothing of what happens.
    #[must_use]
    pub fn run_keeping<D: Decide + Clone>(
        scenario: &Scenario,
        seed: u64,
        decide: D,
        keep: Keep,
    ) -> Outcome {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut runner = Runner {
            decide,
            world: World::new(scenario, random.u64(..), keep),
            operator: Operator::new(scenario),
            limit: scenario.limit,
            random,
            runs: Vec::new(),
            start_at: Some(Duration::ZERO),
            copies: Copies::Refused,
            started: 0,
            passes: 0,
        };
        while runner.go_on() == Progress::GoesOn {}
        runner.end()
    }
}

impl<D: Decide + Clone> Runner<'_, D> {
    /// Lets time pass until something is to be done, and does it.
    fn go_on(&mut self) -> Progress {
        if self.world.another {
            self.world.another = false;
            self.start_at.get_or_insert(self.world.now());
        }
        if self.world.restoring {
            for run in std::mem::take(&mut self.runs) {
                self.world.coordinator_gone(run.number);
            }
            self.world.restore();
        }
        if let Some(copy) = self.world.copy.take() {
            self.start_on_copy(copy);
        }
        if self.runs.iter().all(|run| run.on_copy) && self.start_at.is_none() {
            let away = Duration::from_millis(self.random.u64(AWAY_MS.0..=AWAY_MS.1));
            self.start_at = Some(self.world.now() + away);
        }
        let until = self.start_at.unwrap_or(self.limit).min(self.limit);
        self.world.advance(until);
        let now = self.world.now();
        if self.world.restoring {
            return Progress::GoesOn;
        }
        if self.start_at.is_some_and(|at| at <= now) {
            self.start_at = None;
            self.start();
        }
        let mut place = 0;
        while place < self.runs.len() {
            let number = self.runs[place].number;
            let due = self
                .world
                .desks
                .get(&number)
                .is_some_and(|desk| desk.due <= now);
            let life = if due { self.pass(place) } else { Life::GoesOn };
            match life {
                Life::GoesOn => place += 1,
                Life::Finished => return Progress::Finished,
                Life::Ended => {
                    self.world.coordinator_gone(number);
                    self.runs.remove(place);
                }
            }
        }
        let late = self.world.now() >= self.limit;
        // Who keeps no trace wants to know whether a rule is broken, and which is the first.
        let known = !self.world.log.keeps_trace() && self.world.log.is_broken();
        if late || known {
            return Progress::Finished;
        }
        Progress::GoesOn
    }

    /// One pass of the run at this place, and what follows from it.
    fn pass(&mut self, place: usize) -> Life {
        let newest = self.runs.iter().rposition(|run| !run.on_copy) == Some(place);
        let run = &mut self.runs[place];
        let Some(mut desk) = self.world.desks.remove(&run.number) else {
            return Life::Ended;
        };
        if desk.has_crashed() {
            self.world.desks.insert(run.number, desk);
            return Life::Ended;
        }
        desk.due = self.world.now() + self.world.pace.pass;
        run.engine.ports_mut().put(desk);
        let outcome = run.engine.pass();
        self.passes += 1;
        if self.give_back(place) == Life::Ended {
            return Life::Ended;
        }
        let run = &mut self.runs[place];
        self.world.take_requests(run.number);
        self.world.judge(run.number, outcome);
        check_pass(run, outcome, &self.world);
        if outcome == PassOutcome::Stopped {
            return Life::Ended;
        }
        if !newest {
            return Life::GoesOn;
        }
        let progress = self
            .operator
            .look(&mut self.world, &mut run.engine, run.number, outcome);
        let crashed = self
            .world
            .desks
            .get(&run.number)
            .is_none_or(|desk| desk.has_crashed());
        match progress {
            Progress::Finished => Life::Finished,
            Progress::GoesOn if crashed => Life::Ended,
            Progress::GoesOn => Life::GoesOn,
        }
    }

    /// The desk is the world's again. Says whether its process has ended.
    fn give_back(&mut self, place: usize) -> Life {
        let run = &mut self.runs[place];
        let epoch = run.engine.epoch().clone();
        let Some(mut desk) = run.engine.ports_mut().take() else {
            return Life::Ended;
        };
        // An approval takes a new one.
        desk.epoch = Some(epoch);
        let crashed = desk.has_crashed();
        self.world.desks.insert(run.number, desk);
        if crashed { Life::Ended } else { Life::GoesOn }
    }

    fn end(mut self) -> Outcome {
        let quiet = self.operator.finished();
        if quiet {
            quiet::check(&self.world);
        } else if self.world.now() >= self.limit {
            let text = format!("not at rest at the limit: {}", self.operator.waits_for());
            let rule = Rule::Planner(InvariantId::RolloutEndsOrSaysWhatItWaitsFor);
            self.world.broken(rule, text);
        }
        let disk = self.world.disk.borrow();
        let fleet = disk.stored.fleets.get(self.operator.main_fleet());
        let ended = Ended {
            quiet,
            at: self.world.now(),
            phase: fleet
                .and_then(|fleet| fleet.rollout.as_ref())
                .map(|rollout| rollout.phase),
            serving: fleet
                .and_then(|fleet| fleet.serving.as_ref())
                .map(|build| build.image.tag.clone()),
            active: quiet::active(fleet),
            machines: self.world.by_instance.len(),
            writes: disk.writes,
            actions: self.world.fuse.count(),
            runs: self.started,
            passes: self.passes,
            steps_at: std::mem::take(&mut self.operator.steps_at),
            answers: self.operator.take_answers(),
            happened: self.world.happened(),
        };
        drop(disk);
        let (trace, violations) = self.world.log.take();
        Outcome {
            trace,
            violations,
            samples: std::mem::take(&mut self.world.sampler.list),
            ended,
        }
    }
}

/// What becomes of a run of the coordinator after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    GoesOn,
    Ended,
    Finished,
}

/// What must hold after every pass.
fn check_pass<D: Decide>(run: &mut Run<D>, outcome: PassOutcome, world: &World) {
    let view = run.engine.view();
    let known = std::mem::replace(&mut run.notices, Arc::clone(&view.notices));
    for notice in view.notices.iter() {
        match notice {
            Notice::Refused { .. } => {
                world.broken(Rule::NothingOfOursIsRefused, notice.to_string());
            }
            Notice::Breach(breach) => {
                world.broken(Rule::Planner(breach.invariant), breach.text.clone());
            }
            Notice::Stray { .. } | Notice::Doubled { .. } => {
                if !known.contains(notice) {
                    world.note(format_args!("notice: {notice}"));
                }
            }
            Notice::Alarm { .. }
            | Notice::NoProvider { .. }
            | Notice::NoManifest { .. }
            | Notice::NotPublished(_) => {}
        }
    }
    if let PassOutcome::Decided { .. } = outcome {
        world.check_said(run.number, &view.reports);
    }
    let epoch = run.engine.epoch();
    let replaced = world.disk.borrow().stored.epoch.as_ref() != Some(epoch);
    if outcome == PassOutcome::Stopped && !replaced {
        let text = "the engine stopped for good".to_owned();
        world.broken(Rule::NothingOfOursIsRefused, text);
    }
    let PassOutcome::Decided {
        changed: false,
        actions: 0,
    } = outcome
    else {
        return;
    };
    for (name, fleet) in view.fleets.iter() {
        let said = view
            .reports
            .get(name)
            .is_some_and(|report| !report.waiting.is_empty() || !report.blocked.is_empty());
        if let Some(rollout) = fleet.running().filter(|_| !said) {
            let rule = Rule::Planner(InvariantId::RolloutEndsOrSaysWhatItWaitsFor);
            world.broken(rule, format!("{}: silent in {}", rollout.id, rollout.phase));
        }
    }
}
