//! An operator: gives the next order when the last one has ended. After an error it looks at the
//! state before it orders the same again, as a person would.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::{Decide, Engine, PassOutcome, View};
use calvin_model::{FleetName, FleetSpec, InstanceId};
use calvin_planner::{Command, FleetState, Phase};

use super::{answer::Held, press, quiet::is_quiet};
use crate::{
    desk::{DeskNumber, Dock},
    provider,
    scenario::{Scenario, Step},
    world::World,
};

/// How long all must be quiet before the next step: longer than any message takes, and than the
/// provider's next list.
const QUIET: Duration = Duration::from_secs(3);
/// How long after the last thing that went wrong by chance the end may be: what is on its way, or
/// is yet to be noticed, has come by then.
const AFTERMATH: Duration = Duration::from_secs(20);
/// Who orders.
const WHO: &str = "operator";

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to do or to wait for.
    GoesOn,
    /// Every step was taken, and all is quiet.
    Finished,
}

/// The operator.
#[derive(Debug)]
pub(super) struct Operator<'a> {
    scenario: &'a Scenario,
    /// The step that is next.
    next: usize,
    /// When each step was taken.
    pub(super) steps_at: Vec<Duration>,
    quiet_since: Option<Duration>,
    /// Rollouts that there were when the step was tried first: it is in effect when there are more.
    rollouts: Option<BTreeMap<FleetName, u64>>,
    /// Not before then.
    not_before: Duration,
    /// What fate took, until the coordinator has noticed.
    lost: Option<InstanceId>,
    held: Held,
    finished: bool,
}

/// An engine with its desk at hand.
struct Console<'w, D> {
    world: &'w mut World,
    engine: &'w mut Engine<Dock, D>,
    desk: DeskNumber,
}

impl<'a> Operator<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            next: 0,
            steps_at: Vec::new(),
            quiet_since: None,
            rollouts: None,
            not_before: Duration::ZERO,
            lost: None,
            held: Held::default(),
            finished: false,
        }
    }

    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    pub(super) fn main_fleet(&self) -> &FleetName {
        &self.scenario.spec.name
    }

    /// What is to come, for people.
    pub(super) fn waits_for(&self) -> String {
        match self.scenario.steps.get(self.next) {
            Some(step) => format!("step {} ({step:?}) is not taken", self.next + 1),
            None => "every step is taken, and something still goes on".to_owned(),
        }
    }

    /// Looks after a pass, and gives the next order if it is time.
    pub(super) fn look<D: Decide>(
        &mut self,
        world: &mut World,
        engine: &mut Engine<Dock, D>,
        desk: DeskNumber,
        outcome: PassOutcome,
    ) -> Progress {
        let now = world.now();
        let view = engine.view();
        let presses = std::mem::take(&mut world.presses);
        let mut console = Console {
            world,
            engine,
            desk,
        };
        for mut random in presses {
            if let Some(order) = press::order(self.scenario, &view, &mut random) {
                console.give(&order);
            }
        }
        for order in self.held.look(&view, now) {
            console.give(&order);
            self.quiet_since = None;
        }
        if let Some(Step::RollBackIn(phase)) = self.scenario.steps.get(self.next) {
            if self.roll_back_in(*phase, &view, &mut console) == Taken::Yes {
                self.taken(now);
            }
            return Progress::GoesOn;
        }
        let settled = match outcome {
            PassOutcome::Decided { changed, actions } => !changed && actions == 0,
            PassOutcome::Held | PassOutcome::Stopped => false,
        };
        let lost = self.lost.as_ref().is_some_and(|lost| {
            view.fleets
                .values()
                .any(|one| one.instances.contains_key(lost))
        });
        let quiet = view.fleets.values().all(is_quiet);
        if !settled || lost || now < self.not_before || !quiet {
            self.quiet_since = None;
            return Progress::GoesOn;
        }
        let since = *self.quiet_since.get_or_insert(now);
        if now < since + QUIET {
            return Progress::GoesOn;
        }
        let Some(step) = self.scenario.steps.get(self.next).cloned() else {
            let faulty = !self.scenario.faults.is_empty();
            let aftermath = now < console.world.faults_until() + AFTERMATH;
            let world = &console.world;
            let to_come = faulty && (aftermath || world.is_any_dead() || world.is_any_hidden());
            if to_come || self.held.is_any() {
                return Progress::GoesOn;
            }
            self.finished = true;
            return Progress::Finished;
        };
        self.quiet_since = None;
        // Who wants an image that failed before wants it all the same.
        if let Step::Rollout(image) = &step
            && view.environment.vetoes.contains_key(image)
        {
            let image = image.clone();
            console.give(&Command::Unveto { image });
            return Progress::GoesOn;
        }
        if self.take(&mut console, &step, &view) == Taken::Yes {
            self.taken(now);
            self.rollouts = None;
        }
        Progress::GoesOn
    }

    fn taken(&mut self, now: Duration) {
        self.steps_at.push(now);
        self.next += 1;
    }

    fn roll_back_in<D: Decide>(
        &self,
        phase: Phase,
        view: &View,
        console: &mut Console<'_, D>,
    ) -> Taken {
        let fleet = self.main_fleet();
        let running = view.fleets.get(fleet).and_then(FleetState::running);
        if running.is_none_or(|rollout| rollout.phase != phase) {
            return Taken::No;
        }
        console.give(&Command::Rollback {
            fleet: fleet.clone(),
            reason: "ordered".to_owned(),
        })
    }

    fn take<D: Decide>(&mut self, console: &mut Console<'_, D>, step: &Step, view: &View) -> Taken {
        let rollouts = self.rollouts.get_or_insert_with(|| {
            let fleets = view.fleets.iter();
            fleets
                .map(|(name, fleet)| (name.clone(), fleet.rollouts))
                .collect()
        });
        let mut taken = Taken::Yes;
        for spec in self.scenario.specs() {
            let fleet = view.fleets.get(&spec.name);
            let before = rollouts.get(&spec.name).copied().unwrap_or(0);
            if let Some(order) = order(self.scenario, step, spec, fleet, before)
                && console.give(&order) == Taken::No
            {
                taken = Taken::No;
            }
        }
        let world = &mut *console.world;
        let now = world.now();
        match step {
            // A fleet whose only rollouts failed has no active machine to lose.
            Step::KillMachine => self.lost = world.kill_machine(),
            Step::AgentsAway(away) => {
                world.agents_away(*away);
                // Back, connected and reported.
                self.not_before = now + *away + QUIET;
            }
            Step::Stray => world.add_stray(),
            Step::Blackout(time) => {
                world.black_out(*time);
                // Back, listed, connected and reported.
                self.not_before = now + *time + QUIET;
            }
            Step::Wait(time) => self.not_before = now + *time,
            Step::Apply(_)
            | Step::Rollout(_)
            | Step::RollBackIn(_)
            | Step::Scale(_)
            | Step::Undo
            | Step::Delete => {}
        }
        taken
    }
}

