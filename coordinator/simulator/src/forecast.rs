//! What would a fleet file do? Runs a rollout of the fleets that it describes, with their own
//! policies, once for each way in which the new image may turn out, and measures what clients and
//! operators would see of it.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::Planner;
use calvin_model::{
    FleetName, FleetSpec,
    fleet::FleetKind,
    image::{ImageTag, Work},
};
use calvin_planner::Phase;

use crate::{
    check::Violation,
    image::{Behaviour, SimImage},
    log::Keep,
    scenario::{Cloud, Pace, Scenario, Step},
    simulation::Simulation,
    world::Sample,
};

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(1);
/// After so long as an active one an image turns bad that does.
const TURNS_BAD_AFTER: Duration = Duration::from_secs(10);
/// So long after a good rollout would have been over an image turns bad that leaks.
const LEAKS_AFTER: Duration = Duration::from_secs(60);
/// So long instances fail before a person is there who goes back.
const PERSON_COMES: Duration = Duration::from_secs(300);
/// From so many instances on, everybody looks less often.
const MANY: u32 = 30;

/// How the new image turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turnout {
    /// It is good.
    Good,
    /// It never becomes healthy.
    NeverHealthy,
    /// It is healthy until it has been active for 10 s.
    BadOnceActive,
    /// It is healthy until after its rollout is done. A person goes back 5 min after the first fails.
    BadOnceDone,
}

