//! Rules about what persons decide: freezes, windows, gates, pauses, protection and vetoes; and that
//! the history tells it all.

use std::collections::BTreeSet;

use calvin_model::{
    CatalogueRole, DrainReason, InstanceId,
    fleet::{Approver, Gate},
};

use super::{
    InvariantId,
    view::{Found, View},
};
use crate::{
    environment::FreezeScope,
    pass::{freeze_of, freeze_of_all, window_closed},
    people::Aim,
    phase::Phase,
    plan::Action,
    state::{FleetState, Instance, Life, Purpose, Rollout},
    step::untold,
};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    history_tells_every_change(view, found);
    vetoed_is_never_made(view, found);
    let Some(after) = view.after else {
        return;
    };
    protected_never_touched(view, found);
    frozen_starts_nothing(view, after, found);
    all_frozen_makes_and_removes_nothing(view, after, found);
    let (Some(was), Some(is)) = (&view.before.rollout, &after.rollout) else {
        return;
    };
    if was.id == is.id {
        paused_goes_no_further(view, was, is, found);
        approved_by_enough(view, was, is, found);
    }
}

fn history_tells_every_change(view: &View<'_>, found: &mut Found) {
    let mut broken = |text: String| found.push((InvariantId::HistoryTellsEveryChange, text));
    let Some(after) = view.after else {
        return;
    };
    for (_, text) in untold(view.before, after, &view.plan.events) {
        broken(text);
    }
    let (was, is) = (&view.before.rollout, &after.rollout);
    let place = |rollout: &Option<Rollout>| rollout.as_ref().map(|it| (it.id.clone(), it.phase));
    let people = |state: &FleetState| {
        let rollout = state.rollout.as_ref();
        let paused = rollout.is_some_and(|rollout| rollout.paused.is_some());
        (
            paused,
            state.freeze.clone(),
            state.pin.clone(),
            state.spec.count,
        )
    };
    let changed = place(was) != place(is) || people(view.before) != people(after);
    if changed && view.plan.events.is_empty() {
        broken("a rollout or an order changed, and nothing tells it".to_owned());
    }
}

fn vetoed_is_never_made(view: &View<'_>, found: &mut Found) {
    let vetoes = &view.input.environment.vetoes;
    let mut broken = |id: &InstanceId, instance: &Instance| {
        let text = format!("{id} is made from {}", instance.build.image.tag);
        found.push((InvariantId::VetoedIsNeverMade, text));
    };
    let after = view.after.unwrap_or(view.before);
    for (id, instance) in &after.instances {
        if !vetoes.contains_key(&instance.build.image.tag) {
            continue;
        }
        let ordered = view
            .plan
            .actions
            .iter()
            .any(|action| made(action) == Some(id));
        if ordered || !view.before.instances.contains_key(id) {
            broken(id, instance);
        }
    }
}

/// The instance that an action makes.
fn made(action: &Action) -> Option<&InstanceId> {
    match action {
        Action::CreateMachine { instance, .. } => Some(instance),
        Action::SetWanted { .. }
        | Action::SetRoles { .. }
        | Action::RevokeIdentity { .. }
        | Action::DeleteMachine { .. } => None,
    }
}

/// The instance that an action takes something away from.
fn removed(action: &Action) -> Option<&InstanceId> {
    match action {
        Action::RevokeIdentity { instance } | Action::DeleteMachine { instance, .. } => {
            Some(instance)
        }
        Action::CreateMachine { .. } | Action::SetWanted { .. } | Action::SetRoles { .. } => None,
    }
}

fn protected_never_touched(view: &View<'_>, found: &mut Found) {
    for (id, old) in &view.before.instances {
        if old.protected.is_none() {
            continue;
        }
        let new = view.after.and_then(|after| after.instances.get(id));
        let stays = new.is_some_and(|new| {
            // What has stopped by itself serves nobody by its entry.
            let loses_traffic = old.catalogue == CatalogueRole::Active
                && new.catalogue != CatalogueRole::Active
                && !view.has_stopped(id);
            (!new.leaving() || old.leaving()) && new.replace == old.replace && !loses_traffic
        });
        let taken = view
            .plan
            .actions
            .iter()
            .any(|action| removed(action) == Some(id));
        if !stays || taken {
            let text = format!("{id} is protected and does not stay as it is");
            found.push((InvariantId::ProtectedNeverTouched, text));
        }
    }
}

/// A rollout, a wave or a switch that begins with this plan.
fn begins(before: &FleetState, after: &FleetState) -> Option<&'static str> {
    let is = after.running()?;
    let was = before.rollout.as_ref().filter(|was| was.id == is.id);
    let Some(was) = was else {
        return Some("a rollout starts");
    };
    let empty = |rollout: &Rollout| !rollout.sets.begun();
    if was.wave == is.wave && empty(was) && !empty(is) {
        return Some("a wave begins");
    }
    if was.wave != is.wave && !empty(is) {
        return Some("a wave begins");
    }
    let before_switch = matches!(
        was.phase,
        Phase::Provisioning | Phase::Soaking | Phase::AwaitingSwitch
    );
    (before_switch && is.phase == Phase::Switching).then_some("traffic is to be switched")
}

