//! The rule of exclusive fleets: never two at work.

use calvin_model::{CatalogueRole, InstanceId, Role, fleet::FleetKind};

use super::{
    InvariantId,
    view::{Found, View},
};
use crate::{exclusive::stopped, observed::MachineState, state::Instance};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    if view.before.spec.kind != FleetKind::Exclusive {
        return;
    }
    let Some(after) = view.after else {
        return;
    };
    let mut broken = |text: String| found.push((InvariantId::ExclusiveNeverTwice, text));
    // What was at work before counts until something that is seen says otherwise, whatever the
    // planner wrote down.
    for (id, old) in &view.before.instances {
        let known =
            |now: &Instance| stopped(now, view.seen(id), view.judged(id), view.input.now).is_some();
        match after.instances.get(id) {
            Some(new) if old.may_work() && !new.may_work() && !known(old) && !known(new) => {
                broken(format!("{id} counts as stopped, and nothing says so"));
            }
            Some(_) => {}
            None if old.may_work() && !gone(view, id) => {
                broken(format!("the record of {id} goes, and it may be at work"));
            }
            None => {}
        }
    }
    for (id, new) in &after.instances {
        let old = view.before.instances.get(id);
        let told = new.wanted.role == Role::Active
            && old.is_none_or(|old| old.wanted.role != Role::Active);
        let enters = new.catalogue >= CatalogueRole::Entered
            && old.is_none_or(|old| old.catalogue < CatalogueRole::Entered);
        if !told && !enters {
            continue;
        }
        let mut others = after.instances.iter().filter(|(other, _)| *other != id);
        if let Some((other, _)) = others.find(|(_, other)| other.may_work()) {
            broken(format!("{id} is to be active while {other} may be at work"));
        }
    }
}

/// Whether a machine is known to be gone: nothing of it can be at work.
fn gone(view: &View<'_>, id: &InstanceId) -> bool {
    let seen = view.seen(id);
    let machine = seen.and_then(|seen| seen.machine);
    machine.is_none_or(|machine| machine.state == MachineState::Absent)
        && !view.only_a_short_list_lacks(id)
}
