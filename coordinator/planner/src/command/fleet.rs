//! Orders about a whole fleet: apply, scale, delete.

use calvin_model::{FleetName, FleetSpec, fleet::COUNT_MAX};

use super::{CommandOutcome, Desk, Refusal, fits, kind, start::Wants};
use crate::{
    environment::{Freeze, FreezeScope},
    invariant::InvariantId,
    people::Aim,
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
    if let Err((_, message)) = spec.check() {
        return Err(Refusal::NotNow {
            rule: None,
            what,
            why: message,
            hint: "correct the file and apply it again".to_owned(),
        });
    }
    fits::check(desk, spec)?;
    kind::fits(&what, spec, build)?;
    if !desk.input.fleets.contains_key(name) {
        let mut state = FleetState::new(spec.clone());
        state.rollouts = desk.input.gone.get(name).copied().unwrap_or_default();
        return first_rollout(desk, name, state, build, "is new");
    }
    let before = desk.fleet(name)?;
    if before.spec.provider != spec.provider {
        return Err(Refusal::NotNow {
            rule: None,
            what,
            why: format!(
                "its machines are with provider {}, and a fleet does not move to {}",
                before.spec.provider, spec.provider
            ),
            hint: "apply it under another name, then delete this one".to_owned(),
        });
    }
    kind::stays(&what, before, spec)?;
    let mut after = FleetState {
        spec: spec.clone(),
        later_count: None,
        ..before.clone()
    };
    let frozen = desk
        .frozen(before)
        .filter(|_| before.spec.count != spec.count);
    if frozen.is_some() && before.rollout.is_some() {
        after.spec.count = before.spec.count;
        after.later_count = Some(spec.count);
    }
    let failed = before
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.phase == Phase::Failed);
    if failed && before.serving.is_none() {
        return first_rollout(desk, name, after, build, "tries again");
    }
    if before.rollout.is_none() {
        return first_rollout(desk, name, after, build, "is changed");
    }
    if after == *before {
        return Ok(Desk::unchanged(format!(
            "fleet {name} is as wanted already"
        )));
    }
    let line = format!("fleet {name} is changed");
    let mut outcome = desk.changed(name, after, line);
    outcome.lines.extend(consequences(before, spec, frozen));
    if let Some(freeze) = frozen {
        outcome.lines.push(format!(
            "a count of {} takes effect when the freeze is over: it is {}",
            spec.count,
            freeze.told()
        ));
    }
    Ok(outcome)
}

fn first_rollout(
    desk: Desk<'_>,
    name: &FleetName,
    mut state: FleetState,
    build: &Build,
    how: &str,
) -> Result<CommandOutcome, Refusal> {
    let what = format!("could not make fleet {name}");
    desk.not_vetoed(&build.image, &what, name)?;
    let wants = Wants {
        build,
        emergency: None,
    };
    if let Some(why) = desk.waits(name, &state, &wants) {
        let before = state.clone();
        state.next = Some(wants.next(desk.who));
        if desk.input.fleets.get(name) == Some(&state) {
            return Ok(Desk::unchanged(format!(
                "fleet {name} is as wanted already, and waits: {why}"
            )));
        }
        debug_assert_eq!(before.rollout, state.rollout, "nothing starts");
        let line = format!(
            "fleet {name} {how}: {} instances of {} are to be made; it waits: {why}",
            state.spec.count, build.image
        );
        return Ok(desk.changed(name, state, line));
    }
    state.next = None;
    let start = Start {
        fleet: name,
        build: build.clone(),
        by: desk.who.to_owned(),
        reason: None,
        aim: Aim::Forward,
        emergency: None,
        now: desk.input.now,
    };
    let rollout = begin(&mut state, start);
    let line = format!(
        "fleet {name} {how}: {} instances of {} are made",
        state.spec.count, build.image
    );
    Ok(CommandOutcome {
        rollout,
        ..desk.changed(name, state, line)
    })
}

/// What follows from a changed spec, and when.
fn consequences(before: &FleetState, spec: &FleetSpec, frozen: Option<&Freeze>) -> Vec<String> {
    let mut lines = Vec::new();
    if before.spec.count != spec.count && frozen.is_none() {
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
        if let Some(pin) = &before.pin {
            lines.push(format!(
                "no rollout starts: pinned by {}: {} (calvin fleet unpin {})",
                pin.by, pin.reason, spec.name
            ));
        }
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
            rule: None,
            what: format!("could not scale fleet {name} to {count}"),
            why: format!("a count is from 1 to {COUNT_MAX}"),
            hint: format!("to remove all of it: calvin fleet delete {name}"),
        });
    }
    let asked = FleetSpec {
        count,
        ..before.spec.clone()
    };
    if let Err((_, message)) = asked.check() {
        return Err(Refusal::NotNow {
            rule: None,
            what: format!("could not scale fleet {name} to {count}"),
            why: message,
            hint: format!(
                "look at what its file says (calvin fleet show {name}), and change both together: calvin fleet apply"
            ),
        });
    }
    if before.spec.count == count && before.later_count.is_none() {
        return Ok(Desk::unchanged(format!(
            "fleet {name} has a count of {count} already"
        )));
    }
    desk.not_frozen(
        before,
        FreezeScope::New,
        &format!("could not scale fleet {name} to {count}"),
        "apply the file with another count, which takes effect when the freeze is over; or end it: calvin unfreeze",
    )?;
    let line = format!("fleet {name} is scaled: {}", scaled(before, count));
    let mut after = before.clone();
    after.later_count = None;
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
    let before = desk.fleet(name)?;
    let what = format!("could not delete fleet {name}");
    let protected = before
        .instances
        .iter()
        .filter(|(_, one)| one.protected.is_some());
    let protected: Vec<String> = protected.map(|(id, _)| id.to_string()).collect();
    if let Some(first) = protected.first() {
        return Err(Refusal::NotNow {
            rule: Some(InvariantId::ProtectedNeverTouched),
            what,
            why: format!(
                "protected (ProtectedNeverTouched): {}",
                protected.join(", ")
            ),
            hint: format!("end that first: calvin instance unprotect {first}"),
        });
    }
    desk.not_frozen(
        before,
        FreezeScope::New,
        &what,
        "wait until it is over, or end it: calvin unfreeze",
    )?;
    let mut after = before.clone();
    after.deleting = true;
    after.next = None;
    let line = format!(
        "fleet {name} is deleted: {} instances drain and are removed",
        after.instances.len()
    );
    let mut outcome = desk.changed(name, after, line);
    outcome.lines.extend(left_waiting(desk, name));
    Ok(outcome)
}

/// Fleets that start nothing new any more once one is deleted that they come after.
fn left_waiting(desk: Desk<'_>, name: &FleetName) -> Option<String> {
    let fleets = desk.input.fleets.iter();
    let waiting: Vec<&str> = fleets
        .filter(|(_, state)| state.spec.after.contains(name))
        .map(|(other, _)| other.as_str())
        .collect();
    let first = waiting.first()?;
    let all = waiting.join(", ");
    Some(format!(
        "{all} comes after {name}: nothing new starts there until after no longer names it: calvin fleet show {first}"
    ))
}
