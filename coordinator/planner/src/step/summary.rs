//! Sums up: who serves, how each instance is judged, and what begins or ends to be held back.

use std::collections::{BTreeMap, BTreeSet};

use calvin_model::{CatalogueRole, InstanceId};

use super::{rollout::why_not_healthy, waits};
use crate::{
    invariant::InvariantId,
    pass::Pass,
    plan::EventKind,
    report::{FleetReport, InstanceClass, InstanceReport},
};

pub(crate) fn step(pass: &mut Pass<'_>) -> FleetReport {
    note_holds(pass);
    let mut serving = 0;
    let idle = pass.state().not_to_serve();
    let instances = pass.state().instances.iter().map(|(id, instance)| {
        let judgement = pass.judged(id);
        if instance.catalogue == CatalogueRole::Active && judgement.serves() && pass.visible(id) {
            serving += 1;
        }
        let (class, text) = if instance.leaving() {
            (InstanceClass::Leaving, instance.life.to_string())
        } else if judgement.healthy() {
            (InstanceClass::Healthy, "healthy, says its agent".to_owned())
        } else {
            (judgement.class, why_not_healthy(pass, id))
        };
        let seen = pass.seen(id);
        let report = InstanceReport {
            class,
            text,
            since: waits::since(pass, instance, seen, class),
            waits: waits::waits(pass, id, class, &idle),
            rests_on: waits::rests_on(seen, class),
        };
        (id.clone(), report)
    });
    let instances: BTreeMap<InstanceId, InstanceReport> = instances.collect();
    let state = pass.state();
    FleetReport {
        phase: state.running().map(|rollout| rollout.phase),
        serving,
        wanted: state.spec.count,
        instances,
        waiting: std::mem::take(&mut pass.waiting),
        blocked: std::mem::take(&mut pass.blocked)
            .into_iter()
            .map(|(_, blocked)| blocked)
            .collect(),
    }
}

/// Writes into the history when a rule begins and stops to hold something back.
fn note_holds(pass: &mut Pass<'_>) {
    let now: BTreeSet<InvariantId> = pass.blocked.iter().map(|(rule, _)| *rule).collect();
    let before = &pass.state().holding;
    if now == *before {
        return;
    }
    let ended: Vec<InvariantId> = before.difference(&now).copied().collect();
    let begun: Vec<String> = pass
        .blocked
        .iter()
        .filter(|(rule, _)| !before.contains(rule))
        .map(|(rule, blocked)| format!("held by {rule}: {}: {}", blocked.what, blocked.fact))
        .collect();
    for text in begun {
        pass.event(None, EventKind::Hold, text);
    }
    for rule in ended {
        pass.event(None, EventKind::Hold, format!("no longer held by {rule}"));
    }
    pass.change().holding = now;
}
