//! Each rule sees a plan that breaks it: a check that nothing can fail would check nothing.

use std::time::Duration;

use calvin_model::{CatalogueRole, DrainReason, Generation, Health, InstanceId, Role};
use calvin_planner::{
    Action, Command, DeleteBasis, Event, EventKind, FleetPlan, FleetState, InvariantId, Life, Next,
    Phase, Plan, PlanInput, Purpose, check,
};

use crate::world::{Behaviour, World, web};

fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

fn first(state: &FleetState) -> InstanceId {
    state.instances.keys().next().unwrap().clone()
}

/// The rules that a plan breaks which changes the state and orders what the test says.
pub(crate) fn broken_by(
    world: &World,
    change: impl FnOnce(&mut FleetState, &mut FleetPlan),
) -> Vec<InvariantId> {
    let observed = world.observed();
    let input = PlanInput {
        now: world.now(),
        seed: 1,
        wall_ms: world.ms,
        environment: &world.environment,
        rules: &world.rules,
        fleets: &world.fleets,
        observed: &observed,
    };
    let mut after = world.web().clone();
    // The history tells of it, whatever it is.
    let mut fleet = FleetPlan {
        events: vec![told()],
        ..FleetPlan::default()
    };
    change(&mut after, &mut fleet);
    if after != *world.web() {
        fleet.next = Next::Change(Box::new(after));
    }
    let mut plan = Plan::default();
    plan.fleets.insert(web(), fleet);
    let violations = check(&input, &plan);
    for violation in &violations {
        let text = violation.to_string();
        assert!(text.starts_with(&violation.invariant.to_string()), "{text}");
    }
    violations.iter().map(|found| found.invariant).collect()
}

pub(crate) fn told() -> Event {
    Event {
        fleet: Some(web()),
        instance: None,
        kind: EventKind::Phase,
        text: "something changes".to_owned(),
    }
}

pub(crate) fn edit(state: &mut FleetState, change: impl FnOnce(&mut calvin_planner::Instance)) {
    let id = first(state);
    change(state.instances.get_mut(&id).unwrap());
}

#[test]
fn taking_all_that_serves_away_breaks_serving_capacity() {
    let world = served("count = 2");
    let found = broken_by(&world, |state, _| {
        for instance in state.instances.values_mut() {
            instance.catalogue = CatalogueRole::Standby;
        }
    });
    assert_eq!(found, [InvariantId::ServingCapacityNeverBelowMinimum]);
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.catalogue = CatalogueRole::Standby);
    });
    assert_eq!(found, [InvariantId::ServingCapacityNeverBelowMinimum]);
}

#[test]
fn deleting_without_a_committed_basis_breaks_deletion() {
    let world = served("count = 2");
    let found = broken_by(&world, |state, plan| {
        plan.actions.push(Action::DeleteMachine {
            instance: first(state),
            provider: "process".to_owned(),
            basis: DeleteBasis::Lost,
        });
    });
    assert_eq!(found, [InvariantId::NoDeleteWithoutTwoSourcesOrOrder]);
    for basis in [
        DeleteBasis::Lost,
        DeleteBasis::Replaced,
        DeleteBasis::RolledBack,
        DeleteBasis::ScaledDown,
        DeleteBasis::FleetDeleted,
        DeleteBasis::Ordered,
        DeleteBasis::Unmanaged,
        DeleteBasis::NeverHealthy,
    ] {
        let found = broken_by(&world, |state, _| {
            edit(state, |one| one.life = Life::Retiring(basis.clone()));
        });
        let rule = InvariantId::NoDeleteWithoutTwoSourcesOrOrder;
        assert!(found.contains(&rule), "{basis}: {found:?}");
    }
}

#[test]
fn an_older_or_reused_generation_breaks_its_rule() {
    let world = served("count = 1");
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.wanted.generation = Generation(0));
    });
    assert_eq!(found, [InvariantId::GenerationNeverGoesBack]);
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.wanted.role = Role::Standby);
    });
    assert_eq!(found, [InvariantId::GenerationNeverGoesBack]);
}

#[test]
fn a_machine_without_an_intent_and_one_too_many_break_their_rule() {
    let world = served("count = 1");
    let found = broken_by(&world, |state, plan| {
        let instance = first(state);
        let build = state.instances[&instance].build.clone();
        plan.actions.push(Action::CreateMachine {
            zone: None,
            instance,
            fleet: web(),
            build,
            provider: "process".to_owned(),
        });
    });
    let rule = InvariantId::OneMachinePerIntent;
    assert_eq!(found, [rule, rule], "no intent, and there already");
    let found = broken_by(&world, |state, _| {
        let mut more = state.instances[&first(state)].clone();
        more.purpose = Purpose::Scale;
        let id = InstanceId::new(&web(), 1);
        state.instances.insert(id, more);
    });
    assert_eq!(found, [rule]);
}

