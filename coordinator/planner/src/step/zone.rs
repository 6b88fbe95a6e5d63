//! A zone that a person says is lost. The person is the second source: what is silent there is made
//! elsewhere, at once and whatever else is held, and nothing there is removed. What still answers
//! goes on serving. When the zone is found, or an instance answers again, the ordinary rules hold:
//! what a fleet then has too many of leaves as it does when a fleet is made smaller.

use std::time::Duration;

use calvin_model::InstanceId;

use super::repair::mark;
use crate::{
    invariant::InvariantId,
    pass::Pass,
    phase::Phase,
    plan::DeleteBasis,
    state::{Instance, Life, Rollout},
    transition::Cause,
};

/// How long an instance of a lost zone must be silent, if `silent_after` is not less: agents that
/// only lost their session are back long before, also after a start of the coordinator.
const SILENT_THERE: Duration = Duration::from_secs(30);

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    let instances = pass.state().instances.iter();
    let (mut gone, mut back) = (Vec::new(), Vec::new());
    for (id, instance) in instances.filter(|(_, one)| !one.leaving()) {
        let marked = instance.replace == Some(DeleteBasis::ZoneLost);
        if marked && !(pass.zone_lost(instance) && does_not_serve(pass, id)) {
            back.push((id.clone(), pass.zone_lost(instance)));
        } else if !marked
            && instance.protected.is_none()
            && pass.zone_lost(instance)
            && gone_there(pass, id, instance)
            && !waits_for_a_person(pass, id)
        {
            gone.push(id.clone());
        }
    }
    for (id, still_lost) in back {
        let why = if still_lost {
            "it answers, although its zone is lost"
        } else {
            "its zone is found"
        };
        mark(pass, &id, None, why);
        is_back(pass, &id);
    }
    for id in gone {
        lose(pass, &id);
    }
    without_greens(pass);
}

/// Whether it is a green of a rollout that is paused before its switch: nothing is made in its place
/// until that goes on.
fn waits_for_a_person(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let paused = pass.running().filter(|rollout| rollout.paused.is_some());
    paused.is_some_and(|rollout| rollout.sets.green.contains(id)) && !pass.state().switched()
}

fn does_not_serve(pass: &Pass<'_>, id: &InstanceId) -> bool {
    !pass.judged(id).serves()
}

/// Whether nothing has answered for long enough, or what answers says that it cannot serve.
fn gone_there(pass: &Pass<'_>, id: &InstanceId, instance: &Instance) -> bool {
    let repair = &pass.state().spec.repair;
    let judgement = pass.judged(id);
    let silent_after = SILENT_THERE.min(repair.silent_after.0);
    // The machine of one that is being made there may never come.
    let silent = match instance.life {
        Life::Making => pass.now.since(instance.created) > silent_after,
        Life::Up | Life::Draining(_) | Life::Retiring(_) => judgement.silent_for > silent_after,
    };
    let unhealthy = judgement
        .unhealthy_for
        .is_some_and(|long| long > repair.repair_after.0);
    (!judgement.connected && silent && !judgement.serves()) || unhealthy
}

/// Marks one that is to be made elsewhere. Before the switch, a rollout makes its own greens again.
fn lose(pass: &mut Pass<'_>, id: &InstanceId) {
    let zone = pass.instance(id).and_then(|one| one.zone.clone());
    let said = zone
        .as_ref()
        .and_then(|zone| pass.input.environment.lost_zones.get(zone));
    let why = match (&zone, said) {
        (Some(zone), Some(order)) => {
            format!("zone {zone} is lost, says {}: {}", order.by, order.reason)
        }
        (_, _) => "its zone is lost".to_owned(),
    };
    mark(pass, id, Some(DeleteBasis::ZoneLost), &why);
    // One that a person ordered away is theirs already.
    if !pass.left_behind(id) {
        return;
    }
    let Some(rollout) = pass.running().filter(|it| it.sets.green.contains(id)) else {
        return;
    };
    match rollout.phase {
        Phase::Provisioning | Phase::Soaking | Phase::AwaitingSwitch => {
            let why = format!("another is made in the place of {id}, whose zone is lost");
            if let Some(rollout) = &mut pass.change().rollout {
                rollout.sets.to_make = rollout.sets.to_make.saturating_add(1);
            }
            pass.go(Cause::GreenReplaced, &why);
        }
        Phase::Switching if !pass.state().switched() => {
            pass.go_back(&format!("{id} was to be active: {why}"));
        }
        // What serves already is made again like anything else that serves.
        Phase::MakingRoom
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => {}
    }
}

/// A green that is back needs no other in its place, where none is made yet.
fn is_back(pass: &mut Pass<'_>, id: &InstanceId) {
    let green = |rollout: &&Rollout| rollout.sets.green.contains(id);
    let to_make = pass
        .running()
        .filter(green)
        .map_or(0, |one| one.sets.to_make);
    if to_make > 0
        && let Some(rollout) = &mut pass.change().rollout
    {
        rollout.sets.to_make = to_make - 1;
    }
}

/// A rollout of which every green that serves was lost with its zone has nothing to go on with.
fn without_greens(pass: &mut Pass<'_>) {
    let Some(rollout) = pass.running() else {
        return;
    };
    let greens = &rollout.sets.green;
    let none_left = !greens.is_empty() && greens.iter().all(|id| pass.left_behind(id));
    let serves = match rollout.phase {
        Phase::Switching | Phase::Settling | Phase::Baking | Phase::AwaitingRetire => true,
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Stopping
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    };
    if none_left && serves {
        pass.go_back("every green was in a zone that is lost");
    }
}

impl Pass<'_> {
    /// Whether nothing is removed of an instance, because its zone is lost and it does not answer.
    pub(crate) fn left_alone(&self, id: &InstanceId) -> bool {
        self.instance(id).is_some_and(|one| {
            let marked = one.replace == Some(DeleteBasis::ZoneLost);
            self.zone_lost(one) && (marked || !self.judged(id).connected)
        })
    }

    /// Whether a rollout does not wait for an instance, because it was lost with its zone.
    pub(crate) fn left_behind(&self, id: &InstanceId) -> bool {
        self.instance(id).is_some_and(|one| {
            let marked = one.replace == Some(DeleteBasis::ZoneLost);
            marked || (one.leaving() && self.left_alone(id))
        })
    }

    /// Says that something in a lost zone is not removed.
    pub(crate) fn hold_lost_zone(&mut self, id: &InstanceId) {
        let zone = self.instance(id).and_then(|one| one.zone.clone());
        let zone = zone.map_or_else(|| "its zone".to_owned(), |zone| format!("zone {zone}"));
        let what = format!("{id} is not removed");
        let fact = format!("{zone} is lost, and it does not answer");
        let held = self.blocked.iter().any(|(_, one)| one.what == what);
        if !held {
            self.hold(InvariantId::LostZoneIsLeftAlone, what, fact);
        }
    }
}
