//! The rules about what all fleets share, each broken once: a check that nothing can fail would
//! check nothing.

use calvin_model::{CatalogueRole, InstanceId};
use calvin_planner::{DeleteBasis, FleetState, InvariantId, Life, Phase};

use crate::{
    rules::broken_by,
    world::{World, web},
};

fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

/// Adds so many intents in the place of others.
fn intend(state: &mut FleetState, number: u64) {
    let (id, one) = state.instances.iter().next().unwrap();
    let (id, mut one) = (id.clone(), one.clone());
    state.instances.get_mut(&id).unwrap().replace = Some(DeleteBasis::Ordered);
    one.life = Life::Making;
    one.catalogue = CatalogueRole::Absent;
    one.proven = false;
    for index in 0..number {
        let new = InstanceId::new(&web(), 1_000 + index);
        state.instances.insert(new, one.clone());
    }
}

#[test]
fn more_in_flight_than_allowed_breaks_the_budget() {
    let mut world = served("count = 4\n[budget]\nin_flight = 1");
    let broken = [InvariantId::BudgetsNeverExceeded];
    let scaled = |state: &mut FleetState, number| {
        state.spec.count = 9;
        intend(state, number);
    };
    assert_eq!(broken_by(&world, |state, _| scaled(state, 2)), broken);
    assert_eq!(broken_by(&world, |state, _| scaled(state, 1)), []);
    world.rules.budget.in_flight = Some(0);
    assert_eq!(broken_by(&world, |state, _| scaled(state, 1)), broken);
}

#[test]
fn more_deletions_than_allowed_break_the_budget_and_an_order_does_not() {
    let mut world = served("count = 4\n[budget]\ndeletions = 1");
    let remove = |state: &mut FleetState, basis: DeleteBasis| {
        for instance in state.instances.values_mut() {
            instance.life = Life::Retiring(basis.clone());
        }
    };
    let broken = InvariantId::BudgetsNeverExceeded;
    let found = broken_by(&world, |state, _| remove(state, DeleteBasis::ScaledDown));
    assert!(found.contains(&broken), "{found:?}");
    let found = broken_by(&world, |state, _| remove(state, DeleteBasis::RolledBack));
    assert!(!found.contains(&broken), "{found:?}");
    world = served("count = 4");
    world.rules.budget.deletions = Some(3);
    let found = broken_by(&world, |state, _| remove(state, DeleteBasis::Replaced));
    assert!(found.contains(&broken), "{found:?}");
}

#[test]
fn what_a_provider_has_no_room_for_is_not_intended() {
    let mut world = served("count = 4");
    world.slots = Some(5);
    let scaled = |state: &mut FleetState, number| {
        state.spec.count = 9;
        intend(state, number);
    };
    assert_eq!(broken_by(&world, |state, _| scaled(state, 1)), []);
    let found = broken_by(&world, |state, _| scaled(state, 2));
    assert_eq!(found, [InvariantId::NothingMadeWithoutRoom]);
}

#[test]
fn what_a_limit_does_not_last_for_is_not_intended() {
    let mut world = World::new();
    world.rules.limits.insert("licences".parse().unwrap(), 5);
    world.apply("count = 2\n[uses]\nlicences = 2", "1.0");
    world.run_to(Phase::Done);
    let found = broken_by(&world, |state, _| {
        state.spec.count = 3;
        intend(state, 1);
    });
    assert_eq!(found, [InvariantId::NothingMadeWithoutRoom]);
}

#[test]
fn a_rollout_that_takes_more_than_may_be_missing_breaks_serving_capacity() {
    let mut world = served("count = 4\n[replace]\nsurge = 0\nunavailable = 1");
    world.start("2.0").unwrap();
    world.tick();
    assert_eq!(world.phase(), Some(Phase::MakingRoom));
    let found = broken_by(&world, |state, _| {
        let mut active = state
            .instances
            .values_mut()
            .filter(|one| one.catalogue == CatalogueRole::Active);
        active.next().unwrap().catalogue = CatalogueRole::Standby;
    });
    assert_eq!(found, [InvariantId::ServingCapacityNeverBelowMinimum]);
}
