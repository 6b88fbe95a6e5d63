//! Small conversions that several answers share.

use std::time::Duration;

use calvin_engine::View;
use calvin_model::{FleetName, InstanceId};
use calvin_planner::{CommandOutcome, FleetState};
use calvin_proto::wire::ChangeReply;

use super::error::{OperatorError, near};

/// Milliseconds, as the wire has them.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number of things, as the wire has it.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The fleet of this name.
pub(super) fn fleet<'a>(
    view: &'a View,
    name: &str,
) -> Result<(&'a FleetName, &'a FleetState), OperatorError> {
    let mut fleets = view.fleets.iter();
    let found = fleets.find(|(known, _)| known.as_str() == name);
    found.ok_or_else(|| OperatorError::NotFound {
        kind: "fleet",
        name: shown(name),
        near: near(name, view.fleets.keys().map(FleetName::as_str)),
    })
}

/// The fleet that has this instance.
pub(super) fn instance<'a>(
    view: &'a View,
    id: &str,
) -> Result<(&'a FleetName, &'a FleetState, InstanceId), OperatorError> {
    let mut instances = view.fleets.iter().flat_map(|(name, state)| {
        let ids = state.instances.keys();
        ids.map(move |id| (name, state, id))
    });
    let found = instances.find(|(_, _, known)| known.as_str() == id);
    match found {
        Some((name, state, id)) => Ok((name, state, id.clone())),
        None => {
            let fleets = view.fleets.values();
            let known = fleets.flat_map(|fleet| fleet.instances.keys());
            Err(OperatorError::NotFound {
                kind: "instance",
                name: shown(id),
                near: near(id, known.map(InstanceId::as_str)),
            })
        }
    }
}

/// A stranger's text, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What is answered to an order that was taken.
pub(super) fn change(outcome: CommandOutcome, fleet: &str) -> ChangeReply {
    let next = match &outcome.rollout {
        Some(_) => format!("calvin rollout watch {fleet}"),
        None => String::new(),
    };
    ChangeReply {
        lines: outcome.lines,
        rollout: outcome.rollout.map(|id| id.to_string()).unwrap_or_default(),
        next,
    }
}

/// Longest reason that goes into the history: some sentences.
const REASON_CHARACTERS: usize = 500;

/// The reason for the history; who orders it, where none is given.
pub(super) fn reason(given: &str, who: &str) -> String {
    if given.trim().is_empty() {
        return format!("ordered by {who}");
    }
    given.chars().take(REASON_CHARACTERS).collect()
}