impl Turnout {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Good,
        Self::NeverHealthy,
        Self::BadOnceActive,
        Self::BadOnceDone,
    ];

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "the new image is good",
            Self::NeverHealthy => "the new image never becomes healthy",
            Self::BadOnceActive => "the new image turns bad 10s after it is active",
            Self::BadOnceDone => "the new image turns bad after its rollout is done",
        }
    }

    /// `lasts` is what a good rollout takes.
    fn behaviour(self, lasts: Duration) -> Behaviour {
        match self {
            Self::Good => Behaviour::Good,
            Self::BadOnceDone => Behaviour::BadOnceActive {
                after: lasts + LEAKS_AFTER,
            },
            Self::NeverHealthy => Behaviour::NeverHealthy,
            Self::BadOnceActive => Behaviour::BadOnceActive {
                after: TURNS_BAD_AFTER,
            },
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The fleets, all in one environment.
    pub fleets: Vec<FleetSpec>,
    /// How fast machines are made.
    pub cloud: Cloud,
    /// Virtual time after which it is given up.
    pub limit: Duration,
    /// The seed.
    pub seed: u64,
}

/// One rollout of all fleets.
#[derive(Debug, Clone)]
pub struct Forecast {
    /// How the new image turns out.
    pub turnout: Turnout,
    /// Each fleet.
    pub fleets: Vec<FleetForecast>,
    /// Rules that were broken: defects of the coordinator, not of the files.
    pub violations: Vec<Violation>,
    /// Whether all came to rest before the limit.
    pub ended: bool,
    /// What a person was needed for and answered, and when, from the order on: it would have waited.
    pub answers: Vec<(Duration, String)>,
    /// What happened, for people.
    pub trace: String,
}

/// What a rollout does to one fleet.
#[derive(Debug, Clone)]
pub struct FleetForecast {
    /// Which.
    pub name: FleetName,
    /// How many are to serve.
    pub count: u32,
    /// How long the rollout takes, from the order to its end.
    pub takes: Duration,
    /// How the time is spent, in the order of a rollout.
    pub phases: Vec<(Phase, Duration)>,
    /// Waves that were begun.
    pub waves: u32,
    /// The least that answered clients, while it went on.
    pub least_answering: usize,
    /// How long nothing answered them.
    pub gap: Duration,
    /// The most machines at one time.
    pub most_machines: usize,
    /// From the first instance of the new image that clients found until it was given up.
    pub noticed_after: Option<Duration>,
    /// From then on until clients found the old image alone.
    pub back_after: Option<Duration>,
    /// Time in which clients found instances of the new image, times their number.
    pub on_new: Duration,
    /// Time in which clients found instances that did not answer, times their number.
    pub not_answering: Duration,
    /// What was measured, from the order to the end.
    pub samples: Vec<(Duration, crate::world::FleetSample)>,
}

/// Runs one rollout.
#[must_use]
pub fn forecast(question: &Question, turnout: Turnout) -> Option<Forecast> {
    let lasts = match turnout {
        Turnout::Good | Turnout::NeverHealthy | Turnout::BadOnceActive => Duration::ZERO,
        Turnout::BadOnceDone => forecast(question, Turnout::Good)?.longest(),
    };
    let scenario = scenario(question, turnout, lasts)?;
    let outcome = Simulation::run_keeping(&scenario, question.seed, Planner, Keep::Trace);
    let steps_at = &outcome.ended.steps_at;
    let ordered = steps_at.get(1).copied().unwrap_or_default();
    let undone = steps_at.get(2).copied();
    // What leaks costs nothing before it does.
    let from = undone.map_or(ordered, |undone| {
        undone.saturating_sub(PERSON_COMES).max(ordered)
    });
    let fleets = question.fleets.iter();
    let fleets = fleets.map(|spec| measure(spec, from, undone, &outcome.samples));
    let answers = outcome.ended.answers.into_iter();
    let answers = answers.filter(|(at, _)| *at >= from);
    Some(Forecast {
        turnout,
        answers: answers.map(|(at, text)| (at - from, text)).collect(),
        fleets: fleets.collect(),
        ended: outcome.ended.quiet,
        trace: outcome.trace.as_str().to_owned(),
        // That it goes on for longer than was asked for is said by `ended`, and breaks nothing.
        violations: outcome
            .violations
            .into_iter()
            .filter(|violation| violation.at < question.limit)
            .collect(),
    })
}

impl Forecast {
    /// What the slowest of the fleets takes.
    fn longest(&self) -> Duration {
        let takes = self.fleets.iter().map(|fleet| fleet.takes);
        takes.max().unwrap_or_default()
    }
}

fn scenario(question: &Question, turnout: Turnout, lasts: Duration) -> Option<Scenario> {
    let (first, more) = question.fleets.split_first()?;
    let old: ImageTag = "old@1".parse().ok()?;
    let new: ImageTag = "new@2".parse().ok()?;
    let kinds: Vec<FleetKind> = question.fleets.iter().map(|spec| spec.kind).collect();
    let image = |tag: &ImageTag, behaviour| SimImage {
        tag: tag.clone(),
        behaviour,
        work: if kinds.contains(&FleetKind::Exclusive) {
            Work::OnActive
        } else {
            Work::Boot
        },
        votes: kinds.contains(&FleetKind::Quorum),
    };
    let count: u32 = question.fleets.iter().map(|spec| spec.count).sum();
    let mut steps = vec![Step::Apply(old.clone()), Step::Rollout(new.clone())];
    if turnout == Turnout::BadOnceDone {
        steps.push(Step::UndoWhenFailing(PERSON_COMES));
    }
    Some(Scenario {
        spec: first.clone(),
        more: more.to_vec(),
        images: vec![
            image(&old, Behaviour::Good),
            image(&new, turnout.behaviour(lasts)),
        ],
        steps,
        cloud: question.cloud,
        pace: pace(count),
        sample_every: Some(EVERY),
        limit: question.limit,
        ..Scenario::small(1)
    })
}

/// Many are looked at less often, so that it takes no longer.
#[must_use]
pub fn pace(count: u32) -> Pace {
    if count <= MANY {
        return Pace::default();
    }
    Pace {
        pass: Duration::from_secs(1),
        look: Duration::from_secs(2),
        report: Duration::from_secs(5),
        check: Duration::from_secs(2),
    }
}

fn measure(
    spec: &FleetSpec,
    ordered: Duration,
    undone: Option<Duration>,
    samples: &[Sample],
) -> FleetForecast {
    let during: Vec<_> = samples
        .iter()
        .filter(|sample| sample.at >= ordered)
        .filter_map(|sample| Some((sample.at, *sample.fleets.get(&spec.name)?)))
        .collect();
    let last = during.iter().rposition(|(_, fleet)| fleet.phase.is_some());
    let during = &during[..last.map_or(0, |last| last + 1)];
    let spent = |of: &dyn Fn(&crate::world::FleetSample) -> usize| {
        let sum: usize = during.iter().map(|(_, fleet)| of(fleet)).sum();
        EVERY * u32::try_from(sum).unwrap_or(u32::MAX)
    };
    let mut phases: BTreeMap<Phase, Duration> = BTreeMap::new();
    for (_, fleet) in during {
        if let Some(phase) = fleet.phase {
            *phases.entry(phase).or_default() += EVERY;
        }
    }
    let found = during.iter().find(|(_, fleet)| fleet.active_new > 0);
    let mut backwards = during.iter();
    let given_up = backwards.find(|(at, fleet)| {
        fleet.phase == Some(Phase::RollingBack) || undone.is_some_and(|undone| *at >= undone)
    });
    let from = found.map_or(ordered, |(at, _)| *at);
    let back = given_up.and_then(|(at, _)| {
        let mut later = during.iter().skip_while(|(then, _)| then < at);
        // The image that the way back brings is the newest rollout's own.
        later.find(|(_, fleet)| match undone {
            None => fleet.active_new == 0,
            Some(_) => fleet.active_other == 0,
        })
    });
    FleetForecast {
        name: spec.name.clone(),
        count: spec.count,
        takes: during
            .last()
            .map_or(Duration::ZERO, |(at, _)| *at + EVERY - ordered),
        phases: Phase::ALL
            .into_iter()
            .filter_map(|phase| Some((phase, *phases.get(&phase)?)))
            .collect(),
        waves: during
            .iter()
            .map(|(_, fleet)| fleet.wave + 1)
            .max()
            .unwrap_or(0),
        least_answering: during
            .iter()
            .map(|(_, fleet)| fleet.answering)
            .min()
            .unwrap_or(0),
        gap: spent(&|fleet| usize::from(fleet.answering == 0)),
        most_machines: during
            .iter()
            .map(|(_, fleet)| fleet.old + fleet.new + fleet.making)
            .max()
            .unwrap_or(0),
        noticed_after: given_up.map(|(at, _)| at.saturating_sub(from)),
        back_after: given_up
            .zip(back)
            .map(|((at, _), (back, _))| back.saturating_sub(*at)),
        on_new: spent(&|fleet| fleet.active_new),
        not_answering: spent(&|fleet| fleet.silent),
        samples: during.to_vec(),
    }
}
