//! An operator who presses everything: any order at any time, whatever goes on.

use calvin_engine::View;
use calvin_model::{FleetName, FleetSpec, InstanceId, ZoneName, fleet::FleetKind};
use calvin_planner::{Command, FleetState, FreezeScope};

use crate::{fault::Fault, scenario::Scenario};

/// Most instances that are ordered.
pub(crate) const PRESSED_COUNT_MAX: u32 = 6;

/// What can be pressed. A new order of operators belongs here, and in [`order`].
#[derive(Debug, Clone, Copy)]
enum Button {
    Start,
    Emergency,
    Abort,
    Rollback,
    Undo,
    Pause,
    Resume,
    Promote,
    Approve,
    Scale,
    Replace,
    Apply,
    Delete,
    Freeze,
    Unfreeze,
    Protect,
    Unprotect,
    Veto,
    Unveto,
    Pin,
    Unpin,
    LoseZone,
    FindZone,
    ResumeRepairs,
}

/// All of them; what is here twice is pressed twice as often.
const BUTTONS: [Button; 33] = [
    Button::Start,
    Button::Start,
    Button::Start,
    Button::Emergency,
    Button::Abort,
    Button::Abort,
    Button::Rollback,
    Button::Rollback,
    Button::Undo,
    Button::Undo,
    Button::Pause,
    Button::Resume,
    Button::Promote,
    Button::Promote,
    Button::Approve,
    Button::Approve,
    Button::Scale,
    Button::Scale,
    Button::Replace,
    Button::Replace,
    Button::Apply,
    Button::Delete,
    Button::Freeze,
    Button::Unfreeze,
    Button::Protect,
    Button::Unprotect,
    Button::Veto,
    Button::Unveto,
    Button::Pin,
    Button::Unpin,
    Button::LoseZone,
    Button::FindZone,
    Button::ResumeRepairs,
];

/// How long a freeze lasts, in milliseconds of the coordinator's wall clock.
const FREEZE_MS: (u64, u64) = (1_000, 60_000);

/// What is pressed next, on any fleet. Nothing, where the order has no object.
pub(super) fn order(
    scenario: &Scenario,
    view: &View,
    random: &mut fastrand::Rng,
) -> Option<Command> {
    let specs: Vec<_> = scenario.specs().collect();
    let spec = *specs.get(random.usize(..specs.len()))?;
    let fleet = spec.name.clone();
    let state = view.fleets.get(&fleet);
    let button = BUTTONS[random.usize(..BUTTONS.len())];
    let reason = "pressed".to_owned();
    Some(match button {
        Button::Start => Command::StartRollout {
            fleet,
            build: image(scenario, random)?,
            plan: None,
            emergency: None,
        },
        Button::Emergency => Command::StartRollout {
            fleet,
            build: image(scenario, random)?,
            plan: None,
            emergency: Some(reason),
        },
        Button::Abort => Command::Abort { fleet, reason },
        Button::Rollback => Command::Rollback { fleet, reason },
        Button::Undo => Command::Undo { fleet },
        Button::Pause => Command::Pause { fleet, reason },
        Button::Resume => Command::Resume { fleet },
        Button::Promote => Command::Promote { fleet, reason },
        Button::Approve => Command::Approve {
            fleet,
            gate: None,
            reason,
        },
        Button::Scale => Command::Scale {
            fleet,
            count: count(spec, random),
        },
        Button::Replace => Command::ReplaceInstance {
            instance: instance(state?, random)?,
            reason,
        },
        Button::Apply => {
            let build = image(scenario, random)?;
            let mut spec = spec.clone();
            spec.image = build.image.tag.clone();
            spec.provider = crate::provider::NAME.to_owned();
            spec.count = count(&spec, random);
            Command::ApplyFleet {
                spec: Box::new(spec),
                build,
            }
        }
        // Rarely: what comes after it needs time to be made again.
        Button::Delete if random.u8(..3) == 0 => Command::DeleteFleet { fleet },
        Button::Delete => return None,
        Button::Freeze => freeze(random.bool().then_some(fleet), view, random),
        Button::Unfreeze => Command::Unfreeze {
            fleet: random.bool().then_some(fleet),
        },
        Button::Protect => Command::Protect {
            instance: instance(state?, random)?,
            reason,
        },
        Button::Unprotect => Command::Unprotect {
            instance: instance(state?, random)?,
        },
        Button::Veto => Command::Veto {
            image: image(scenario, random)?.image.tag,
            reason,
        },
        Button::Unveto => Command::Unveto {
            image: image(scenario, random)?.image.tag,
        },
        Button::Pin => Command::Pin { fleet, reason },
        Button::Unpin => Command::Unpin { fleet },
        Button::LoseZone => Command::LoseZone {
            zone: zone(spec, random)?,
            reason,
        },
        Button::FindZone => Command::FindZone {
            zone: zone(spec, random)?,
        },
        Button::ResumeRepairs => Command::ResumeRepairs { fleet, reason },
    })
}

/// Either kind of a freeze, of this fleet or of all.
fn freeze(fleet: Option<FleetName>, view: &View, random: &mut fastrand::Rng) -> Command {
    let (scope, until_wall_ms) = if random.bool() {
        (FreezeScope::New, None)
    } else {
        let until = view.wall_ms + random.u64(FREEZE_MS.0..=FREEZE_MS.1);
        (FreezeScope::All, Some(until))
    };
    Command::Freeze {
        fleet,
        scope,
        until_wall_ms,
        reason: "pressed".to_owned(),
    }
}

/// As many as a fleet of this kind may have.
fn count(spec: &FleetSpec, random: &mut fastrand::Rng) -> u32 {
    match spec.kind {
        FleetKind::Exclusive => 1,
        FleetKind::Service | FleetKind::Quorum => random.u32(1..=PRESSED_COUNT_MAX),
    }
}

fn zone(spec: &FleetSpec, random: &mut fastrand::Rng) -> Option<ZoneName> {
    if spec.zones.is_empty() {
        return None;
    }
    spec.zones.get(random.usize(..spec.zones.len())).cloned()
}

/// Any image; a bad one only where images may be bad.
fn image(scenario: &Scenario, random: &mut fastrand::Rng) -> Option<calvin_planner::Build> {
    let bad = scenario.faults.contains(&Fault::BadImage);
    let images: Vec<_> = scenario
        .images
        .iter()
        .filter(|image| bad || image.behaviour == crate::image::Behaviour::Good)
        .collect();
    if images.is_empty() {
        return None;
    }
    images
        .get(random.usize(..images.len()))
        .map(|image| image.build())
}

fn instance(fleet: &FleetState, random: &mut fastrand::Rng) -> Option<InstanceId> {
    if fleet.instances.is_empty() {
        return None;
    }
    let place = random.usize(..fleet.instances.len());
    fleet.instances.keys().nth(place).cloned()
}
