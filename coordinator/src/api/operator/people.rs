//! What people said about a rollout, as the wire has it: who paused it, at which gate it waits and
//! who approved there already.

use std::time::Duration;

use calvin_engine::View;
use calvin_model::{FleetName, fleet::Approver};
use calvin_planner::{Approval, FleetState, Order, Rollout};
use calvin_proto::wire;

use super::{answer::ms, zones::order};

/// Who holds a rollout where it is.
pub(super) fn paused(
    view: &View,
    state: &FleetState,
    rollout: &Rollout,
) -> Option<wire::PauseState> {
    let pause = rollout.paused.as_ref()?;
    let until = pause.since.after(state.spec.replace.approval_timeout.0);
    Some(wire::PauseState {
        order: Some(wire::Order {
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            wall_ms: pause.wall_ms,
        }),
        left_ms: ms(until.since(view.moment)),
    })
}

/// The gate that a rollout waits at.
pub(super) fn gate(view: &View, state: &FleetState, rollout: &Rollout) -> Option<wire::GateState> {
    let gate = rollout.phase.gate()?;
    let approved = |one: &&Approval| one.gate == gate;
    let asked = rollout.asked.unwrap_or(rollout.phase_since);
    let until = asked.after(state.spec.replace.approval_timeout.0);
    Some(wire::GateState {
        gate: gate.to_string(),
        needed: rollout.gates.approvals,
        approved: rollout
            .approvals
            .iter()
            .filter(approved)
            .map(|one| wire::Order {
                by: one.by.clone(),
                reason: one.reason.clone(),
                wall_ms: one.wall_ms,
            })
            .collect(),
        approver: match rollout.gates.approver {
            Approver::Anyone => "anyone",
            Approver::Other => "other",
        }
        .to_owned(),
        left_ms: ms(until.since(view.moment)),
    })
}

/// Who skipped the soak of the wave that is under way.
pub(super) fn promoted(rollout: &Rollout) -> Option<wire::Order> {
    let promotion = rollout.promoted.as_ref()?;
    (promotion.wave == rollout.wave).then(|| order(&promotion.order))
}

/// The windows of a fleet that has some.
pub(super) fn window(view: &View, name: &FleetName) -> Option<wire::WindowState> {
    let seen = view.observed.windows.get(name)?;
    Some(wire::WindowState {
        open: seen.open,
        changes_ms: seen.changes_in.map(|left: Duration| ms(left)),
    })
}

/// An order that may be there.
pub(super) fn maybe(given: Option<&Order>) -> Option<wire::Order> {
    given.map(order)
}
