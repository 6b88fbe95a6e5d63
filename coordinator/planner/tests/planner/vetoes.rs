//! Images whose instances fail one after the other are vetoed, and only for what is their own fault.

use calvin_model::image::ImageTag;
use calvin_planner::{PLANNER, Phase};

use crate::world::{Behaviour, Room, World, served};

const SHORT: &str = "[replace]\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n";

fn image(version: &str) -> ImageTag {
    format!("web@{version}").parse().unwrap()
}

fn vetoed(world: &World, version: &str) -> bool {
    let order = world.environment.vetoes.get(&image(version));
    order.is_some_and(|order| order.by == PLANNER && !order.reason.is_empty())
}

fn fails(world: &mut World, version: &str) {
    world.start(version).unwrap();
    world.run_until(900, |world| world.phase() == Some(Phase::RolledBack));
}

#[test]
fn an_image_that_never_becomes_healthy_is_vetoed_and_the_old_one_serves() {
    let mut world = served(&format!("count = 3\n{SHORT}"));
    world.behaviour.insert("3.0".to_owned(), Behaviour::Broken);
    fails(&mut world, "3.0");
    assert!(vetoed(&world, "3.0"), "{}", world.story());
    assert!(!vetoed(&world, "1.0"));
    assert!(world.tells("web@3.0 is vetoed: 3 instances of it failed in a row"));
    assert_eq!(world.active("1.0").len(), 3);
    assert!(world.start("3.0").is_err());
}

#[test]
fn an_image_that_fails_under_traffic_is_vetoed_too() {
    let mut world = served(&format!("count = 3\n{SHORT}"));
    let behaviour = Behaviour::FailsWhenActive;
    world.behaviour.insert("4.0".to_owned(), behaviour);
    fails(&mut world, "4.0");
    assert!(vetoed(&world, "4.0"), "{}", world.story());
}

#[test]
fn fewer_failures_are_remembered_until_a_rollout_of_the_image_succeeds() {
    let mut world = served(&format!("count = 2\n{SHORT}"));
    world.behaviour.insert("3.0".to_owned(), Behaviour::Broken);
    fails(&mut world, "3.0");
    assert!(!vetoed(&world, "3.0"), "{}", world.story());
    assert_eq!(world.web().repairs.image_failures[&image("3.0")], 2);
    world.behaviour.clear();
    world.start("3.0").unwrap();
    world.run_to(Phase::Done);
    assert!(world.web().repairs.image_failures.is_empty());
}

#[test]
fn the_second_rollout_counts_on_from_the_first() {
    let mut world = served(&format!("count = 2\n{SHORT}"));
    world.behaviour.insert("3.0".to_owned(), Behaviour::Broken);
    fails(&mut world, "3.0");
    fails(&mut world, "3.0");
    assert!(vetoed(&world, "3.0"), "{}", world.story());
}

#[test]
fn a_provider_that_refuses_blames_no_image_unless_it_is_about_the_image() {
    let mut world = served(&format!("count = 3\n{SHORT}"));
    world.room = Room::Refuses(3);
    fails(&mut world, "2.0");
    assert!(world.environment.vetoes.is_empty(), "{}", world.story());
    assert!(world.web().repairs.image_failures.is_empty());
    world.room = Room::Enough;
    let behaviour = Behaviour::CannotBeMade;
    world.behaviour.insert("5.0".to_owned(), behaviour);
    fails(&mut world, "5.0");
    assert!(vetoed(&world, "5.0"), "{}", world.story());
}

#[test]
fn what_fails_together_with_the_old_image_is_not_the_new_ones_fault() {
    let mut world = served(&format!("count = 3\n{SHORT}"));
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    for machine in world.machines.values_mut() {
        machine.agent.forced = Some(calvin_model::Health::Unhealthy);
        machine.workload_answers = false;
    }
    world.run_until(900, |world| {
        matches!(world.phase(), Some(Phase::RolledBack | Phase::RollingBack))
    });
    assert!(world.environment.vetoes.is_empty(), "{}", world.story());
    assert!(world.web().repairs.image_failures.is_empty());
}
