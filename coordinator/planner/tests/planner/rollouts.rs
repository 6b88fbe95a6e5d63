//! Rollouts from their start to their end, one rule each.

use std::time::Duration;

use calvin_model::Role;
use calvin_planner::{Command, Phase};

use crate::world::{Behaviour, World, web};

fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

#[test]
fn a_new_fleet_is_made_proven_and_switched_to() {
    let mut world = served("count = 3");
    assert_eq!(world.active("1.0").len(), 3, "{}", world.story());
    assert_eq!(world.report().serving, 3);
    assert!(world.is_quiet(), "{}", world.story());
    assert_eq!(world.web().serving, Some(world.build("1.0")));
    assert_eq!(world.machines.len(), 3);
}

#[test]
fn a_new_image_replaces_the_whole_set_and_the_old_one_leaves() {
    let mut world = served("count = 3");
    world.start("2.0").unwrap();
    for phase in [
        Phase::Provisioning,
        Phase::Soaking,
        Phase::Switching,
        Phase::Settling,
        Phase::Baking,
        Phase::Draining,
        Phase::Retiring,
        Phase::Done,
    ] {
        world.run_to(phase);
        let active = world.active("1.0").len() + world.active("2.0").len();
        assert!(active >= 3, "{phase}: {}", world.story());
    }
    assert_eq!(world.active("2.0").len(), 3);
    assert_eq!((world.peak, world.machines.len()), (6, 3));
    assert_eq!(world.web().previous, Some(world.build("1.0")));
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn a_fleet_is_scaled_up_and_down_and_deleted() {
    let mut world = served("count = 2");
    let scale = |count| Command::Scale {
        fleet: web(),
        count,
    };
    world.order(&scale(4)).unwrap();
    world.run_until(100, |world| world.active("1.0").len() == 4);
    assert!(world.is_quiet());
    world.order(&scale(1)).unwrap();
    world.run_until(100, |world| world.web().instances.len() == 1);
    assert_eq!(world.active("1.0").len(), 1);
    assert!(world.is_quiet());
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    world.run_until(200, |world| world.fleets.is_empty());
    assert!(world.machines.is_empty());
}

#[test]
fn an_image_that_is_never_healthy_is_given_up_and_blue_never_stops_serving() {
    let mut world = served("count = 3\n[replace]\nhealthy_deadline = \"30s\"");
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world.start("2.0").unwrap();
    for _ in 0..100 {
        world.tick();
        assert_eq!(world.active("1.0").len(), 3);
    }
    assert_eq!(world.phase(), Some(Phase::RolledBack));
    assert_eq!(world.machines.len(), 3);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn an_image_that_fails_under_traffic_is_switched_back_at_once() {
    let mut world = served("count = 3");
    let broken = ("2.0".to_owned(), Behaviour::FailsWhenActive);
    world.behaviour.extend([broken]);
    world.start("2.0").unwrap();
    world.run_to(Phase::RollingBack);
    world.run_until(2, |world| world.active("1.0").len() == 3);
    world.run_to(Phase::RolledBack);
    for (_, instance) in world.staying() {
        assert_eq!(instance.wanted.role, Role::Active);
    }
    assert_eq!(world.machines.len(), 3);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn blue_stays_until_green_has_baked() {
    let mut world = served("count = 2\n[replace]\nbake = \"60s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.run_for(Duration::from_secs(55));
    assert_eq!(world.machines.len(), 4);
    world.run_to(Phase::Done);
    assert_eq!(world.machines.len(), 2);
}
