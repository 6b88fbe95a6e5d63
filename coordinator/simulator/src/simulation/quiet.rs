//! When all is quiet, and what must hold then.

use std::collections::BTreeMap;

use calvin_model::{CatalogueRole, InstanceId, Role, image::ImageTag};
use calvin_planner::{FleetState, InvariantId, Life, Phase};

use crate::{check::Rule, world::World};

/// Whether nothing goes on in a fleet.
pub(super) fn is_quiet(fleet: &FleetState) -> bool {
    let kept = kept_greens(fleet);
    let rests = |id: &InstanceId, life: &Life| match life {
        Life::Up => true,
        Life::Making => kept.contains(id),
        Life::Draining(_) | Life::Retiring(_) => false,
    };
    fleet.running().is_none()
        && fleet.next.is_none()
        && !fleet.deleting
        && fleet
            .instances
            .iter()
            .all(|(id, instance)| rests(id, &instance.life))
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
pub(super) fn check(world: &World) {
    let disk = world.disk.borrow();
    let mut records: Vec<&InstanceId> = disk
        .stored
        .fleets
        .values()
        .flat_map(|fleet| fleet.instances.keys())
        .collect();
    records.sort();
    world.check_identities(&records);
    let machines = world.own_machines();
    let kept: Vec<InstanceId> = disk.stored.fleets.values().flat_map(kept_greens).collect();
    // What is kept to be looked at may well be dead.
    let missing = records
        .iter()
        .any(|id| !machines.contains(id) && !kept.contains(id));
    let leaked = machines.iter().any(|id| !records.contains(id));
    if missing || leaked {
        let text = format!("records {records:?}, machines {machines:?}");
        world.broken(Rule::NothingLeakedOnceQuiet, text);
    }
    for entry in &world.served.entries {
        if records.binary_search(&&entry.instance).is_err() {
            let text = format!("{} has an entry and no record", entry.instance);
            world.broken(Rule::NothingLeakedOnceQuiet, text);
        }
    }
    for fleet in disk.stored.fleets.values() {
        check_fleet(world, fleet);
    }
}

fn check_fleet(world: &World, fleet: &FleetState) {
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
        let names = &world.served.entries;
        let number = world.running(id);
        let address = number.map(|number| world.machines[number.0].address);
        let found = names.iter().any(|entry| {
            let here = Some(entry.address) == address;
            here && entry.instance == *id && entry.role == CatalogueRole::Active
        });
        let role = number.and_then(|number| world.machines[number.0].role());
        let now = world.now();
        // A fleet that has nothing to go back to may have come to serve an image that fails.
        let answers = number.is_some_and(|number| {
            let machine = &world.machines[number.0];
            machine.answers(now) || machine.is_bad(now)
        });
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