/// The order that a step means for a fleet; nothing if it is not one, or is in effect already.
fn order(
    scenario: &Scenario,
    step: &Step,
    spec: &FleetSpec,
    fleet: Option<&FleetState>,
    rollouts: u64,
) -> Option<Command> {
    let name = spec.name.clone();
    match step {
        Step::Apply(tag) => {
            let image = scenario.image(tag)?;
            let mut spec = spec.clone();
            spec.image = tag.clone();
            spec.provider = provider::NAME.to_owned();
            fleet.is_none().then(|| Command::ApplyFleet {
                spec: Box::new(spec),
                build: image.build(),
            })
        }
        Step::Rollout(tag) => {
            let build = scenario.image(tag)?.build();
            let fleet = fleet?;
            let serves = fleet
                .serving
                .as_ref()
                .is_some_and(|serving| *serving == build);
            (!serves && fleet.rollouts == rollouts).then_some(Command::StartRollout {
                fleet: name,
                build,
                plan: None,
                emergency: None,
            })
        }
        // Where there is nothing to go back to, nobody orders it.
        Step::Undo => {
            let fleet = fleet?;
            let can = fleet.rollouts == rollouts && fleet.previous.is_some();
            can.then_some(Command::Undo { fleet: name })
        }
        Step::Scale(count) => (fleet?.spec.count != *count).then_some(Command::Scale {
            fleet: name,
            count: *count,
        }),
        Step::Delete => (!fleet?.deleting).then_some(Command::DeleteFleet { fleet: name }),
        Step::RollBackIn(_)
        | Step::KillMachine
        | Step::AgentsAway(_)
        | Step::Stray
        | Step::Blackout(_)
        | Step::Wait(_) => None,
    }
}

impl<D: Decide> Console<'_, D> {
    fn give(&mut self, order: &Command) -> Taken {
        let Some(desk) = self.world.desks.remove(&self.desk) else {
            return Taken::No;
        };
        self.engine.ports_mut().put(desk);
        let answer = self.engine.command(order, WHO);
        if let Some(desk) = self.engine.ports_mut().take() {
            self.world.desks.insert(self.desk, desk);
        }
        match answer {
            Ok(outcome) => {
                for line in &outcome.lines {
                    self.world.note(format_args!("order: {line}"));
                }
                Taken::Yes
            }
            Err(error) => {
                self.world.note(format_args!("order {order:?}: {error}"));
                Taken::No
            }
        }
    }
}

/// Whether a step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}
