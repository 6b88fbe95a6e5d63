//! Runs a scenario: one coordinator after the other on the same world, an operator who gives one
//! order after the other, and a look at all rules when everything is quiet.

mod operator;
mod quiet;

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::{Decide, Engine, Notice, PassOutcome, Planner};
use calvin_model::{InstanceId, RunId, image::ImageTag};
use calvin_planner::{InvariantId, Phase};

use self::operator::{Operator, Progress};
use crate::{
    check::{Rule, Violation},
    scenario::{Scenario, fleet_name},
    trace::Trace,
    world::World,
};

/// Longest time from one pass to the next. Longer than the real one, to be faster; still well
/// below what the engine takes for a gap.
const PASS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a coordinator that crashed stays away, in milliseconds.
const AWAY_MS: (u64, u64) = (50, 2_000);

/// A scenario on its way with one seed.
#[derive(Debug)]
pub struct Simulation;

/// What a simulation came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened. Same scenario and seed, same trace.
    pub trace: Trace,
    /// Rules that were broken; none, if all is well.
    pub violations: Vec<Violation>,
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
}

/// Why a run of the coordinator ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Crashed,
    Over,
}

struct Runner<'a, D> {
    decide: D,
    world: World,
    operator: Operator<'a>,
    limit: Duration,
    random: fastrand::Rng,
    passes: u64,
}

impl Simulation {
    /// Runs a scenario to its end.
    #[must_use]
    pub fn run(scenario: &Scenario, seed: u64) -> Outcome {
        Self::run_with(scenario, seed, Planner)
    }

    /// As `run`, with decisions that are not the planner's: for tests that break a rule on
    /// purpose, and see that it is noticed.
    #[must_use]
    pub fn run_with<D: Decide + Clone>(scenario: &Scenario, seed: u64, decide: D) -> Outcome {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut runner = Runner {
            decide,
            world: World::new(scenario, random.u64(..)),
            operator: Operator::new(scenario),
            limit: scenario.limit,
            random,
            passes: 0,
        };
        let mut runs = 0;
        loop {
            runs += 1;
            match runner.live(runs) {
                Life::Over => break,
                Life::Crashed if runner.world.now() >= runner.limit => break,
                Life::Crashed => runner.stay_away(),
            }
        }
        runner.end(runs)
    }
}

impl<D: Decide + Clone> Runner<'_, D> {
    /// One run of a coordinator's process.
    fn live(&mut self, run: u64) -> Life {
        let seed = self.random.u64(..);
        let decide = self.decide.clone();
        let Ok(mut engine) = Engine::start_with(&mut self.world, decide, run_id(run), seed) else {
            return Life::Crashed;
        };
        let epoch = engine.epoch().clone();
        engine.ports_mut().speak(&epoch);
        loop {
            let pass_at = engine.ports_mut().now() + PASS_INTERVAL;
            engine.ports_mut().until_news(pass_at);
            if engine.ports_mut().has_crashed() {
                return Life::Crashed;
            }
            let outcome = engine.pass();
            self.passes += 1;
            if engine.ports_mut().has_crashed() {
                return Life::Crashed;
            }
            engine.ports_mut().take_requests();
            engine.ports_mut().judge(outcome);
            check_pass(&mut engine, outcome);
            let progress = self.operator.look(&mut engine, outcome);
            if engine.ports_mut().has_crashed() {
                return Life::Crashed;
            }
            let late = engine.ports_mut().now() >= self.limit;
            if progress == Progress::Finished || late || outcome == PassOutcome::Stopped {
                return Life::Over;
            }
        }
    }

    fn stay_away(&mut self) {
        self.world.crash();
        let away = Duration::from_millis(self.random.u64(AWAY_MS.0..=AWAY_MS.1));
        let at = self.world.now() + away;
        self.world.until(at);
    }

    fn end(mut self, runs: u64) -> Outcome {
        let quiet = self.operator.finished();
        if quiet {
            quiet::check(&mut self.world);
        } else {
            let text = format!("not at rest at the limit: {}", self.operator.waits_for());
            let rule = Rule::Planner(InvariantId::RolloutEndsOrSaysWhatItWaitsFor);
            self.world.broken(rule, text);
        }
        let fleet = self.world.store.stored.fleets.get(&fleet_name());
        let rollout = fleet.and_then(|fleet| fleet.rollout.as_ref());
        let serving = fleet.and_then(|fleet| fleet.serving.as_ref());
        let ended = Ended {
            quiet,
            at: self.world.now(),
            phase: rollout.map(|rollout| rollout.phase),
            serving: serving.map(|build| build.image.tag.clone()),
            active: quiet::active(fleet),
            machines: self.world.by_instance.len(),
            writes: self.world.store.writes,
            actions: self.world.fuse.count(),
            runs,
            passes: self.passes,
        };
        Outcome {
            trace: self.world.store.trace,
            violations: self.world.store.violations.list,
            ended,
        }
    }
}

/// What must hold after every pass.
fn check_pass<D: Decide>(engine: &mut Engine<&mut World, D>, outcome: PassOutcome) {
    let view = engine.view();
    let world = engine.ports_mut();
    for notice in view.notices.iter() {
        match notice {
            Notice::Refused { .. } => {
                world.broken(Rule::NothingOfOursIsRefused, notice.to_string());
            }
            Notice::Breach(breach) => {
                world.broken(Rule::Planner(breach.invariant), breach.text.clone());
            }
            Notice::Stray { .. } | Notice::Doubled { .. } => {
                world.note(format_args!("notice: {notice}"));
            }
            Notice::Alarm { .. }
            | Notice::NoProvider { .. }
            | Notice::NoManifest { .. }
            | Notice::NotPublished(_) => {}
        }
    }
    if let PassOutcome::Decided { .. } = outcome {
        world.check_said(&view.reports);
    }
    if outcome == PassOutcome::Stopped {
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

/// # Panics
/// Never: hexadecimal digits are a run id.
fn run_id(number: u64) -> RunId {
    match format!("{number:08x}").parse() {
        Ok(run) => run,
        Err(error) => unreachable!("the simulator's own run id: {error}"),
    }
}
