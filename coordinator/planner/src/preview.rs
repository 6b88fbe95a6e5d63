//! What a rollout would do, without doing it: for each instance the reason, the waves, how many
//! more machines there are at its peak, how long it takes, and the way back from each phase.
//!
//! [`preview`] looks at a fleet alone; [`preview_in`] also at what all fleets share, so that it says
//! how much of a wave fits now and what the rollout would have to wait for.
//!
//! Its id is a hash of all that it rests on, in parts: an id that no longer holds tells which part
//! has changed.

mod duration;
mod plan_id;

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{
    FleetName, HumanDuration, ImageRef, InstanceId, ZoneName,
    fleet::{BudgetPolicy, FleetKind},
};
use serde::{Deserialize, Serialize};

use crate::{
    environment::EnvironmentState,
    pass::window_closed,
    phase::Phase,
    plan::{PlanInput, look},
    spread::{Place, Spread},
    state::{Build, FleetState, WaveOrder},
    waves::{Sizing, left_out, new_and_old, smaller},
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
    /// When it has ended at the latest, if nobody pauses it; `None` where it may wait for a person,
    /// a window or a budget for who knows how long.
    pub max_duration: Option<Duration>,
    /// The way back from each phase.
    pub ways_back: Vec<WayBack>,
    /// What is in its way now, one sentence each.
    pub remarks: Vec<String>,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePreview {
    /// Instances that are made.
    pub greens: u32,
    /// Instances that are replaced.
    pub blues: u32,
    /// What comes first.
    pub order: WaveOrder,
    /// It goes first, alone, and soaks for `canary_soak`.
    pub canary: bool,
    /// How many greens are made in each zone; none are named where the fleet names none.
    pub zones: BTreeMap<ZoneName, u32>,
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

/// What a rollout of `build` would do in an environment that has room for all of it. Changes
/// nothing.
#[must_use]
pub fn preview(state: &FleetState, build: &Build) -> RolloutPreview {
    let alone = Surroundings {
        environment: &EnvironmentState::default(),
        budget: &BudgetPolicy::default(),
        room: u32::MAX,
        remarks: Vec::new(),
    };
    of(state, build, &alone)
}

/// What a rollout of `build` would do now, beside all that the environment's other fleets take and
/// do. `None` if there is no such fleet. Changes nothing.
#[must_use]
pub fn preview_in(
    input: &PlanInput<'_>,
    fleet: &FleetName,
    build: &Build,
) -> Option<RolloutPreview> {
    let state = input.fleets.get(fleet)?;
    let (_, ledger) = look(input);
    let room = ledger.room(state);
    let mut remarks = Vec::new();
    if let Some(what) = ledger.waits_for(state) {
        remarks.push(format!("it begins after {what}"));
    }
    if window_closed(input, fleet, state) {
        let seen = input.observed.windows.get(fleet);
        remarks.push(match seen.and_then(|seen| seen.changes_in) {
            Some(opens) => format!(
                "its windows are closed: it begins when the next opens, in {}",
                HumanDuration::from_secs(opens.as_secs())
            ),
            None => "its windows are closed: it begins when the next opens".to_owned(),
        });
    }
    let (new, old) = new_and_old(state, build);
    let sizing = Sizing::of(&state.spec, replaceable(state, build));
    let (size, wished) = (
        sizing.next(new, old, room.fits),
        sizing.next(new, old, u32::MAX),
    );
    match (size, &room.bound) {
        (None, Some(bound)) => remarks.push(format!("nothing can be made now: {bound}")),
        (Some(size), Some(_)) => remarks.extend(smaller(size, wished, room.bound.clone())),
        (_, None) => {}
    }
    for zone in &state.spec.zones {
        if let Some(order) = input.environment.lost_zones.get(zone) {
            let reason = &order.reason;
            remarks.push(format!(
                "zone {zone} is lost ({reason}): nothing is made there"
            ));
        }
    }
    let surroundings = Surroundings {
        environment: input.environment,
        budget: &input.rules.budget,
        room: room.fits,
        remarks,
    };
    Some(of(state, build, &surroundings))
}

/// What a rollout meets beside its own fleet.
#[derive(Debug)]
struct Surroundings<'a> {
    environment: &'a EnvironmentState,
    budget: &'a BudgetPolicy,
    room: u32,
    remarks: Vec<String>,
}

fn of(state: &FleetState, build: &Build, around: &Surroundings<'_>) -> RolloutPreview {
    let waves = waves(state, build, around);
    let (min_duration, longest) = duration::of(state, around.budget, &waves);
    // What does not fit waits for who knows how long.
    let made = waves.iter().map(|wave| wave.greens).sum::<u32>();
    let whole = new_and_old(state, build).0.saturating_add(made) >= replaceable(state, build);
    let max_duration = longest.filter(|_| whole);
    let mut remarks = remarks(state, build);
    remarks.extend(around.remarks.iter().cloned());
    RolloutPreview {
        id: PlanId::of(state, build).to_string(),
        from: state.serving.as_ref().map(|serving| serving.image.clone()),
        to: build.image.clone(),
        peak_extra: peak_extra(state, build, &waves),
        instances: instances(state, build),
        ways_back: ways_back(state, &waves),
        waves,
        min_duration,
        max_duration,
        remarks,
    }
}

/// How many are to run the image in the end: the count without those that are protected.
fn replaceable(state: &FleetState, build: &Build) -> u32 {
    state.spec.count.saturating_sub(left_out(state, build))
}

fn waves(state: &FleetState, build: &Build, around: &Surroundings<'_>) -> Vec<WavePreview> {
    let (new, old) = new_and_old(state, build);
    let sizes = Sizing::of(&state.spec, replaceable(state, build)).all(new, old, around.room);
    let is_new = |id: &InstanceId| {
        let found = state.instances.get(id);
        found.is_some_and(|one| one.build.image == build.image)
    };
    let mut spread = Spread::of(state, around.environment, is_new);
    let mut waves = Vec::new();
    for size in sizes {
        let mut zones = BTreeMap::new();
        for _ in 0..size.greens {
            if let Place::In(Some(zone)) = spread.next() {
                *zones.entry(zone).or_default() += 1;
            }
        }
        waves.push(WavePreview {
            greens: size.greens,
            blues: size.blues,
            order: size.order,
            canary: size.canary,
            zones,
        });
    }
    waves
}

fn peak_extra(state: &FleetState, build: &Build, waves: &[WavePreview]) -> u32 {
    let (new, old) = new_and_old(state, build);
    let count = state.spec.count;
    let mut there = new
        .saturating_add(old)
        .saturating_add(left_out(state, build));
    let mut peak = 0;
    for wave in waves {
        if wave.order == WaveOrder::RoomFirst {
            there -= wave.blues;
        }
        there += wave.greens;
        peak = peak.max(there.saturating_sub(count));
        if wave.order == WaveOrder::GreenFirst {
            there -= wave.blues;
        }
    }
    peak
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

const GREEN_GOES: &str = "green is removed; clients never saw it";
const BLUE_GONE: &str = "the wave's blue is gone: a new rollout to the old image";
const UNDO: &str = "calvin undo: a new rollout to the old image";

/// The way back from each phase that the rollout has: those that ask for persons only where the
/// fleet has such a gate.
fn ways_back(state: &FleetState, waves: &[WavePreview]) -> Vec<WayBack> {
    let gates = &state.spec.replace.approve;
    let mut ways = all_ways_back(state, waves);
    ways.retain(|way| way.phase.gate().is_none_or(|gate| gates.contains(&gate)));
    ways
}

fn all_ways_back(state: &FleetState, waves: &[WavePreview]) -> Vec<WayBack> {
    let way = |phase: Phase, how: &str| WayBack {
        phase,
        how: how.to_owned(),
    };
    let same = |phases: &[Phase], how: &str| -> Vec<WayBack> {
        phases.iter().map(|phase| way(*phase, how)).collect()
    };
    if state.serving.is_none() {
        return same(
            &[
                Phase::Provisioning,
                Phase::Soaking,
                Phase::AwaitingSwitch,
                Phase::Switching,
            ],
            "there is nothing to go back to: greens are kept a while, then removed",
        );
    }
    let before_the_switch = [Phase::Provisioning, Phase::Soaking, Phase::AwaitingSwitch];
    let after_the_switch = [
        Phase::Switching,
        Phase::Settling,
        Phase::Baking,
        Phase::AwaitingRetire,
        Phase::Draining,
    ];
    let makes_room = waves.iter().any(|wave| wave.order == WaveOrder::RoomFirst);
    let mut ways;
    if state.spec.kind == FleetKind::Exclusive {
        ways = same(&before_the_switch, GREEN_GOES);
        ways.push(way(
            Phase::Stopping,
            "blue is told to go on; green never began",
        ));
        ways.extend(same(
            &after_the_switch,
            "green's work is stopped, and blue's begins when that is known to have happened",
        ));
        ways.push(way(Phase::Retiring, BLUE_GONE));
    } else if makes_room {
        let again =
            "what left to make room is made again; green leaves as far as enough others serve";
        ways = same(&[Phase::MakingRoom], again);
        ways.extend(same(&before_the_switch, again));
        ways.extend(same(
            &[
                Phase::Switching,
                Phase::Settling,
                Phase::Baking,
                Phase::AwaitingRetire,
            ],
            again,
        ));
    } else {
        ways = same(&before_the_switch, GREEN_GOES);
        ways.extend(same(
            &after_the_switch,
            "blue is active again in one change of the catalogue, then green leaves",
        ));
        ways.push(way(Phase::Retiring, BLUE_GONE));
    }
    ways.push(way(Phase::Done, UNDO));
    ways
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
    remarks.extend(remark_on_kind(state));
    if state.serving.as_ref().map(|serving| &serving.image) == Some(&build.image) {
        remarks.push(format!("{} serves already", build.image));
    }
    remarks
}

/// What the fleet's kind means for a rollout.
fn remark_on_kind(state: &FleetState) -> Option<String> {
    match state.spec.kind {
        FleetKind::Service => None,
        FleetKind::Exclusive if state.serving.is_none() => None,
        FleetKind::Exclusive => {
            let rollout = state.rollout.as_ref();
            let last = rollout.and_then(|rollout| rollout.gap.filter(|gap| gap.until.is_some()));
            let last = last.map_or_else(
                || "how long is not known yet".to_owned(),
                |gap| format!("the last time {:.1} s", gap.length(gap.since).as_secs_f64()),
            );
            Some(format!(
                "never two are at work: blue stops first, and nobody is active until green is ({last})"
            ))
        }
        FleetKind::Quorum => Some(
            "one member at a time, the leader last, while every other is healthy and knows enough voters"
                .to_owned(),
        ),
    }
}
