//! When all is quiet, and what must hold then.

use std::collections::BTreeMap;

use calvin_model::{CatalogueRole, InstanceId, Role, image::ImageTag};
use calvin_planner::{FleetState, InvariantId, Life, Phase};

use crate::{check::Rule, scenario::fleet_name, world::World};

/// Whether nothing goes on in a fleet.
pub(super) fn is_quiet(fleet: &FleetState) -> bool {
    let up = |life: &Life| match life {
        Life::Up => true,
        Life::Making | Life::Draining(_) | Life::Retiring(_) => false,
    };
    let kept = kept_greens(fleet);
    fleet.running().is_none()
        && fleet.next.is_none()
        && !fleet.deleting
        && fleet
            .instances
            .iter()
            .all(|(id, instance)| up(&instance.life) || kept.contains(id))
        && (fleet.serving.is_none() || active(Some(fleet)).len() == wanted(fleet))
}

fn wanted(fleet: &FleetState) -> usize {
    usize::try_from(fleet.spec.count).unwrap_or(usize::MAX)
}

/// Greens of a failed first rollout, which are kept to be looked at.
fn kept_greens(fleet: &FleetState) -> Vec<InstanceId> {
    fleet
        .rollout
        .as_ref()
        .filter(|rollout| rollout.phase == Phase::Failed)
        .map(|rollout| rollout.sets.green.clone())
        .unwrap_or_default()
}

/// The instances that are to be active.
pub(super) fn active(fleet: Option<&FleetState>) -> BTreeMap<InstanceId, ImageTag> {
    let Some(fleet) = fleet else {
        return BTreeMap::new();
    };
    fleet
        .instances
        .iter()
        .filter(|(_, instance)| {
            instance.catalogue == CatalogueRole::Active && instance.wanted.role == Role::Active
        })
        .map(|(id, instance)| (id.clone(), instance.build.image.tag.clone()))
        .collect()
}

/// Checks what must hold once all is quiet.
pub(super) fn check(world: &mut World) {
    let fleet = world.store.stored.fleets.get(&fleet_name()).cloned();
    let records: Vec<InstanceId> = fleet
        .as_ref()
        .map(|fleet| fleet.instances.keys().cloned().collect())
        .unwrap_or_default();
    world.check_identities(&records);
    let machines: Vec<InstanceId> = world.own_machines();
    if records != machines {
        let text = format!("records {records:?}, machines {machines:?}");
        world.broken(Rule::NothingLeakedOnceQuiet, text);
    }
    let entries = world.catalogue.snapshot.entries.clone();
    for entry in entries {
        if !records.contains(&entry.instance) {
            let text = format!("{} has an entry and no record", entry.instance);
            world.broken(Rule::NothingLeakedOnceQuiet, text);
        }
    }
    if let Some(fleet) = fleet {
        check_fleet(world, &fleet);
    }
}

fn check_fleet(world: &mut World, fleet: &FleetState) {
    let Some(serving) = &fleet.serving else {
        return;
    };
    let active = active(Some(fleet));
    let rolled_back = fleet
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.phase == Phase::RolledBack);
    for (id, image) in &active {
        if *image != serving.image.tag {
            let rule = if rolled_back {
                Rule::Planner(InvariantId::RollbackRestoresBlue)
            } else {
                Rule::EndsAsWanted
            };
            let text = format!("{id} is of {image}, {} serves", serving.image);
            world.broken(rule, text);
        }
        let names = &world.catalogue.snapshot.entries;
        let found = names
            .iter()
            .any(|entry| entry.instance == *id && entry.role == CatalogueRole::Active);
        let number = world.running(id);
        let role = number.and_then(|number| world.machines[number.0].role());
        let now = world.now();
        let answers = number.is_some_and(|number| world.machines[number.0].answers(now));
        if !found || role != Some(Role::Active) || !answers {
            let text = format!("{id}: found {found}, role {role:?}, answers {answers}");
            world.broken(Rule::EndsAsWanted, text);
        }
    }
    if active.len() != wanted(fleet) {
        let text = format!("{} active, {} wanted", active.len(), fleet.spec.count);
        world.broken(Rule::EndsAsWanted, text);
    }
}