#[test]
fn a_rollout_that_stands_still_without_a_word_breaks_its_rule() {
    let mut world = served("count = 1");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let found = broken_by(&world, |_, _| {});
    assert_eq!(found, [InvariantId::RolloutEndsOrSaysWhatItWaitsFor]);
}

#[test]
fn a_rollback_that_ends_before_blue_serves_breaks_its_rule() {
    let mut world = served("count = 1");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let fleet = web();
    let reason = "why not".to_owned();
    world.order(&Command::Rollback { fleet, reason }).unwrap();
    let found = broken_by(&world, |state, _| {
        state.rollout.as_mut().unwrap().phase = Phase::RolledBack;
    });
    let rule = InvariantId::RollbackRestoresBlue;
    assert_eq!(found, [rule, rule], "blue is not active, green is there");
}

#[test]
fn hiding_or_replacing_what_is_not_known_to_fail_breaks_its_rule() {
    let world = served("count = 3");
    let found = broken_by(&world, |state, plan| plan.hidden.push(first(state)));
    assert_eq!(found, [InvariantId::UnknownNeverKills]);
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.replace = Some(DeleteBasis::Unmanaged));
    });
    assert_eq!(found, [InvariantId::UnknownNeverKills]);
}

#[test]
fn an_entry_for_what_is_not_healthy_breaks_its_rule() {
    let mut world = served("count = 1");
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(10));
    let green = world.web().rollout.as_ref().unwrap().sets.green[0].clone();
    let found = broken_by(&world, |state, _| {
        let green = state.instances.get_mut(&green).unwrap();
        green.catalogue = CatalogueRole::Entered;
    });
    assert_eq!(found, [InvariantId::UnprovenNeverServes]);
}

#[test]
fn letting_blue_go_before_green_has_baked_breaks_its_rule() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Settling);
    let blue = world.web().rollout.as_ref().unwrap().sets.blue[0].clone();
    let found = broken_by(&world, |state, _| {
        let blue = state.instances.get_mut(&blue).unwrap();
        blue.life = Life::Draining(DrainReason::Replaced);
    });
    assert_eq!(found, [InvariantId::BlueStaysUntilGreenIsProven]);
}

#[test]
fn replacing_one_of_many_unmanaged_breaks_its_rule() {
    let mut world = served("count = 3");
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    for id in &ids {
        world.kill_agent(id);
    }
    world.run_for(Duration::from_secs(10));
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.replace = Some(DeleteBasis::Unmanaged));
    });
    assert_eq!(found, [InvariantId::UnmanagedOneAtATime]);
}

#[test]
fn hiding_most_of_a_fleet_breaks_its_rule_and_half_of_it_does_not() {
    let mut world = served("count = 4");
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    for id in &ids[..3] {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.run_for(Duration::from_secs(2));
    let found = broken_by(&world, |_, plan| plan.hidden = ids[..3].to_vec());
    assert_eq!(found, [InvariantId::HealthNeverHidesMost]);
    let found = broken_by(&world, |_, plan| plan.hidden = ids[..2].to_vec());
    assert_eq!(found, []);
    // And the planner itself keeps all of them, and says so.
    assert!(world.hidden.is_empty());
    let blocked = &world.report().blocked;
    assert_eq!(blocked[0].rule, "HealthNeverHidesMost");
    world.agent(&ids[0]).forced = None;
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.hidden.len(), 2);
}

#[test]
fn replacing_what_is_not_silent_breaks_its_rule() {
    let world = served("count = 2");
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.replace = Some(DeleteBasis::Lost));
    });
    assert_eq!(found, [InvariantId::SilenceAloneNeedsWitnesses]);
}

#[test]
fn removing_what_only_a_short_list_lacks_breaks_its_rule() {
    let mut world = served("count = 3");
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    for id in &ids {
        world.kill_machine(id);
    }
    world.run_for(Duration::from_secs(10));
    let found = broken_by(&world, |state, _| {
        edit(state, |one| one.life = Life::Retiring(DeleteBasis::Lost));
    });
    assert_eq!(found, [InvariantId::ShortListNeedsWitnesses]);
}

#[test]
fn removing_what_a_person_is_to_decide_on_breaks_its_rule() {
    let mut world = served("count = 2\n[drain]\ntimeout = \"5s\"\non_timeout = \"hold\"");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.agent(&blue[0]).drain_takes = None;
    world.run_to(Phase::Draining);
    world.run_for(Duration::from_secs(20));
    let found = broken_by(&world, |state, _| {
        let blue = state.instances.get_mut(&blue[0]).unwrap();
        blue.life = Life::Retiring(DeleteBasis::Replaced);
    });
    assert_eq!(found, [InvariantId::PolicyHolds]);
}
