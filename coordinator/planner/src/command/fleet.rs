//! Orders about a whole fleet: apply, scale, delete.

use calvin_model::{FleetName, FleetSpec, fleet::COUNT_MAX};

use super::{CommandOutcome, Desk, Refusal};
use crate::{
    phase::Phase,
    state::{Build, FleetState},
    step::{Start, begin},
};

pub(super) fn apply(
    desk: Desk<'_>,
    spec: &FleetSpec,
    build: &Build,
) -> Result<CommandOutcome, Refusal> {
    let name = &spec.name;
    let what = format!("could not apply fleet {name}");
    if let Err((key, message)) = spec.check() {
        return Err(Refusal::NotNow {
            what,
            why: format!("{key}: {message}"),
            hint: "correct the file and apply it again".to_owned(),
        });
    }
    if !desk.input.fleets.contains_key(name) {
        let mut state = FleetState::new(spec.clone());
        state.rollouts = desk.input.gone.get(name).copied().unwrap_or_default();
        return Ok(first_rollout(desk, name, state, build, "is new"));
    }
    let before = desk.fleet(name)?;
    if before.spec.provider != spec.provider {
        return Err(Refusal::NotNow {
            what,
            why: format!(
                "its machines are with provider {}, and a fleet does not move to {}",
                before.spec.provider, spec.provider
            ),
            hint: "apply it under another name, then delete this one".to_owned(),
        });
    }
    let after = FleetState {
        spec: spec.clone(),
        ..before.clone()
    };
    let failed = before
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.phase == Phase::Failed);
    if failed && before.serving.is_none() {
        return Ok(first_rollout(desk, name, after, build, "tries again"));
    }
    if after == *before {
        return Ok(Desk::unchanged(format!(
            "fleet {name} is as wanted already"
        )));
    }
    let line = format!("fleet {name} is changed");
    let mut outcome = desk.changed(name, after, line);
    outcome.lines.extend(consequences(before, spec));
    Ok(outcome)
}

fn first_rollout(
    desk: Desk<'_>,
    name: &FleetName,
    mut state: FleetState,
    build: &Build,
    how: &str,
) -> CommandOutcome {
    let start = Start {
        fleet: name,
        build: build.clone(),
        by: desk.who.to_owned(),
        reason: None,
        now: desk.input.now,
    };
    let rollout = begin(&mut state, start);
    let line = format!(
        "fleet {name} {how}: {} instances of {} are made",
        state.spec.count, build.image
    );
    CommandOutcome {
        rollout,
        ..desk.changed(name, state, line)
    }
}

/// What follows from a changed spec, and when.
fn consequences(before: &FleetState, spec: &FleetSpec) -> Vec<String> {
    let mut lines = Vec::new();
    if before.spec.count != spec.count {
        lines.push(scaled(before, spec.count));
    }
    let target = before
        .running()
        .map(|rollout| &rollout.to)
        .or(before.serving.as_ref());
    if let Some(target) = target.filter(|target| target.image.tag != spec.image) {
        lines.push(format!(
            "{} is there; {} waits for: calvin rollout start {}",
            target.image, spec.image, spec.name
        ));
    }
    lines
}

fn scaled(before: &FleetState, count: u32) -> String {
    let from = before.spec.count;
    match before.running() {
        Some(rollout) => format!("{from} -> {count}, after {} has ended", rollout.id),
        None => format!("{from} -> {count}"),
    }
}

pub(super) fn scale(
    desk: Desk<'_>,
    name: &FleetName,
    count: u32,
) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    if count == 0 || count > COUNT_MAX {
        return Err(Refusal::NotNow {
            what: format!("could not scale fleet {name} to {count}"),
            why: format!("a count is from 1 to {COUNT_MAX}"),
            hint: format!("to remove all of it: calvin fleet delete {name}"),
        });
    }
    if before.spec.count == count {
        return Ok(Desk::unchanged(format!(
            "fleet {name} has a count of {count} already"
        )));
    }
    let line = format!("fleet {name} is scaled: {}", scaled(before, count));
    let mut after = before.clone();
    after.spec.count = count;
    Ok(desk.changed(name, after, line))
}

pub(super) fn delete(desk: Desk<'_>, name: &FleetName) -> Result<CommandOutcome, Refusal> {
    if desk
        .input
        .fleets
        .get(name)
        .is_some_and(|state| state.deleting)
    {
        return Ok(Desk::unchanged(format!(
            "fleet {name} is being deleted already"
        )));
    }
    let mut after = desk.fleet(name)?.clone();
    after.deleting = true;
    after.next = None;
    let line = format!(
        "fleet {name} is deleted: {} instances drain and are removed",
        after.instances.len()
    );
    Ok(desk.changed(name, after, line))
}
