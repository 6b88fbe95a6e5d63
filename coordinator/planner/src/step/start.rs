//! Starts rollouts: the one that an operator orders, and the one that waited for another to end.

use calvin_model::{FleetName, RolloutId};

use super::rollout;
use crate::{
    environment::Order,
    invariant::InvariantId,
    moment::Moment,
    pass::Pass,
    people::{Aim, Gates},
    phase::Phase,
    plan::EventKind,
    state::{Build, FleetState, NextRollout, Rollout, Wave},
    transition::{Cause, transition},
};

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// In which fleet.
    pub(crate) fleet: &'a FleetName,
    /// What is to serve.
    pub(crate) build: Build,
    /// Who wants it.
    pub(crate) by: String,
    /// Why, where nobody ordered it.
    pub(crate) reason: Option<String>,
    /// Whether it brings something new.
    pub(crate) aim: Aim,
    /// Who cannot wait, and why.
    pub(crate) emergency: Option<Order>,
    /// When.
    pub(crate) now: Moment,
}

/// Starts a rollout. `None` while another runs.
pub(crate) fn begin(state: &mut FleetState, start: Start<'_>) -> Option<RolloutId> {
    let phase = state.rollout.as_ref().map(|rollout| rollout.phase);
    let phase: Phase = transition(phase, Cause::Started).ok()?;
    state.rollouts += 1;
    let id = RolloutId::new(start.fleet, state.rollouts);
    state.spec.image = start.build.image.tag.clone();
    let progress_by = start.now.after(state.spec.replace.progress_deadline.0);
    let gates = match start.aim {
        Aim::Forward => Gates::of(&state.spec.replace),
        Aim::Back => Gates::default(),
    };
    state.rollout = Some(Rollout {
        id: id.clone(),
        from: state.serving.clone(),
        to: start.build,
        count: state.spec.count,
        phase,
        phase_since: start.now,
        started: start.now,
        progress_by,
        wave: 0,
        sets: Wave::default(),
        failures: 0,
        reason: start.reason,
        started_by: start.by,
        aim: start.aim,
        emergency: start.emergency,
        paused: None,
        gates,
        approvals: Vec::new(),
        asked: None,
        promoted: None,
        turned_by: None,
        gap: None,
    });
    Some(id)
}

pub(crate) fn step(pass: &mut Pass<'_>) {
    let gives_way = gives_way(pass);
    let state = pass.state();
    if state.deleting || (state.running().is_some() && !gives_way) {
        return;
    }
    let Some(next) = state.next.clone() else {
        return;
    };
    if held(pass, &next) {
        return;
    }
    // Only where the other begins in the same pass: in between, nobody would be meant to serve.
    if gives_way {
        let why = "blue cannot serve, and another image is wanted";
        pass.go(Cause::GivenUp, why);
    }
    let (fleet, now) = (pass.fleet, pass.now);
    let state = pass.change();
    state.next = None;
    let text = format!("{} wants {}", next.by, next.build.image);
    let start = Start {
        fleet,
        build: next.build,
        by: next.by,
        reason: next.reason,
        aim: next.aim,
        emergency: next.emergency,
        now,
    };
    if let Some(id) = begin(state, start) {
        pass.event(None, EventKind::Phase, format!("{id} starts: {text}"));
        // Its first wave begins with it: in between, nobody would know who is to serve.
        rollout::step(pass);
    }
}

/// Whether a rollback that would take away all that serves is held. Where a person wants another
/// image meanwhile, that one replaces what is there, green and blue.
fn gives_way(pass: &Pass<'_>) -> bool {
    let held = pass
        .blocked
        .iter()
        .any(|(rule, _)| *rule == InvariantId::ServingCapacityNeverBelowMinimum);
    let going_back = pass
        .running()
        .is_some_and(|rollout| rollout.phase == Phase::RollingBack);
    held && going_back
}

/// Whether a rollout that waits does not start now. Says why; one to a vetoed image is dropped.
fn held(pass: &mut Pass<'_>, next: &NextRollout) -> bool {
    let (fleet, image) = (pass.fleet, &next.build.image);
    if let Some(veto) = pass.vetoed(&image.tag) {
        let text = format!(
            "the rollout of {image} that {} wants is dropped: {} vetoed the image: {}",
            next.by, veto.by, veto.reason
        );
        pass.event(None, EventKind::Phase, text);
        pass.change().next = None;
        return true;
    }
    let what = format!("the rollout of {image} does not start");
    if let Some(pin) = pass
        .state()
        .pin
        .clone()
        .filter(|_| next.aim == Aim::Forward)
    {
        let text = format!(
            "{what}: pinned by {}: {} (calvin fleet unpin {fleet})",
            pin.by, pin.reason
        );
        pass.wait(text, std::time::Duration::ZERO, None);
        return true;
    }
    let Some(held) = pass.held(next.aim, next.emergency.as_ref()) else {
        return false;
    };
    pass.say_held(&what, &held);
    true
}
