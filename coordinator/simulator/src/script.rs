//! Steps as a command line takes them, and lives of a fleet that are drawn by a seed.

use std::{fmt, str::FromStr, time::Duration};

use calvin_model::{
    HumanDuration,
    fleet::{FleetKind, Gate},
    image::ImageTag,
};
use calvin_planner::Phase;

use crate::{
    fault::Fault,
    scenario::{Scenario, Step},
};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(tag) => write!(f, "apply:{tag}"),
            Self::Rollout(tag) => write!(f, "rollout:{tag}"),
            Self::RollBackIn(phase) => write!(f, "rollback-in:{phase}"),
            Self::Scale(count) => write!(f, "scale:{count}"),
            Self::Undo => f.write_str("undo"),
            Self::UndoWhenFailing(time) => {
                write!(f, "undo-when-failing:{}", HumanDuration(*time))
            }
            Self::Delete => f.write_str("delete"),
            Self::KillMachine => f.write_str("kill-machine"),
            Self::AgentsAway(time) => write!(f, "agents-away:{}", HumanDuration(*time)),
            Self::Stray => f.write_str("stray"),
            Self::Blackout(time) => write!(f, "blackout:{}", HumanDuration(*time)),
            Self::Wait(time) => write!(f, "wait:{}", HumanDuration(*time)),
        }
    }
}

/// A text that is no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no step {text:?}; there are apply:IMAGE, rollout:IMAGE, rollback-in:PHASE, scale:COUNT, undo, undo-when-failing:DURATION, delete, kill-machine, agents-away:DURATION, stray, blackout:DURATION, wait:DURATION"
)]
pub struct UnknownStep {
    /// What was given.
    pub text: String,
}

impl FromStr for Step {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Self, UnknownStep> {
        parse(text.trim()).ok_or_else(|| UnknownStep {
            text: text.chars().take(80).collect(),
        })
    }
}

fn parse(text: &str) -> Option<Step> {
    let (word, value) = match text.split_once(':') {
        Some((word, value)) => (word, Some(value)),
        None => (text, None),
    };
    let image = || value.and_then(|value| value.parse::<ImageTag>().ok());
    let time = || value.and_then(|value| value.parse::<HumanDuration>().ok());
    Some(match word {
        "apply" => Step::Apply(image()?),
        "rollout" => Step::Rollout(image()?),
        "rollback-in" => {
            let phase = Phase::ALL.into_iter();
            let mut phase = phase.filter(|phase| Some(phase.as_str()) == value);
            Step::RollBackIn(phase.next()?)
        }
        "scale" => Step::Scale(value?.parse().ok().filter(|count| *count > 0)?),
        "undo" if value.is_none() => Step::Undo,
        "undo-when-failing" => Step::UndoWhenFailing(time()?.0),
        "delete" if value.is_none() => Step::Delete,
        "kill-machine" if value.is_none() => Step::KillMachine,
        "agents-away" => Step::AgentsAway(time()?.0),
        "stray" if value.is_none() => Step::Stray,
        "blackout" => Step::Blackout(time()?.0),
        "wait" => Step::Wait(time()?.0),
        _ => return None,
    })
}

impl Scenario {
    /// A life of the small fleet that `seed` draws: its first rollout, one more, and what else may
    /// happen to it.
    #[must_use]
    pub fn drawn(
        kind: FleetKind,
        instances: u32,
        faults: impl IntoIterator<Item = Fault>,
        seed: u64,
    ) -> Self {
        let instances = match kind {
            FleetKind::Exclusive => 1,
            FleetKind::Service | FleetKind::Quorum => instances,
        };
        // Another sequence than that of the simulation itself, which begins with the same seed.
        let mut random = fastrand::Rng::with_seed(seed.rotate_left(32) ^ 0x5c3a_91d7);
        let mut scenario = Self::small(instances).of_kind(kind).with_faults(faults);
        scenario.draw_policies(seed);
        // A person is waited for more than once, and members of a quorum go one by one.
        scenario.limit *= match kind {
            FleetKind::Service | FleetKind::Exclusive => 2,
            FleetKind::Quorum => 4,
        };
        let bad = scenario.faults.contains(&Fault::BadImage);
        let version = if bad { random.u32(2..=5) } else { 2 };
        scenario = scenario.then_rollout(version);
        for _ in 0..random.u8(..3) {
            let step = match random.u8(..6) {
                0 => Step::KillMachine,
                1 => Step::Scale(random.u32(1..=instances.max(1))),
                2 => Step::AgentsAway(Duration::from_secs(random.u64(5..=40))),
                3 => Step::Undo,
                4 => Step::Wait(Duration::from_secs(random.u64(1..=10))),
                _ => Step::Delete,
            };
            let last = step == Step::Delete;
            scenario = scenario.then(step);
            if last {
                break;
            }
        }
        scenario
    }

    /// What operators of some fleets want: zones, and to be asked. By the seed alone, so that it
    /// stays when less goes wrong.
    fn draw_policies(&mut self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x7a6f_6e65);
        if random.u8(..4) == 0 {
            self.spec.zones = ["a", "b"]
                .into_iter()
                .filter_map(|zone| zone.parse().ok())
                .collect();
        }
        if random.u8(..4) == 0 {
            self.spec.replace.approve = vec![Gate::Switch, Gate::Retire];
        }
    }
}
