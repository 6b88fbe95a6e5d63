//! The rule about a zone that a person says is lost: nothing that is silent there is removed.

use calvin_model::InstanceId;

use super::{
    InvariantId,
    view::{Found, View, retires},
};
use crate::{
    observed::SessionObserved,
    plan::{Action, Next},
    state::Instance,
};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut broken = |text: String| found.push((InvariantId::LostZoneIsLeftAlone, text));
    for (id, old, new) in view.changed() {
        if retires(old, new) && is_silent_there(view, id, old) {
            broken(format!("{id} is to be removed, and its zone is lost"));
        }
    }
    let forgets = view.plan.next != Next::Same;
    for (id, old) in view.before.instances.iter().filter(|_| forgets) {
        let gone = view
            .after
            .is_none_or(|after| !after.instances.contains_key(id));
        if gone && is_silent_there(view, id, old) {
            broken(format!("{id} is forgotten, and its zone is lost"));
        }
    }
    for action in &view.plan.actions {
        let id = match action {
            Action::DeleteMachine { instance, .. } => instance,
            Action::CreateMachine { .. }
            | Action::SetWanted { .. }
            | Action::SetRoles { .. }
            | Action::RevokeIdentity { .. } => continue,
        };
        let instance = view.before.instances.get(id);
        if instance.is_some_and(|instance| is_silent_there(view, id, instance)) {
            broken(format!("{id} is deleted, and its zone is lost"));
        }
    }
}

/// Whether an instance is in a lost zone and no session of it lives.
fn is_silent_there(view: &View<'_>, id: &InstanceId, instance: &Instance) -> bool {
    let session = view.seen(id).map(|seen| seen.session).unwrap_or_default();
    let silent = match session {
        SessionObserved::Never | SessionObserved::Ended(_) => true,
        SessionObserved::Alive(_) => false,
    };
    silent && view.input.environment.has_lost(instance.zone.as_ref())
}
