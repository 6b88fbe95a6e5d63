//! What a simulation found.

use std::{collections::BTreeSet, time::Duration};

use calvin_simulator::{
    Fault, FleetForecast, FleetSample, Forecast, Shrunk, Tally, Turnout, Violation,
};
use serde::Serialize;

/// What fleet files would do.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForecastsView {
    pub(crate) machine_takes_ms: u64,
    pub(crate) in_flight: Option<u32>,
    pub(crate) limit_ms: u64,
    /// The image of each file, in their order.
    pub(crate) images: Vec<String>,
    pub(crate) turnouts: Vec<ForecastView>,
}

/// One rollout of all of them.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForecastView {
    pub(crate) turnout: &'static str,
    /// It came to rest before the limit.
    pub(crate) ended: bool,
    pub(crate) fleets: Vec<FleetForecastView>,
    /// What waited for a person, who answered.
    pub(crate) answers: Vec<AnswerView>,
    pub(crate) violations: Vec<ViolationView>,
}

/// A person was needed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AnswerView {
    /// Since the order.
    pub(crate) at_ms: u64,
    /// What the coordinator said to the answer.
    pub(crate) text: String,
}

/// What it does to one fleet.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FleetForecastView {
    pub(crate) fleet: String,
    pub(crate) count: u32,
    pub(crate) takes_ms: u64,
    pub(crate) phases: Vec<PhaseTimeView>,
    pub(crate) waves: u32,
    pub(crate) least_serving: usize,
    pub(crate) gap_ms: u64,
    pub(crate) most_machines: usize,
    pub(crate) noticed_after_ms: Option<u64>,
    pub(crate) back_after_ms: Option<u64>,
    /// Time in which clients found instances of the new image, times their number.
    pub(crate) on_new_instance_ms: u64,
    /// Time in which clients found instances that did not answer, times their number.
    pub(crate) not_answering_instance_ms: u64,
    /// Once a second, where something changed.
    pub(crate) timeline: Vec<MomentView>,
}

/// Time in one phase, over all waves.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PhaseTimeView {
    pub(crate) phase: String,
    pub(crate) ms: u64,
}

/// One moment of a rollout; it lasts until the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MomentView {
    /// Since the order.
    pub(crate) at_ms: u64,
    pub(crate) phase: Option<String>,
    pub(crate) serving: usize,
    pub(crate) not_answering: usize,
    pub(crate) old: usize,
    pub(crate) new: usize,
}

/// A rule that was broken.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ViolationView {
    pub(crate) seed: Option<u64>,
    pub(crate) at_ms: u64,
    pub(crate) rule: String,
    pub(crate) text: String,
}

/// What many seeds came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SeedsView {
    pub(crate) seeds: u64,
    pub(crate) broken: u64,
    pub(crate) instances: u32,
    pub(crate) faults: Vec<&'static str>,
    pub(crate) took_ms: u64,
    pub(crate) seeds_per_second: u64,
    pub(crate) threads: usize,
    pub(crate) simulated_ms: u64,
    pub(crate) coordinator_runs: u64,
    pub(crate) passes: u64,
    pub(crate) happened: u64,
    pub(crate) failures: Vec<ViolationView>,
    pub(crate) shortest: Option<ShortestView>,
}

/// The shortest run that breaks the same rule.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ShortestView {
    pub(crate) seed: u64,
    pub(crate) rule: String,
    pub(crate) text: String,
    pub(crate) trace: String,
    /// What to type to run it again, where that can be typed.
    pub(crate) command: Option<String>,
    pub(crate) tries: u32,
}

