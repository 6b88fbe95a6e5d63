//! What a rollout would do, without doing it: for each instance the reason, the waves, how many
//! more machines there are at its peak, how long it takes, and the way back from each phase.
//!
//! Its id is a hash of all that it rests on, in parts: an id that no longer holds tells which part
//! has changed.

mod plan_id;

use std::time::Duration;

use calvin_model::{ImageRef, InstanceId, fleet::OnDrainTimeout, fleet::OnSettleTimeout};
use serde::{Deserialize, Serialize};

use crate::{
    phase::Phase,
    state::{Build, FleetState},
    step::RETIRE_GRACE,
    waves::{Sizing, left_out, new_and_old},
};
pub use plan_id::PlanId;
pub(crate) use plan_id::same_plan;

/// What a rollout would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPreview {
    /// What it rests on: `StartRollout` with this id does exactly this, or says what changed.
    pub id: String,
    /// What serves now.
    pub from: Option<ImageRef>,
    /// What is to serve.
    pub to: ImageRef,
    /// The waves, in their order.
    pub waves: Vec<WavePreview>,
    /// What becomes of each instance that there is.
    pub instances: Vec<InstancePreview>,
    /// Machines above the count at the same time, if none fails.
    pub peak_extra: u32,
    /// How long it takes if everything is healthy at once.
    pub min_duration: Duration,
    /// When it has ended at the latest; `None` where a policy may wait for a person.
    pub max_duration: Option<Duration>,
    /// The way back from each phase.
    pub ways_back: Vec<WayBack>,
    /// What is in its way now, one sentence each.
    pub remarks: Vec<String>,
}

/// One wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePreview {
    /// Instances that are made.
    pub greens: u32,
    /// Instances that are replaced.
    pub blues: u32,
}

/// What becomes of an instance, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePreview {
    /// Which one.
    pub instance: InstanceId,
    /// Whether it is replaced.
    pub replaced: bool,
    /// Why, one sentence.
    pub reason: String,
}

/// The way back from a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    /// From where.
    pub phase: Phase,
    /// How, one sentence.
    pub how: String,
}

/// What a rollout of `build` would do now. Changes nothing.
#[must_use]
pub fn preview(state: &FleetState, build: &Build) -> RolloutPreview {
    let waves = waves(state, build);
    let (min_duration, max_duration) = durations(state, &waves);
    RolloutPreview {
        id: PlanId::of(state, build).to_string(),
        from: state.serving.as_ref().map(|serving| serving.image.clone()),
        to: build.image.clone(),
        peak_extra: peak_extra(state.spec.count, &waves),
        instances: instances(state, build),
        waves,
        min_duration,
        max_duration,
        ways_back: ways_back(state),
        remarks: remarks(state, build),
    }
}

fn waves(state: &FleetState, build: &Build) -> Vec<WavePreview> {
    let (new, old) = new_and_old(state, build);
    let count = state.spec.count.saturating_sub(left_out(state, build));
    let waves = Sizing::of(&state.spec, count).all(new, old, u32::MAX);
    let waves = waves.into_iter().map(|size| WavePreview {
        greens: size.greens,
        blues: size.blues,
    });
    waves.collect()
}

fn peak_extra(count: u32, waves: &[WavePreview]) -> u32 {
    let replaced: u32 = waves.iter().map(|wave| wave.blues).sum();
    let mut there = replaced;
    let mut peak = 0;
    for wave in waves {
        peak = peak.max((there + wave.greens).saturating_sub(count));
        there = there + wave.greens - wave.blues;
    }
    peak
}

fn durations(state: &FleetState, waves: &[WavePreview]) -> (Duration, Option<Duration>) {
    let replace = &state.spec.replace;
    let drain = &state.spec.drain;
    let mut min = Duration::ZERO;
    let mut max = Duration::ZERO;
    for wave in waves {
        min += replace.min_healthy.0;
        // Each failed green may use its whole deadline; the soak after the last one and the switch
        // have the progress deadline each.
        let tries = replace.max_instance_failures.saturating_add(1);
        max += replace.healthy_deadline.0.saturating_mul(tries);
        max += replace.progress_deadline.0 * 2;
        if wave.blues > 0 {
            min += replace.settle.0 + replace.bake.0;
            max += replace.settle.0 + replace.settle_max.0 + replace.bake.0;
            max += drain.timeout.0 + RETIRE_GRACE;
        }
    }
    let holds = replace.on_settle_timeout == OnSettleTimeout::Hold
        || drain.on_timeout == OnDrainTimeout::Hold;
    (min, (!holds).then_some(max))
}

fn instances(state: &FleetState, build: &Build) -> Vec<InstancePreview> {
    state
        .instances
        .iter()
        .map(|(id, instance)| {
            let (replaced, reason) = if instance.leaving() {
                (false, format!("it leaves already: {}", instance.life))
            } else if instance.build.image == build.image && state.serving.is_some() {
                (false, format!("it runs {} already", build.image))
            } else if let Some(order) = &instance.protected {
                (
                    false,
                    format!("protected by {}: {}", order.by, order.reason),
                )
            } else {
                (true, format!("it runs {}", instance.build.image))
            };
            InstancePreview {
                instance: id.clone(),
                replaced,
                reason,
            }
        })
        .collect()
}

fn ways_back(state: &FleetState) -> Vec<WayBack> {
    let first = state.serving.is_none();
    let way = |phase: Phase, how: &str| WayBack {
        phase,
        how: how.to_owned(),
    };
    if first {
        let how = "there is nothing to go back to: greens are kept a while, then removed";
        return vec![
            way(Phase::Provisioning, how),
            way(Phase::Soaking, how),
            way(Phase::Switching, how),
        ];
    }
    let green_goes = "green is removed; clients never saw it";
    let switch_back = "blue is active again in one change of the catalogue, then green leaves";
    vec![
        way(Phase::Provisioning, green_goes),
        way(Phase::Soaking, green_goes),
        way(Phase::Switching, switch_back),
        way(Phase::Settling, switch_back),
        way(Phase::Baking, switch_back),
        way(Phase::Draining, switch_back),
        way(
            Phase::Retiring,
            "the wave's blue is gone: a new rollout to the old image",
        ),
        way(Phase::Done, "calvin undo: a new rollout to the old image"),
    ]
}

fn remarks(state: &FleetState, build: &Build) -> Vec<String> {
    let mut remarks = Vec::new();
    if state.deleting {
        remarks.push("the fleet is being deleted: nothing can be rolled out".to_owned());
    }
    if let Some(rollout) = state.running() {
        remarks.push(format!(
            "{} to {} runs, in {}: it goes back first where it still can, or ends first",
            rollout.id, rollout.to.image, rollout.phase
        ));
    }
    if state.serving.as_ref().map(|serving| &serving.image) == Some(&build.image) {
        remarks.push(format!("{} serves already", build.image));
    }
    remarks
}
