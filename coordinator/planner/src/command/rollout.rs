//! Orders about rollouts: start, abort, roll back, undo.

use calvin_model::FleetName;

use super::{CommandOutcome, Desk, Refusal, kind, start::Wants};
use crate::{
    invariant::InvariantId,
    people::Aim,
    phase::Phase,
    preview::{PlanId, same_plan},
    state::{Build, FleetState, Rollout},
    step::{Start, begin},
    transition::{Cause, transition},
};

pub(super) fn start(
    desk: Desk<'_>,
    name: &FleetName,
    build: &Build,
    plan: Option<&str>,
    emergency: Option<&str>,
) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    let what = format!("could not start a rollout of fleet {name}");
    kind::fits(&what, &before.spec, build)?;
    if let Some(plan) = plan {
        same_plan(plan, &PlanId::of(before, build))?;
    }
    let what = format!("could not start a rollout of fleet {name}");
    if let Some(reason) = emergency {
        desk.reason(&what, reason, "it skips what protects the fleet")?;
    }
    let wants = Wants {
        build,
        emergency: emergency.map(|reason| desk.order(reason)),
    };
    match before.running() {
        Some(rollout) => start_after(desk, name, before, rollout, &wants),
        None => start_now(desk, name, before, &wants),
    }
}

fn start_now(
    desk: Desk<'_>,
    name: &FleetName,
    before: &FleetState,
    wants: &Wants<'_>,
) -> Result<CommandOutcome, Refusal> {
    let build = wants.build;
    if before.serving.as_ref().map(|serving| &serving.image) == Some(&build.image) {
        return Err(Refusal::NotNow {
            rule: None,
            what: format!("could not start a rollout of fleet {name}"),
            why: format!("{} serves already", build.image),
            hint: format!("name another image: calvin rollout start {name} NAME@VERSION"),
        });
    }
    desk.may_start(name, before, wants)?;
    if let Some(why) = desk.waits(name, before, wants) {
        return Ok(wait(desk, name, before, wants, &why));
    }
    let mut after = before.clone();
    after.next = None;
    let start = Start {
        fleet: name,
        build: build.clone(),
        by: desk.who.to_owned(),
        reason: None,
        aim: Aim::Forward,
        emergency: wants.emergency.clone(),
        now: desk.input.now,
    };
    let rollout = begin(&mut after, start);
    let from = before.serving.as_ref();
    let from = from.map_or_else(|| "nothing".to_owned(), |from| from.image.to_string());
    let mut line = format!("fleet {name}: {from} -> {}", build.image);
    if let Some(order) = &wants.emergency {
        line.push_str(&format!(
            "; an emergency skips soak, waves, windows and freezes, no approval: {}",
            order.reason
        ));
    }
    Ok(CommandOutcome {
        rollout,
        ..desk.changed(name, after, line)
    })
}

/// Takes a rollout that starts later.
fn wait(
    desk: Desk<'_>,
    name: &FleetName,
    before: &FleetState,
    wants: &Wants<'_>,
    why: &str,
) -> CommandOutcome {
    let image = &wants.build.image;
    if before
        .next
        .as_ref()
        .is_some_and(|next| next.build.image == *image)
    {
        return Desk::unchanged(format!("the rollout of {image} waits already: {why}"));
    }
    let line = format!("fleet {name}: the rollout of {image} is taken and waits: {why}");
    let mut after = before.clone();
    after.next = Some(wants.next(desk.who));
    desk.changed(name, after, line)
}

/// A new image while a rollout runs: that one goes back first, where it still can.
fn start_after(
    desk: Desk<'_>,
    name: &FleetName,
    before: &FleetState,
    running: &Rollout,
    wants: &Wants<'_>,
) -> Result<CommandOutcome, Refusal> {
    let build = wants.build;
    if running.to.image == build.image && running.phase != Phase::RollingBack {
        return Err(Refusal::NotNow {
            rule: None,
            what: format!("could not start a rollout of fleet {name}"),
            why: format!(
                "{} is being rolled out already, by {}",
                build.image, running.id
            ),
            hint: format!("follow it: calvin rollout watch {name}"),
        });
    }
    let back = running
        .from
        .as_ref()
        .is_some_and(|from| from.image == build.image);
    if !back {
        desk.may_start(name, before, wants)?;
    }
    let mut after = before.clone();
    after.next = Some(wants.next(desk.who));
    let why = format!("{} wants {} instead", desk.who, build.image);
    let turned = turn_back(desk, &mut after, &why);
    if back && after.running().map(|rollout| rollout.phase) == Some(Phase::RollingBack) {
        // Going back leads to that image: there is nothing to start after it.
        after.next = None;
    }
    let line = match (turned, back) {
        (Some(_), true) => {
            format!("fleet {name}: {} goes back to {}", running.id, build.image)
        }
        (Some(_), false) => format!(
            "fleet {name}: {} goes back, then {} is rolled out",
            running.id, build.image
        ),
        (None, true) if after.next.is_none() => {
            format!(
                "fleet {name}: {} goes back to {} already",
                running.id, build.image
            )
        }
        (None, _) => format!(
            "fleet {name}: {} is in {} and ends first, then {} is rolled out",
            running.id, running.phase, build.image
        ),
    };
    Ok(CommandOutcome {
        rollout: Some(running.id.clone()),
        ..desk.changed(name, after, line)
    })
}

