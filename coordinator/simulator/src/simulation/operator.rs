//! An operator: gives the next order when the last one has ended. After an error it looks at the
//! state before it orders the same again, as a person would.

use std::time::Duration;

use calvin_engine::{Decide, Engine, PassOutcome};
use calvin_model::InstanceId;
use calvin_planner::{Command, FleetState};

use super::quiet::is_quiet;
use crate::{
    scenario::{Scenario, Step, fleet_name},
    world::World,
};

/// How long all must be quiet before the next step: longer than any message takes, and than the
/// provider's next list.
const QUIET: Duration = Duration::from_secs(3);
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
    quiet_since: Option<Duration>,
    /// Rollouts that there were when the step was tried first: it is in effect when there are more.
    rollouts: Option<u64>,
    /// Not before then.
    not_before: Duration,
    /// What fate took, until the coordinator has noticed.
    lost: Option<InstanceId>,
    finished: bool,
}

impl<'a> Operator<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            next: 0,
            quiet_since: None,
            rollouts: None,
            not_before: Duration::ZERO,
            lost: None,
            finished: false,
        }
    }

    pub(super) fn finished(&self) -> bool {
        self.finished
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
        engine: &mut Engine<&mut World, D>,
        outcome: PassOutcome,
    ) -> Progress {
        let now = engine.ports_mut().now();
        let view = engine.view();
        let fleet = view.fleets.get(&fleet_name());
        let settled = match outcome {
            PassOutcome::Decided { changed, actions } => !changed && actions == 0,
            PassOutcome::Held | PassOutcome::Stopped => false,
        };
        let lost = self
            .lost
            .as_ref()
            .is_some_and(|lost| fleet.is_some_and(|fleet| fleet.instances.contains_key(lost)));
        if let Some(Step::RollBackIn(phase)) = self.scenario.steps.get(self.next) {
            let running = fleet.and_then(FleetState::running);
            if running.is_some_and(|rollout| rollout.phase == *phase) {
                let order = Command::Rollback {
                    fleet: fleet_name(),
                    reason: "ordered".to_owned(),
                };
                if give(engine, &order) == Taken::Yes {
                    self.next += 1;
                }
            }
            return Progress::GoesOn;
        }
        if !settled || lost || now < self.not_before || !fleet.is_none_or(is_quiet) {
            self.quiet_since = None;
            return Progress::GoesOn;
        }
        let since = *self.quiet_since.get_or_insert(now);
        if now < since + QUIET {
            return Progress::GoesOn;
        }
        let Some(step) = self.scenario.steps.get(self.next).cloned() else {
            self.finished = true;
            return Progress::Finished;
        };
        self.quiet_since = None;
        let rollouts = fleet.map_or(0, |fleet| fleet.rollouts);
        let rollouts = *self.rollouts.get_or_insert(rollouts);
        if self.take(engine, &step, fleet, rollouts) == Taken::Yes {
            self.next += 1;
            self.rollouts = None;
        }
        Progress::GoesOn
    }

    fn take<D: Decide>(
        &mut self,
        engine: &mut Engine<&mut World, D>,
        step: &Step,
        fleet: Option<&FleetState>,
        rollouts: u64,
    ) -> Taken {
        if let Some(order) = self.order(step, fleet, rollouts) {
            return give(engine, &order);
        }
        let world = engine.ports_mut();
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
        Taken::Yes
    }

    /// The order that a step means; nothing if it is not one, or is in effect already.
    fn order(&self, step: &Step, fleet: Option<&FleetState>, rollouts: u64) -> Option<Command> {
        let name = fleet_name();
        match step {
            Step::Apply(tag) => {
                let image = self.scenario.image(tag)?;
                let mut spec = self.scenario.spec.clone();
                spec.image = tag.clone();
                fleet.is_none().then(|| Command::ApplyFleet {
                    spec: Box::new(spec),
                    build: image.build(),
                })
            }
            Step::Rollout(tag) => {
                let build = self.scenario.image(tag)?.build();
                (fleet?.rollouts == rollouts).then_some(Command::StartRollout {
                    fleet: name,
                    build,
                    plan: None,
                    emergency: None,
                })
            }
            Step::Undo => (fleet?.rollouts == rollouts).then_some(Command::Undo { fleet: name }),
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
}

fn give<D: Decide>(engine: &mut Engine<&mut World, D>, order: &Command) -> Taken {
    match engine.command(order, WHO) {
        Ok(outcome) => {
            let world = engine.ports_mut();
            for line in &outcome.lines {
                world.note(format_args!("order: {line}"));
            }
            Taken::Yes
        }
        Err(error) => {
            engine.ports_mut().note(format_args!("order: {error}"));
            Taken::No
        }
    }
}

/// Whether a step was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}
