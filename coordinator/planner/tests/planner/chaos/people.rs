//! Persons who press everything: pauses, approvals, freezes, protection, vetoes and pins, in any
//! order; and how they relent in the end, so that the world can come to rest.

use calvin_model::InstanceId;
use calvin_planner::{Command, FreezeScope, Instance, InvariantId, MachineState, Phase};
use proptest::prelude::*;

use super::{Blow, More, pick};
use crate::world::{World, web};

/// What a person presses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Press {
    Pause,
    Resume,
    Promote,
    Approve,
    FreezeNew,
    FreezeAll(u8),
    Unfreeze,
    Protect(u8),
    Unprotect(u8),
    Veto(u8),
    Unveto(u8),
    Pin,
    Unpin,
    Emergency(u8),
}

pub(super) fn press() -> impl Strategy<Value = Press> {
    prop_oneof![
        3 => Just(Press::Pause),
        2 => Just(Press::Resume),
        1 => Just(Press::Promote),
        3 => Just(Press::Approve),
        2 => Just(Press::FreezeNew),
        2 => (1_u8..60).prop_map(Press::FreezeAll),
        2 => Just(Press::Unfreeze),
        2 => any::<u8>().prop_map(Press::Protect),
        1 => any::<u8>().prop_map(Press::Unprotect),
        2 => (1_u8..6).prop_map(Press::Veto),
        1 => (1_u8..6).prop_map(Press::Unveto),
        1 => Just(Press::Pin),
        1 => Just(Press::Unpin),
        2 => (1_u8..6).prop_map(Press::Emergency),
    ]
}

/// Gates of the fleet. Where blue leaves first, nobody can approve that beforehand.
pub(super) const GATES: [&str; 3] = ["", "\"switch\"", "\"switch\", \"retire\""];

pub(super) fn strike(world: &mut World, press: Press) {
    let fleet = web();
    let reason = "why not".to_owned();
    let image = |version: u8| format!("web@{version}.0").parse().unwrap();
    let order = match press {
        Press::Pause => Command::Pause { fleet, reason },
        Press::Resume => Command::Resume { fleet },
        Press::Promote => Command::Promote { fleet, reason },
        Press::Approve => Command::Approve {
            fleet,
            gate: None,
            reason,
        },
        Press::FreezeNew => Command::Freeze {
            fleet: Some(fleet),
            scope: FreezeScope::New,
            until_wall_ms: None,
            reason,
        },
        Press::FreezeAll(seconds) => Command::Freeze {
            fleet: None,
            scope: FreezeScope::All,
            until_wall_ms: Some(world.ms + u64::from(seconds) * 1_000),
            reason,
        },
        Press::Unfreeze => Command::Unfreeze { fleet: Some(fleet) },
        Press::Protect(index) | Press::Unprotect(index) => {
            let Some(instance) = pick(world, index) else {
                return;
            };
            if matches!(press, Press::Protect(_)) {
                Command::Protect { instance, reason }
            } else {
                Command::Unprotect { instance }
            }
        }
        Press::Veto(version) => Command::Veto {
            image: image(version),
            reason,
        },
        Press::Unveto(version) => Command::Unveto {
            image: image(version),
        },
        Press::Pin => Command::Pin { fleet, reason },
        Press::Unpin => Command::Unpin { fleet },
        Press::Emergency(version) => Command::StartRollout {
            fleet,
            build: world.build(&format!("{version}.0")),
            plan: None,
            emergency: Some(reason),
        },
    };
    // It may be refused; what counts is that it is then not taken at all.
    drop(world.order(&order));
}

/// Ends all that persons hold, and approves what waits.
pub(super) fn relent(world: &mut World) {
    let fleet = web();
    let mut orders = vec![
        Command::Unfreeze { fleet: None },
        Command::Unfreeze {
            fleet: Some(fleet.clone()),
        },
        Command::Unpin {
            fleet: fleet.clone(),
        },
        Command::Resume {
            fleet: fleet.clone(),
        },
        Command::Approve {
            fleet: fleet.clone(),
            gate: None,
            reason: "it is fine".to_owned(),
        },
    ];
    let protected = world.web().instances.iter();
    let protected = protected.filter(|(_, one)| one.protected.is_some());
    orders.extend(protected.map(|(id, _)| Command::Unprotect {
        instance: id.clone(),
    }));
    let vetoes = world.environment.vetoes.keys();
    orders.extend(vetoes.map(|image| Command::Unveto {
        image: image.clone(),
    }));
    let rule = InvariantId::ApprovedByEnough.to_string();
    let report = world.reports.get(&fleet);
    // What leaves just now may make the room that it needs.
    let mut instances = world.web().instances.values();
    let leaves = instances.any(Instance::leaving);
    if !leaves && report.is_some_and(|report| report.blocked.iter().any(|one| one.rule == rule)) {
        let reason = "it can never be approved".to_owned();
        orders.push(Command::Abort { fleet, reason });
    }
    for order in orders {
        drop(world.order(&order));
    }
}

/// What only a person decides: another image where the one to go back to is broken, and what
/// becomes of machines that most of a list lacks.
pub(super) fn call(world: &mut World) {
    if world.phase() == Some(Phase::RollingBack) {
        world.start("2.0").unwrap();
    }
    // Nobody leaves an image in service that fails under traffic.
    let serving = world.web().serving.clone();
    let fails = serving.is_some_and(|build| build.image.tag.version.as_str() == "4.0");
    if fails {
        drop(world.start("2.0"));
    }
    // What the planner vetoed in the trouble gets another chance.
    for image in world.environment.vetoes.clone().into_keys() {
        world.order(&Command::Unveto { image }).unwrap();
    }
    let held = |world: &World, rule: InvariantId| {
        let blocked = &world.report().blocked;
        blocked.iter().any(|one| one.rule == rule.to_string())
    };
    if held(world, InvariantId::MeltdownHolds) || held(world, InvariantId::DistrustHolds) {
        super::strike(world, &Blow::More(More::ResumeRepairs));
    }
    if !held(world, InvariantId::ShortListNeedsWitnesses) {
        return;
    }
    // A rollout that replaces them anyway needs no such order.
    if fails {
        return;
    }
    super::strike(world, &Blow::RollBack);
    let absent = world.machines.iter();
    let absent = absent.filter(|(_, machine)| machine.state == MachineState::Absent);
    let absent: Vec<InstanceId> = absent.map(|(id, _)| id.clone()).collect();
    for instance in absent {
        let reason = "it is gone".to_owned();
        // One that is being removed already needs no order.
        drop(world.order(&Command::ReplaceInstance { instance, reason }));
    }
}
