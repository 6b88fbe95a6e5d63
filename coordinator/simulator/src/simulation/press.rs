//! An operator who presses everything: any order at any time, whatever goes on.

use calvin_engine::View;
use calvin_model::InstanceId;
use calvin_planner::{Command, FleetState};

use crate::{fault::Fault, scenario::Scenario};

/// Most instances that are ordered.
pub(crate) const PRESSED_COUNT_MAX: u32 = 6;

/// What can be pressed. A new order of operators belongs here, and in [`order`].
#[derive(Debug, Clone, Copy)]
enum Button {
    Start,
    Abort,
    Rollback,
    Undo,
    Scale,
    Replace,
    Apply,
    Delete,
}

/// All of them; what is here twice is pressed twice as often.
const BUTTONS: [Button; 12] = [
    Button::Start,
    Button::Start,
    Button::Abort,
    Button::Abort,
    Button::Rollback,
    Button::Rollback,
    Button::Undo,
    Button::Scale,
    Button::Replace,
    Button::Replace,
    Button::Apply,
    Button::Delete,
];

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
        Button::Abort => Command::Abort { fleet, reason },
        Button::Rollback => Command::Rollback { fleet, reason },
        Button::Undo => Command::Undo { fleet },
        Button::Scale => Command::Scale {
            fleet,
            count: random.u32(1..=PRESSED_COUNT_MAX),
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
            spec.count = random.u32(1..=PRESSED_COUNT_MAX);
            Command::ApplyFleet {
                spec: Box::new(spec),
                build,
            }
        }
        // Rarely: what comes after it needs time to be made again.
        Button::Delete if random.u8(..3) == 0 => Command::DeleteFleet { fleet },
        Button::Delete => return None,
    })
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