impl ForecastView {
    pub(crate) fn new(forecast: &Forecast) -> Self {
        Self {
            turnout: match forecast.turnout {
                Turnout::Good => "good",
                Turnout::NeverHealthy => "never_healthy",
                Turnout::BadOnceActive => "bad_once_active",
                Turnout::BadOnceDone => "bad_once_done",
            },
            ended: forecast.ended,
            fleets: forecast.fleets.iter().map(FleetForecastView::new).collect(),
            answers: forecast
                .answers
                .iter()
                .map(|(at, text)| AnswerView {
                    at_ms: millis(*at),
                    text: text.clone(),
                })
                .collect(),
            violations: forecast
                .violations
                .iter()
                .map(|violation| ViolationView::new(None, violation))
                .collect(),
        }
    }
}

impl FleetForecastView {
    fn new(fleet: &FleetForecast) -> Self {
        let phases = fleet.phases.iter().map(|(phase, time)| PhaseTimeView {
            phase: phase.to_string(),
            ms: millis(*time),
        });
        let from = fleet.samples.first().map_or(Duration::ZERO, |(at, _)| *at);
        let mut timeline: Vec<MomentView> = Vec::new();
        for (at, sample) in &fleet.samples {
            let moment = MomentView::new(millis(at.saturating_sub(from)), sample);
            let same = timeline.last().is_some_and(|last| {
                let at_ms = last.at_ms;
                MomentView {
                    at_ms,
                    ..moment.clone()
                } == *last
            });
            if !same {
                timeline.push(moment);
            }
        }
        Self {
            fleet: fleet.name.to_string(),
            count: fleet.count,
            takes_ms: millis(fleet.takes),
            phases: phases.collect(),
            waves: fleet.waves,
            least_serving: fleet.least_answering,
            gap_ms: millis(fleet.gap),
            most_machines: fleet.most_machines,
            noticed_after_ms: fleet.noticed_after.map(millis),
            back_after_ms: fleet.back_after.map(millis),
            on_new_instance_ms: millis(fleet.on_new),
            not_answering_instance_ms: millis(fleet.not_answering),
            timeline,
        }
    }
}

impl MomentView {
    fn new(at_ms: u64, sample: &FleetSample) -> Self {
        Self {
            at_ms,
            phase: sample.phase.map(|phase| phase.to_string()),
            serving: sample.answering,
            not_answering: sample.silent,
            old: sample.old,
            new: sample.new,
        }
    }
}

impl ViolationView {
    pub(crate) fn new(seed: Option<u64>, violation: &Violation) -> Self {
        Self {
            seed,
            at_ms: millis(violation.at),
            rule: violation.rule.to_string(),
            text: violation.text.clone(),
        }
    }
}

impl SeedsView {
    pub(crate) fn new(
        tally: &Tally,
        took: Duration,
        threads: usize,
        instances: u32,
        faults: &BTreeSet<Fault>,
        shortest: Option<ShortestView>,
    ) -> Self {
        let took_ms = millis(took).max(1);
        Self {
            seeds: tally.seeds,
            broken: tally.broken,
            instances,
            faults: faults.iter().map(|fault| fault.as_str()).collect(),
            took_ms,
            seeds_per_second: tally.seeds.saturating_mul(1_000) / took_ms,
            threads,
            simulated_ms: millis(tally.simulated),
            coordinator_runs: tally.runs,
            passes: tally.passes,
            happened: tally.happened,
            failures: tally
                .failures
                .iter()
                .map(|(seed, violation)| ViolationView::new(Some(*seed), violation))
                .collect(),
            shortest,
        }
    }
}

impl ShortestView {
    /// Of the small fleet, which a command line says all of.
    pub(crate) fn of_the_small_fleet(shrunk: &Shrunk) -> Self {
        Self {
            command: Some(shrunk.command()),
            ..Self::of_files(shrunk)
        }
    }

    /// Of fleets of files.
    pub(crate) fn of_files(shrunk: &Shrunk) -> Self {
        Self {
            seed: shrunk.seed,
            rule: shrunk.violation.rule.to_string(),
            text: shrunk.violation.text.clone(),
            trace: shrunk.trace.clone(),
            command: None,
            tries: shrunk.tries,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
