//! Tells the history what no step told: an instance whose life, role or place in the catalogue
//! changed without a line of its own, or of the rollout that it belongs to.

use std::collections::BTreeSet;

use calvin_model::InstanceId;

use crate::{
    pass::Pass,
    plan::{Event, EventKind},
    state::{FleetState, Instance},
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    for (id, text) in untold(pass.before(), pass.state(), &pass.events) {
        pass.event(Some(&id), EventKind::Role, text);
    }
}

/// Changes of instances that no event tells: the instance, and what changed.
pub(crate) fn untold(
    before: &FleetState,
    after: &FleetState,
    events: &[Event],
) -> Vec<(InstanceId, String)> {
    if std::ptr::eq(before, after) {
        return Vec::new();
    }
    let about = |event: &Event| event.instance.clone();
    let told: BTreeSet<InstanceId> = events.iter().filter_map(about).collect();
    let whole = events.iter().any(|event| {
        event.instance.is_none() && matches!(event.kind, EventKind::Phase | EventKind::Switch)
    });
    let mut untold = Vec::new();
    if whole {
        return untold;
    }
    for (id, new) in &after.instances {
        let Some(old) = before.instances.get(id) else {
            if !told.contains(id) {
                untold.push((id.clone(), format!("{id} is to be made")));
            }
            continue;
        };
        if told.contains(id) {
            continue;
        }
        if let Some(text) = difference(old, new) {
            untold.push((id.clone(), format!("{id}: {text}")));
        }
    }
    let gone = before.instances.keys();
    let gone = gone.filter(|id| !after.instances.contains_key(*id) && !told.contains(*id));
    untold.extend(gone.map(|id| (id.clone(), format!("nothing of {id} is left"))));
    untold
}

fn difference(old: &Instance, new: &Instance) -> Option<String> {
    let mut parts = Vec::new();
    if old.life != new.life {
        parts.push(format!("{} -> {}", old.life, new.life));
    }
    if old.catalogue != new.catalogue {
        parts.push(format!("names {} -> {}", old.catalogue, new.catalogue));
    }
    if old.wanted.role != new.wanted.role {
        parts.push(format!("told to be {}", new.wanted.role));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}
