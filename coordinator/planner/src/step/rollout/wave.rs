//! Which instances a wave makes and which it replaces, and what comes after it.

use calvin_model::{DrainReason, InstanceId};

use crate::{
    pass::Pass,
    phase::Phase,
    plan::{DeleteBasis, EventKind},
    report::InstanceClass,
    state::{Build, FleetState, Purpose, Rollout, Wave},
    transition::Cause,
};

/// How many greens a wave makes, and whether it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Greens to be made.
    pub(crate) greens: u32,
    /// Blues to be replaced.
    pub(crate) blues: u32,
}

impl Size {
    /// Of the next wave of a fleet of `count`, of which `new` run the new image already and `old`
    /// another one. A first rollout has nothing to protect and nothing on top: it is one wave. The
    /// last wave takes all that is old, also what a fleet has above its count. Every wave makes at
    /// least one: what proves the image is a green.
    pub(crate) fn next(surge: u32, count: u32, new: u32, old: u32) -> Self {
        let missing = count.saturating_sub(new).max(1);
        let surge = if old == 0 && new == 0 { count } else { surge };
        let greens = missing.min(surge);
        let blues = if greens == missing {
            old
        } else {
            old.min(surge)
        };
        Self { greens, blues }
    }
}

/// Begins the wave that has no sets yet.
pub(crate) fn begin(pass: &mut Pass<'_>) {
    let Some(rollout) = pass.running() else {
        return;
    };
    let (to, number, count) = (rollout.to.clone(), rollout.wave, rollout.count);
    let id = rollout.id.clone();
    if rollout.from.is_none() {
        leave_failed(pass);
    }
    let old = old(pass, &to);
    let new = amount(
        staying(pass.state())
            .filter(|id| is_of(pass.state(), id, &to))
            .count(),
    );
    let surge = pass.state().spec.replace.surge.of(count);
    let size = Size::next(surge, count, new, amount(old.len()));
    let blue: Vec<InstanceId> = old.into_iter().take(index(size.blues)).collect();
    let why = format!("green of wave {} of {id}", number + 1);
    let green: Vec<InstanceId> = (0..size.greens)
        .map(|_| pass.create(to.clone(), Purpose::Rollout(id.clone()), &why))
        .collect();
    let text = format!(
        "{id}: wave {}: {} to be made, {} to be replaced",
        number + 1,
        green.len(),
        blue.len()
    );
    pass.event(None, EventKind::Phase, text);
    let progress_by = pass
        .now
        .after(pass.state().spec.replace.progress_deadline.0);
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.sets = Wave { green, blue };
        rollout.progress_by = progress_by;
    }
}

/// What an earlier first rollout left, to be looked at, never served.
fn leave_failed(pass: &mut Pass<'_>) {
    let left: Vec<InstanceId> = staying(pass.state()).cloned().collect();
    for id in left {
        pass.leave(&id, DrainReason::RolledBack, "another attempt starts");
    }
}

/// After a wave: the next, or the end.
pub(crate) fn finish(pass: &mut Pass<'_>) {
    let Some(rollout) = pass.running() else {
        return;
    };
    let state = pass.state();
    let new = staying(state)
        .filter(|id| is_of(state, id, &rollout.to))
        .count();
    let last = match rollout.phase {
        Phase::Switching => Cause::SwitchedOnly,
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => Cause::Retired,
    };
    // A first rollout is one wave: what it lacks at its end is made by the rule that keeps counts.
    if amount(new) < rollout.count && rollout.from.is_some() {
        let why = format!("wave {} is complete", rollout.wave + 1);
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.wave += 1;
            rollout.sets = Wave::default();
        }
        pass.go(Cause::NextWave, &why);
        return;
    }
    let why = format!("{} serves", rollout.to.image);
    pass.go(last, &why);
    done(pass);
}

fn done(pass: &mut Pass<'_>) {
    let state = pass.change();
    let Some(to) = state.rollout.as_ref().map(|rollout| rollout.to.clone()) else {
        return;
    };
    if state.serving.as_ref() != Some(&to) {
        state.previous = state.serving.replace(to);
    }
}

/// Instances that stay and run another image, the ones that serve worst first.
fn old(pass: &Pass<'_>, to: &Build) -> Vec<InstanceId> {
    let state = pass.state();
    let mut old: Vec<InstanceId> = staying(state)
        .filter(|id| !is_of(state, id, to))
        .cloned()
        .collect();
    old.sort_by_key(|id| match pass.judged(id).class {
        InstanceClass::Lost => 0,
        InstanceClass::Unhealthy => 1,
        InstanceClass::Unmanaged => 2,
        InstanceClass::Starting | InstanceClass::Unknown => 3,
        InstanceClass::Healthy | InstanceClass::Leaving => 4,
    });
    old
}

/// Those that stay, but for those that were lost with their zone: they are no part of a wave.
fn staying(state: &FleetState) -> impl Iterator<Item = &InstanceId> {
    state
        .instances
        .iter()
        .filter(|(_, one)| !one.leaving() && one.replace != Some(DeleteBasis::ZoneLost))
        .map(|(id, _)| id)
}

fn is_of(state: &FleetState, id: &InstanceId, build: &Build) -> bool {
    state
        .instances
        .get(id)
        .is_some_and(|instance| instance.build.image == build.image)
}

fn amount(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Whether the rollout's wave has its sets.
pub(crate) fn begun(rollout: &Rollout) -> bool {
    !rollout.sets.green.is_empty() || !rollout.sets.blue.is_empty()
}
