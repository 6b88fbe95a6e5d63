//! An operator: gives the next order when the last one has ended. After an error it looks at the
//! state before it orders the same again, as a person would.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::{Decide, Engine, PassOutcome, View, recover::Approval};
use calvin_model::{FleetName, FleetSpec, InstanceId};
use calvin_planner::{Command, FleetState, Phase};

use super::{answer::Open, press, quiet::is_quiet, tidy::Shown};
use crate::{
    desk::{DeskNumber, Dock},
    image::SimImage,
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
pub(super) const WHO: &str = "operator";

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
    pub(super) scenario: &'a Scenario,
    /// The step that is next.
    pub(super) next: usize,
    /// When each step was taken.
    pub(super) steps_at: Vec<Duration>,
    quiet_since: Option<Duration>,
    /// Rollouts that there were when the step was tried first: it is in effect when there are more.
    rollouts: Option<BTreeMap<FleetName, u64>>,
    /// Not before then.
    not_before: Duration,
    /// What fate took, until the coordinator has noticed.
    lost: Option<InstanceId>,
    open: Open,
    shown: Shown,
    /// Since when the coordinator recovers.
    pub(super) recovering_since: Option<Duration>,
    /// Since when one that clients find does not answer, where somebody looks for that.
    failing_since: Option<Duration>,
    answers: Vec<(Duration, String)>,
    finished: bool,
}

/// An engine with its desk at hand.
pub(super) struct Console<'w, D> {
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
            open: Open::default(),
            shown: Shown::default(),
            recovering_since: None,
            failing_since: None,
            answers: Vec::new(),
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

    /// The images whose faults a person knows; what a forecast asks about is what its own steps do about a
    /// bad one.
    fn known_images(&self) -> &'a [SimImage] {
        if self.scenario.faults.is_empty() {
            &[]
        } else {
            &self.scenario.images
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
        if let Some(recovery) = &view.recovery {
            self.quiet_since = None;
            self.recover(&mut console, recovery, &view);
            return Progress::GoesOn;
        }
        self.shown.look(&view, console.world);
        let images = self.known_images();
        let is_gone = |id: &InstanceId| console.world.running(id).is_none();
        let orders = self.open.look(&view, images, &is_gone, now);
        for order in orders {
            if let Some(said) = console.order(&order) {
                self.answers.push((now, said));
            }
            self.quiet_since = None;
        }
        if let Some(Step::RollBackIn(phase)) = self.scenario.steps.get(self.next) {
            if self.roll_back_in(*phase, &view, &mut console) == Taken::Yes {
                self.taken(now);
            }
            return Progress::GoesOn;
        }
        if let Some(Step::UndoWhenFailing(patience)) = self.scenario.steps.get(self.next) {
            let since = self.failing_since(console.world, now);
            if since.is_some_and(|since| now >= since + *patience) {
                let step = Step::UndoWhenFailing(*patience);
                if self.take(&mut console, &step, &view) == Taken::Yes {
                    self.taken(now);
                    self.rollouts = None;
                }
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
            if to_come || self.open.is_any() || self.shown.is_any() {
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

    /// Since when one that clients find does not answer.
    fn failing_since(&mut self, world: &World, now: Duration) -> Option<Duration> {
        if world.is_any_found_silent() {
            self.failing_since.get_or_insert(now);
        } else {
            self.failing_since = None;
        }
        self.failing_since
    }

    /// What the operator answered.
    pub(super) fn take_answers(&mut self) -> Vec<(Duration, String)> {
        std::mem::take(&mut self.answers)
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
        let given = console.give(&Command::Rollback {
            fleet: fleet.clone(),
            reason: "ordered".to_owned(),
        });
        if given { Taken::Yes } else { Taken::No }
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
                && !console.give(&order)
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
            | Step::UndoWhenFailing(_)
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
        Step::Undo | Step::UndoWhenFailing(_) => {
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
    pub(super) fn now(&self) -> Duration {
        self.world.now()
    }

    pub(super) fn has_heard_all(&self) -> bool {
        self.world.has_heard_all(self.desk)
    }

    /// Gives an order. Says whether it is in effect.
    pub(super) fn give(&mut self, order: &Command) -> bool {
        self.order(order).is_some()
    }

    /// Gives an order. What it was answered, if it is in effect.
    fn order(&mut self, order: &Command) -> Option<String> {
        let answer = self.at_desk(|engine| engine.command(order, WHO))?;
        match answer {
            Ok(outcome) => {
                for line in &outcome.lines {
                    self.world.note(format_args!("order: {line}"));
                }
                Some(outcome.lines.join("; "))
            }
            Err(error) => {
                self.world.note(format_args!("not ordered: {error}"));
                None
            }
        }
    }

    /// Approves what a coordinator that recovers has found. Says whether that is in effect.
    pub(super) fn approve(&mut self, approval: &Approval, who: &str) -> bool {
        match self.at_desk(|engine| engine.approve_recovery(approval, who)) {
            Some(Ok(lines)) => {
                for line in &lines {
                    self.world.note(format_args!("approved: {line}"));
                }
                true
            }
            Some(Err(error)) => {
                self.world.note(format_args!("not approved: {error}"));
                false
            }
            None => false,
        }
    }

    fn at_desk<T>(&mut self, act: impl FnOnce(&mut Engine<Dock, D>) -> T) -> Option<T> {
        let desk = self.world.desks.remove(&self.desk)?;
        self.engine.ports_mut().put(desk);
        let answer = act(self.engine);
        if let Some(mut desk) = self.engine.ports_mut().take() {
            desk.epoch = Some(self.engine.epoch().clone());
            self.world.desks.insert(self.desk, desk);
        }
        Some(answer)
    }
}

/// Whether a step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}
