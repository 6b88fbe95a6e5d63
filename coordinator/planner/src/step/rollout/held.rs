//! A rollout that is held, by a person who paused it or by a freeze of everything: its greens are
//! watched, and what is wrong with them leads back at once; nothing else moves it.
//!
//! A pause ends by itself after `approval_timeout`: then the rollout goes back, before the switch
//! and after it. Nobody looked at it for so long, and half-done is no state to keep.

use calvin_model::fleet::Gate;

use super::{
    greens::{Progress, blue, broken, give_up_if_too_many},
    wave,
};
use crate::{environment::FreezeScope, pass::Pass, phase::Phase, plan::EventKind};

/// Whether a rollout in this phase stands still now.
pub(crate) fn stands(pass: &Pass<'_>, phase: Phase) -> bool {
    let Some(rollout) = pass.running() else {
        return false;
    };
    match phase {
        // Blue's work has stopped and green's has not begun: nothing but going on helps.
        Phase::Stopping | Phase::RollingBack | Phase::Done | Phase::RolledBack | Phase::Failed => {
            false
        }
        // A switch makes and removes nothing: one that has begun is finished.
        Phase::Switching => rollout.paused.is_some(),
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring => rollout.paused.is_some() || pass.frozen() == Some(FreezeScope::All),
    }
}

/// Watches the greens of a rollout that stands still, and says what it waits for.
pub(crate) fn step(pass: &mut Pass<'_>, phase: Phase) {
    match phase {
        Phase::Provisioning | Phase::MakingRoom | Phase::Soaking | Phase::AwaitingSwitch => {
            if give_up_if_too_many(pass) == Progress::Ended {
                return;
            }
        }
        Phase::Switching | Phase::Settling | Phase::Baking | Phase::AwaitingRetire => {
            if let Some(why) = broken(pass).filter(|_| way_back(pass)) {
                pass.go_back(&format!(
                    "green is not healthy while the rollout is held: {why}"
                ));
                return;
            }
        }
        // What has begun to be removed is removed; after the last wave nothing is left to hold.
        Phase::Retiring if blue(pass).is_empty() && wave::is_last(pass) => {
            wave::finish(pass);
            return;
        }
        Phase::Draining
        | Phase::Retiring
        | Phase::Stopping
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => {}
    }
    say(pass);
}

fn say(pass: &mut Pass<'_>) {
    let timeout = pass.state().spec.replace.approval_timeout.0;
    let fleet = pass.fleet;
    let Some(rollout) = pass.running() else {
        return;
    };
    let what = format!("{} in {}", rollout.id, rollout.phase);
    if let Some(pause) = rollout.paused.clone() {
        let text = format!(
            "{what} is paused by {}: {} (calvin rollout resume {fleet})",
            pause.by, pause.reason
        );
        let until = pause.since.after(timeout);
        let since = pass.now.since(pause.since);
        pass.wait(text, since, Some((until, "the rollout goes back")));
        return;
    }
    pass.holds_all(&what);
}

/// Ends a pause that nobody ended.
pub(crate) fn expire(pass: &mut Pass<'_>) {
    let timeout = pass.state().spec.replace.approval_timeout;
    let Some(rollout) = pass.running() else {
        return;
    };
    let (id, phase) = (rollout.id.clone(), rollout.phase);
    let Some(pause) = rollout.paused.clone() else {
        return;
    };
    if !pause.since.after(timeout.0).reached(pass.now) {
        return;
    }
    // In between two waves there is no way back; after the next has begun there is.
    if phase == Phase::Retiring && !blue(pass).is_empty() {
        return;
    }
    let why = format!(
        "paused by {} and not resumed within approval_timeout {timeout}",
        pause.by
    );
    pass.event(
        None,
        EventKind::Phase,
        format!("{id}: the pause is over: {why}"),
    );
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.paused = None;
    }
    if phase == Phase::Retiring {
        wave::finish(pass);
    }
    if way_back(pass) {
        pass.go_back(&why);
    }
}

/// Whether there is something to go back to. The first greens of a fleet that serve already stay:
/// taking them away would help nobody.
pub(crate) fn way_back(pass: &Pass<'_>) -> bool {
    pass.running().is_some_and(|rollout| match rollout.phase {
        Phase::RollingBack | Phase::Retiring => false,
        Phase::Switching => !pass.state().switched() || !blue(pass).is_empty(),
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining => true,
        Phase::Done | Phase::RolledBack | Phase::Failed => false,
    })
}

/// A rollout to an image that is vetoed meanwhile goes back, unless that leads to a vetoed one too.
pub(crate) fn vetoed(pass: &mut Pass<'_>) {
    if !way_back(pass) {
        return;
    }
    let Some(rollout) = pass.running() else {
        return;
    };
    let to = rollout.to.image.tag.clone();
    let from = rollout.from.as_ref().map(|from| from.image.tag.clone());
    let Some(order) = pass.vetoed(&to).cloned() else {
        return;
    };
    let why = format!("{to} is vetoed by {}: {}", order.by, order.reason);
    if from
        .as_ref()
        .is_some_and(|from| pass.vetoed(from).is_some())
        && pass.state().switched()
    {
        let rule = crate::invariant::InvariantId::VetoedIsNeverMade;
        pass.hold(
            rule,
            "it does not go back: both images are vetoed".to_owned(),
            why,
        );
        return;
    }
    pass.go_back(&why);
}

/// Whether a gate is passed by as many as it takes.
pub(crate) fn approved(pass: &Pass<'_>, gate: Gate) -> bool {
    pass.approvals_missing(gate) == 0
}
