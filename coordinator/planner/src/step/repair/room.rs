//! Where there is no room for a new machine beside the one that is to be replaced: who may leave first.

use calvin_model::{DrainReason, InstanceId};

use super::ordered;
use crate::{
    ledger::Shortage,
    observed::{FaultKind, MachineState},
    pass::Pass,
    phase::Phase,
    plan::DeleteBasis,
    report::InstanceClass,
    state::Instance,
    sums::hidden_limit,
};

/// Whether an unhealthy instance makes room for its replacement: there is none else, and it serves
/// nobody, so nothing is lost. Where clients find it because most fail, it may be all they have.
pub(super) fn goes_first(pass: &Pass<'_>, old: &InstanceId) -> bool {
    let least = usize::try_from(pass.state().spec.min_serving()).unwrap_or(usize::MAX);
    let (active, failing) = pass.active_and_failing();
    let hidden = failing <= hidden_limit(active);
    is_unhealthy(pass, old) && hidden && pass.serving() >= least.max(1)
}

/// Whether an instance is unhealthy now, and that it is to be replaced was committed before.
pub(super) fn is_unhealthy(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let marked = |one: &Instance| one.replace == Some(DeleteBasis::Unhealthy);
    let unhealthy = pass.judged(id).class == InstanceClass::Unhealthy;
    unhealthy && pass.before().instances.get(id).is_some_and(marked)
}

pub(super) fn go_first(pass: &mut Pass<'_>, old: &InstanceId) {
    if goes_first(pass, old) && pass.may_delete(pass.draining()) {
        let why = "there is no room for another beside it, and it serves nobody";
        pass.leave(old, DrainReason::Repaired, why);
    }
}

/// Whether an unhealthy instance keeps a rollout from its room that would replace it: it waits for the
/// rollout, the rollout for room, and the fleet has its count without it. One that a person ordered away
/// does so too where more are there than the count, even if others are to be replaced as well.
pub(super) fn in_the_way(pass: &Pass<'_>, old: &InstanceId) -> bool {
    let state = pass.state();
    let count = usize::try_from(state.spec.count).unwrap_or(usize::MAX);
    let enough = state.kept() >= count;
    let staying = state.instances.values().filter(|one| !one.leaving());
    let on_top = staying.count() > count;
    let ordered = ordered(pass, old) && pass.judged(old).failing();
    let too_many = enough && (ordered || is_unhealthy(pass, old)) || on_top && ordered;
    too_many && no_room_at_all(pass)
}

/// Whether a rollout is to make room and can not begin to: too few serve for any blue to leave. What fails
/// beside it would wait for the rollout, and the rollout for what fails.
pub(in crate::step) fn makes_no_room(pass: &Pass<'_>) -> bool {
    let Some(rollout) = pass.running() else {
        return false;
    };
    let stays = |blue: &InstanceId| pass.instance(blue).is_some_and(|one| !one.leaving());
    rollout.phase == Phase::MakingRoom
        && rollout.sets.blue.iter().all(stays)
        && pass.serving() <= pass.state().must_serve()
}

/// Whether nothing can be made because there is no room: a bound of what may be in flight passes.
pub(in crate::step) fn no_room_at_all(pass: &Pass<'_>) -> bool {
    let room = pass.ledger.room(pass.state());
    let bound = room.bound.filter(|_| room.fits == 0);
    bound.is_some_and(|bound| match bound {
        Shortage::Provider { .. } | Shortage::Limit { .. } => true,
        Shortage::InFlight { .. } | Shortage::Deletions { .. } | Shortage::Zones => false,
    })
}

/// Whether the provider has no room for a machine that is to be made.
pub(in crate::step) fn no_room(pass: &Pass<'_>, new: &InstanceId) -> bool {
    let seen = pass.seen(new);
    let listed = seen.and_then(|seen| seen.machine);
    if listed.is_some_and(|machine| machine.state != MachineState::Absent) {
        return false;
    }
    let fault = seen.and_then(|seen| seen.fault.as_ref());
    fault.is_some_and(|fault| fault.kind == FaultKind::Quota)
}