/// Turns the running rollout around, if its phase allows that.
fn turn_back(desk: Desk<'_>, state: &mut FleetState, why: &str) -> Option<Phase> {
    let switched = state.switched();
    let rollout = state.rollout.as_mut()?;
    let cause = match (&rollout.from, switched) {
        (Some(_), _) => Cause::GoBack,
        (None, false) => Cause::GivenUp,
        // The first greens of a fleet serve: there is nothing behind them.
        (None, true) => return None,
    };
    let phase = transition(Some(rollout.phase), cause).ok()?;
    rollout.phase = phase;
    rollout.paused = None;
    rollout.phase_since = desk.input.now;
    rollout.reason = Some(why.to_owned());
    rollout.turned_by = Some(desk.who.to_owned());
    Some(phase)
}

pub(super) fn abort(
    desk: Desk<'_>,
    name: &FleetName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    if let (None, Some(next)) = (before.running(), &before.next) {
        let image = &next.build.image;
        let line =
            format!("fleet {name}: the rollout of {image} that waited is dropped ({reason})");
        let mut after = before.clone();
        after.next = None;
        return Ok(desk.changed(name, after, line));
    }
    let rollout = running(name, before, "abort")?;
    goes_forward(name, rollout, "abort")?;
    if before.switched() {
        return Err(Refusal::NotNow {
            rule: None,
            what: format!("could not abort {}", rollout.id),
            why: format!("it is in {}: traffic is switched already", rollout.phase),
            hint: format!("switch back: calvin rollout rollback {name}"),
        });
    }
    go_back(desk, name, before, rollout, reason)
}

pub(super) fn roll_back(
    desk: Desk<'_>,
    name: &FleetName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    let rollout = running(name, before, "roll back")?;
    goes_forward(name, rollout, "roll back")?;
    go_back(desk, name, before, rollout, reason)
}

fn running<'a>(
    name: &FleetName,
    state: &'a FleetState,
    verb: &str,
) -> Result<&'a Rollout, Refusal> {
    state.running().ok_or_else(|| Refusal::NotNow {
        rule: None,
        what: format!("could not {verb} the rollout of fleet {name}"),
        why: "no rollout runs".to_owned(),
        hint: format!("to serve the image from before: calvin undo {name}"),
    })
}

fn goes_forward(name: &FleetName, rollout: &Rollout, verb: &str) -> Result<(), Refusal> {
    if rollout.phase != Phase::RollingBack {
        return Ok(());
    }
    Err(Refusal::NotNow {
        rule: None,
        what: format!("could not {verb} {}", rollout.id),
        why: "it goes back already".to_owned(),
        hint: format!("follow it: calvin rollout watch {name}"),
    })
}

fn go_back(
    desk: Desk<'_>,
    name: &FleetName,
    before: &FleetState,
    rollout: &Rollout,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let mut after = before.clone();
    after.next = None;
    let why = format!("{}: {reason}", desk.who);
    let Some(phase) = turn_back(desk, &mut after, &why) else {
        return Err(Refusal::NotNow {
            rule: Some(InvariantId::BlueStaysUntilGreenIsProven),
            what: format!("could not roll back {}", rollout.id),
            why: format!(
                "it is in {}: nothing is left to switch back to",
                rollout.phase
            ),
            hint: format!("when it has ended: calvin undo {name}"),
        });
    };
    let line = format!("fleet {name}: {} is {phase} ({reason})", rollout.id);
    Ok(CommandOutcome {
        rollout: Some(rollout.id.clone()),
        ..desk.changed(name, after, line)
    })
}

pub(super) fn undo(desk: Desk<'_>, name: &FleetName) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    let what = format!("could not undo the last rollout of fleet {name}");
    if let Some(rollout) = before.running() {
        return Err(Refusal::NotNow {
            rule: None,
            what,
            why: format!("rollout {} runs", rollout.id),
            hint: format!("turn it around: calvin rollout rollback {name}"),
        });
    }
    let Some(previous) = &before.previous else {
        return Err(Refusal::NotNow {
            rule: None,
            what,
            why: "no other image served before".to_owned(),
            hint: format!("roll one out: calvin rollout start {name} NAME@VERSION"),
        });
    };
    let image = &previous.image;
    if let Some(veto) = desk.input.environment.vetoes.get(&image.tag) {
        return Err(Refusal::NotNow {
            rule: Some(InvariantId::VetoedIsNeverMade),
            what,
            why: format!(
                "{image} served before and is vetoed by {}: {} (VetoedIsNeverMade)",
                veto.by, veto.reason
            ),
            hint: format!("roll another one out: calvin rollout start {name} NAME@VERSION"),
        });
    }
    let wants = Wants {
        build: previous,
        emergency: None,
    };
    start_now(desk, name, before, &wants)
}