fn frozen_starts_nothing(view: &View<'_>, after: &FleetState, found: &mut Found) {
    let (Some(what), Some(rollout)) = (begins(view.before, after), after.running()) else {
        return;
    };
    if rollout.emergency.is_some() {
        return;
    }
    let scope = match rollout.aim {
        Aim::Forward => FreezeScope::New,
        Aim::Back => FreezeScope::All,
    };
    if freeze_of(view.input, after).is_some_and(|freeze| freeze.scope >= scope) {
        let text = format!("{what} while it is frozen: {}", rollout.id);
        found.push((InvariantId::FrozenStartsNothing, text));
    }
    if rollout.aim == Aim::Forward && window_closed(view.input, view.fleet, view.before) {
        let text = format!("{what} outside of the windows: {}", rollout.id);
        found.push((InvariantId::ClosedWindowStartsNothing, text));
    }
}

fn all_frozen_makes_and_removes_nothing(view: &View<'_>, after: &FleetState, found: &mut Found) {
    let frozen = |state| freeze_of_all(view.input, state).map(|freeze| freeze.scope);
    // What cannot wait passes it, and it alone.
    let passes = |id: &InstanceId| view.before.of_emergency(id) || after.of_emergency(id);
    let all = Some(FreezeScope::All);
    if frozen(view.before) != all || frozen(after) != all {
        return;
    }
    let mut broken = |text: String| found.push((InvariantId::FrozenStartsNothing, text));
    for action in &view.plan.actions {
        let touched = made(action).or_else(|| removed(action));
        if let Some(id) = touched.filter(|id| !passes(id)) {
            broken(format!("{id} is made or removed while all is frozen"));
        }
    }
    let green: BTreeSet<&InstanceId> = after
        .rollout
        .iter()
        .flat_map(|rollout| &rollout.sets.green)
        .collect();
    for (id, new) in &after.instances {
        match view.before.instances.get(id) {
            None if passes(id) => {}
            None => broken(format!("{id} is to be made while all is frozen")),
            Some(old) if new.leaving() && !old.leaving() && !green.contains(id) && !passes(id) => {
                broken(format!("{id} leaves while all is frozen"));
            }
            Some(_) => {}
        }
    }
}

fn paused_goes_no_further(view: &View<'_>, was: &Rollout, is: &Rollout, found: &mut Found) {
    let Some(pause) = &was.paused else {
        return;
    };
    let timeout = view.before.spec.replace.approval_timeout.0;
    let over = pause.since.after(timeout).reached(view.input.now);
    let mut broken = |text: String| found.push((InvariantId::PausedGoesNoFurther, text));
    let turned = match is.phase {
        Phase::RollingBack | Phase::RolledBack | Phase::Failed => true,
        Phase::Done => was.phase == Phase::Retiring,
        Phase::Soaking => was.phase == Phase::AwaitingSwitch,
        Phase::Switching => was.phase == Phase::Stopping,
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::AwaitingSwitch
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring => false,
    };
    if over || turned {
        return;
    }
    if is.phase != was.phase || is.wave != was.wave {
        broken(format!("{}: {} -> {}", is.id, was.phase, is.phase));
    }
    if is.paused.is_none() {
        broken(format!(
            "{} is not paused any more, and nobody resumed it",
            is.id
        ));
    }
    let after = view.after.unwrap_or(view.before);
    for (id, instance) in &after.instances {
        let new = !view.before.instances.contains_key(id);
        if new && instance.purpose == Purpose::Rollout(is.id.clone()) {
            broken(format!("{id} is to be made for {}", is.id));
        }
    }
}

fn approved_by_enough(view: &View<'_>, was: &Rollout, is: &Rollout, found: &mut Found) {
    let mut broken = |gate: Gate| {
        let text = format!("{} passes the gate {gate} with too few approvals", is.id);
        found.push((InvariantId::ApprovedByEnough, text));
    };
    let before_switch = matches!(
        was.phase,
        Phase::Provisioning | Phase::MakingRoom | Phase::Soaking | Phase::AwaitingSwitch
    );
    let after_switch = match is.phase {
        Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::Done => true,
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::RollingBack
        | Phase::RolledBack
        | Phase::Failed => false,
    };
    if before_switch && after_switch && !enough(is, Gate::Switch) {
        broken(Gate::Switch);
    }
    let replaced = |instance: &Instance| match instance.life {
        Life::Draining(reason) => reason == DrainReason::Replaced,
        Life::Making | Life::Up | Life::Retiring(_) => false,
    };
    let leaves = view
        .changed()
        .any(|(_, old, new)| !old.leaving() && replaced(new));
    let made_room = was.phase == Phase::MakingRoom || is.phase == Phase::MakingRoom;
    if leaves && !made_room && !enough(is, Gate::Retire) {
        broken(Gate::Retire);
    }
}

/// Whether as many different persons as it takes approved at a gate, of those who may.
fn enough(rollout: &Rollout, gate: Gate) -> bool {
    let gates = &rollout.gates;
    if !gates.at.contains(&gate) {
        return true;
    }
    let may = |by: &str| match gates.approver {
        Approver::Anyone => true,
        Approver::Other => by != rollout.started_by,
    };
    let approvals = rollout.approvals.iter().filter(|one| one.gate == gate);
    let who: BTreeSet<&str> = approvals
        .map(|one| one.by.as_str())
        .filter(|by| may(by))
        .collect();
    who.len() >= usize::try_from(gates.approvals).unwrap_or(usize::MAX)
}
