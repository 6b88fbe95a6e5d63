//! What only a person ends, and what a person began: a guard that holds the repairs of a fleet, a
//! rollout that waits for an approval, a freeze, a pause, a veto, a lost zone. The operator waits, in
//! case it passes, and then answers.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::View;
use calvin_model::{CatalogueRole, FleetName, InstanceId, RolloutId, ZoneName, image::ImageTag};
use calvin_planner::{Blocked, Command, FleetState, InvariantId, Life, MachineState, Phase};

use super::operator::WHO;
use crate::image::{Behaviour, SimImage};

/// How long something holds before a person comes to look.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is to be answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    /// A guard holds what would be repaired.
    Guard(FleetName),
    /// A list lacks most machines, this one among them, and is not believed.
    Missing(InstanceId),
    /// A rollout waits for an approval.
    Gate(RolloutId),
    /// A rollout is paused.
    Paused(FleetName),
    /// A fleet, or all of them, is frozen.
    Frozen(Option<FleetName>),
    Pinned(FleetName),
    Protected(InstanceId),
    /// It serves from another image than its fleet: it was protected, or the store was restored.
    Other(InstanceId),
    Vetoed(ImageTag),
    LostZone(ZoneName),
    /// A fleet serves an image that is bad, such as one that a recovered store says it serves.
    BadImage(FleetName),
}

/// Since when what waits for a person.
#[derive(Debug, Default)]
pub(super) struct Open(BTreeMap<Question, Duration>);

impl Open {
    /// Looks, and says what is to be ordered. A fleet that serves an image which is known to be bad
    /// gets one that is known to be good. A person who is asked whether a machine is gone goes and looks.
    pub(super) fn look(
        &mut self,
        view: &View,
        images: &[SimImage],
        is_gone: &dyn Fn(&InstanceId) -> bool,
        now: Duration,
    ) -> Vec<Command> {
        let mut open = questions(view, is_gone);
        let good = images
            .iter()
            .find(|image| image.behaviour == Behaviour::Good);
        for (name, fleet) in view.fleets.iter() {
            if let Some(good) = good.filter(|_| serves_a_bad_image(fleet, images)) {
                let answer = if view.environment.vetoes.contains_key(&good.tag) {
                    Command::Unveto {
                        image: good.tag.clone(),
                    }
                } else {
                    Command::StartRollout {
                        fleet: name.clone(),
                        build: good.build(),
                        plan: None,
                        emergency: None,
                    }
                };
                open.insert(Question::BadImage(name.clone()), answer);
            }
        }
        self.0.retain(|question, _| open.contains_key(question));
        let mut orders = Vec::new();
        for (question, answer) in open {
            let since = *self.0.entry(question.clone()).or_insert(now);
            if now >= since + PATIENCE {
                self.0.remove(&question);
                orders.push(answer);
            }
        }
        orders
    }

    /// Whether anything waits that nobody answered for yet.
    pub(super) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Everything that waits for a person, with the answer.
fn questions(view: &View, is_gone: &dyn Fn(&InstanceId) -> bool) -> BTreeMap<Question, Command> {
    let mut open = BTreeMap::new();
    let environment = &view.environment;
    if environment.freeze.is_some() {
        open.insert(Question::Frozen(None), Command::Unfreeze { fleet: None });
    }
    for zone in environment.lost_zones.keys() {
        let zone = zone.clone();
        let answer = Command::FindZone { zone: zone.clone() };
        open.insert(Question::LostZone(zone), answer);
    }
    // What the coordinator vetoed stays so.
    let vetoes = environment.vetoes.iter();
    for (image, _) in vetoes.filter(|(_, order)| order.by == WHO) {
        let image = image.clone();
        let answer = Command::Unveto {
            image: image.clone(),
        };
        open.insert(Question::Vetoed(image), answer);
    }
    for (name, fleet) in view.fleets.iter() {
        of_fleet(view, name, fleet, is_gone, &mut open);
    }
    open
}

fn of_fleet(
    view: &View,
    name: &FleetName,
    fleet: &FleetState,
    is_gone: &dyn Fn(&InstanceId) -> bool,
    open: &mut BTreeMap<Question, Command>,
) {
    let reason = || "looked at".to_owned();
    let mut ask = |question, answer| {
        open.insert(question, answer);
    };
    let fleet_name = || name.clone();
    let replace = |id: &InstanceId| Command::ReplaceInstance {
        instance: id.clone(),
        reason: reason(),
    };
    if fleet.freeze.is_some() {
        let answer = Command::Unfreeze {
            fleet: Some(fleet_name()),
        };
        ask(Question::Frozen(Some(fleet_name())), answer);
    }
    if fleet.pin.is_some() {
        let answer = Command::Unpin {
            fleet: fleet_name(),
        };
        ask(Question::Pinned(fleet_name()), answer);
    }
    if let Some(rollout) = fleet.running() {
        let fleet = fleet_name();
        if rollout.paused.is_some() {
            let answer = Command::Resume {
                fleet: fleet.clone(),
            };
            ask(Question::Paused(fleet), answer);
        } else if is_gate(rollout.phase) {
            let answer = Command::Approve {
                fleet,
                gate: None,
                reason: reason(),
            };
            ask(Question::Gate(rollout.id.clone()), answer);
        }
    }
    for (id, instance) in &fleet.instances {
        if instance.protected.is_some() {
            let answer = Command::Unprotect {
                instance: id.clone(),
            };
            ask(Question::Protected(id.clone()), answer);
        }
        if holds(view, name, InvariantId::ShortListNeedsWitnesses)
            && instance.life == Life::Up
            && is_absent(view, id)
            && is_gone(id)
        {
            ask(Question::Missing(id.clone()), replace(id));
        }
        let serving = fleet.serving.as_ref();
        let other = serving.is_some_and(|serving| *serving != instance.build);
        let serves = instance.catalogue == CatalogueRole::Active && !instance.leaving();
        let left = fleet.running().is_none() && instance.replace.is_none();
        if other && serves && left && instance.protected.is_none() {
            ask(Question::Other(id.clone()), replace(id));
        }
    }
    let guards = [InvariantId::MeltdownHolds, InvariantId::DistrustHolds];
    if guards.into_iter().any(|guard| holds(view, name, guard)) {
        let fleet = fleet_name();
        let answer = Command::ResumeRepairs {
            fleet: fleet.clone(),
            reason: reason(),
        };
        ask(Question::Guard(fleet), answer);
    }
}

fn holds(view: &View, fleet: &FleetName, guard: InvariantId) -> bool {
    let rule = guard.to_string();
    let holds = |blocked: &Blocked| blocked.rule == rule;
    let report = view.reports.get(fleet);
    report.is_some_and(|report| report.blocked.iter().any(holds))
}

/// Whether a fleet that rests serves an image which cannot serve for long.
fn serves_a_bad_image(fleet: &FleetState, images: &[SimImage]) -> bool {
    let serving = fleet.serving.as_ref().map(|build| &build.image.tag);
    let image = images.iter().find(|image| Some(&image.tag) == serving);
    let bad = image.is_some_and(|image| match image.behaviour {
        Behaviour::NeverHealthy | Behaviour::BadOnceActive { .. } | Behaviour::Flapping { .. } => {
            true
        }
        Behaviour::Good | Behaviour::LeaksOnceActive { .. } => false,
    });
    bad && fleet.running().is_none() && fleet.next.is_none() && !fleet.deleting
}

fn is_absent(view: &View, id: &InstanceId) -> bool {
    let seen = view.observed.instances.get(id);
    let machine = seen.and_then(|seen| seen.machine);
    machine.is_some_and(|machine| machine.state == MachineState::Absent)
}

fn is_gate(phase: Phase) -> bool {
    match phase {
        Phase::AwaitingSwitch | Phase::AwaitingRetire => true,
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::Stopping
        | Phase::Switching
        | Phase::Settling
        | Phase::Baking
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    }
}
