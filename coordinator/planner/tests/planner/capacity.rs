//! Capacity and limits: a wave is reserved whole, or as much of it as fits, over all fleets.

use std::time::Duration;

use calvin_model::Health;
use calvin_planner::{Command, Phase, WaveOrder};

use crate::world::{World, spec};

const SHORT: &str = "min_healthy = \"3s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                     settle = \"2s\"\nsettle_max = \"8s\"\nbake = \"5s\"\n";

fn world(slots: u32) -> World {
    let mut world = World::new();
    world.slots = Some(slots);
    world
}

fn text(count: u32, replace: &str) -> String {
    format!("count = {count}\n[replace]\n{SHORT}{replace}")
}

#[test]
fn the_largest_surge_that_fits_is_used_and_named() {
    let mut world = world(7);
    world.apply(&text(5, ""), "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.tick();
    let sets = &world.web().rollout.as_ref().unwrap().sets;
    assert_eq!((sets.size(), sets.blue.len()), (2, 2));
    let named = "surge 2 of 5 fits: provider process has 2 free";
    assert!(world.tells(named), "{}", world.story());
    world.tick();
    assert!(world.says("web", named), "{}", world.story());
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 5);
}

#[test]
fn without_room_on_top_what_may_be_missing_makes_room() {
    let mut world = world(5);
    world.apply(&text(5, "surge = 2\nunavailable = 1"), "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.tick();
    let sets = &world.web().rollout.as_ref().unwrap().sets;
    assert_eq!(sets.order, WaveOrder::RoomFirst);
    assert!(
        world.says("web", "none of surge 2 fits, so 1 make room first"),
        "{}",
        world.story()
    );
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 5);
    assert!(world.peak <= 5);
}

#[test]
fn without_any_room_nothing_is_created_and_it_says_what_it_waits_for() {
    let mut world = world(5);
    world.apply(&text(5, "surge = 2"), "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.run_for(std::time::Duration::from_secs(100));
    assert_eq!(
        world.phase(),
        Some(Phase::Provisioning),
        "{}",
        world.story()
    );
    assert_eq!(world.web().instances.len(), 5);
    assert!(
        world.says("web", "provider process has 0 free"),
        "{}",
        world.story()
    );
    world.slots = Some(6);
    world.run_to(Phase::Done);
}

#[test]
fn two_fleets_never_block_each_other_with_half_made_sets() {
    let mut world = world(9);
    world.apply_as("a", &text(4, ""), "1.0").unwrap();
    world.apply_as("b", &text(4, ""), "1.0").unwrap();
    world.run_until(500, |world| world.rests("a") && world.rests("b"));
    world.start_of("a", "2.0").unwrap();
    world.start_of("b", "2.0").unwrap();
    world.tick();
    let begun = |world: &World, name| world.fleet(name).rollout.as_ref().unwrap().sets.begun();
    assert!(
        begun(&world, "a") != begun(&world, "b"),
        "{}",
        world.story()
    );
    let done = |world: &World, name| {
        world.rests(name)
            && world.fleet(name).rollout.as_ref().unwrap().phase == Phase::Done
            && world.fleet(name).serving == Some(world.build("2.0"))
    };
    world.run_until(2_000, |world| done(world, "a") && done(world, "b"));
}

#[test]
fn the_room_that_a_wave_makes_is_its_own() {
    let mut world = world(6);
    world
        .apply_as("a", &text(3, "surge = 0\nunavailable = 1"), "1.0")
        .unwrap();
    world.apply_as("b", &text(3, ""), "1.0").unwrap();
    world.run_until(500, |world| world.rests("a") && world.rests("b"));
    world.start_of("a", "2.0").unwrap();
    world.start_of("b", "2.0").unwrap();
    world.run_until(1_000, |world| {
        world.fleet("a").rollout.as_ref().unwrap().phase == Phase::Done
    });
    // The other one wants one on top, and takes nothing that the first has made.
    assert!(!world.fleet("b").rollout.as_ref().unwrap().sets.begun());
    assert!(world.says("b", "has 0 free"), "{}", world.story());
}

#[test]
fn a_declared_limit_holds_over_all_fleets() {
    let mut world = World::new();
    let limit = "licences".parse().unwrap();
    world.rules.limits.insert(limit, 10);
    let uses = |each: u32| format!("{}\n[uses]\nlicences = {each}", text(2, ""));
    world.apply_as("a", &uses(1), "1.0").unwrap();
    world.apply_as("b", &uses(3), "1.0").unwrap();
    world.run_until(500, |world| world.rests("a") && world.rests("b"));
    // 2 and 6 of 10 are used: both of the first fit on top, none of the second beside them.
    world.start_of("a", "2.0").unwrap();
    world.start_of("b", "2.0").unwrap();
    world.tick();
    assert_eq!(world.fleet("a").instances.len(), 4);
    assert_eq!(world.fleet("b").instances.len(), 2);
    let words = "limit licences has 0 of 10 left, and each instance uses 3";
    assert!(world.says("b", words), "{}", world.story());
    world.run_until(2_000, |world| world.rests("a"));
    // Then 2 are left, and it still waits, for one more.
    assert!(
        world.says("b", "limit licences has 2 of 10 left"),
        "{}",
        world.story()
    );
}

#[test]
fn a_first_rollout_makes_what_fits_and_the_rest_when_it_does() {
    let mut world = world(3);
    world.apply(&text(5, ""), "1.0");
    world.run_to(Phase::Done);
    assert_eq!(world.active("1.0").len(), 3);
    assert!(world.says("web", "has 0 free"), "{}", world.story());
    world.slots = Some(5);
    world.run_until(100, |world| world.rests("web"));
}

#[test]
fn a_failed_green_is_made_again_when_its_machine_is_gone() {
    let mut world = world(4);
    world.apply(&text(3, "surge = 1\nmax_instance_failures = 2"), "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.tick();
    let green = world.web().rollout.as_ref().unwrap().sets.green[0].clone();
    world.agent(&green).forced = Some(calvin_model::Health::Unhealthy);
    world.run_to(Phase::Done);
    assert!(world.tells("not healthy within healthy_deadline"));
    assert_eq!(world.active("2.0").len(), 3);
}

#[test]
fn what_is_lost_without_room_to_make_it_again_is_owed_and_made_later() {
    let mut world = world(3);
    world.apply(&text(3, "surge = 0\nunavailable = 1"), "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.tick();
    let sets = world.web().rollout.as_ref().unwrap().sets.clone();
    let other = world
        .active("1.0")
        .into_iter()
        .find(|id| !sets.blue.contains(id));
    let other = other.unwrap();
    // Its machine is off, and still takes the place of another.
    world.end_machine(&other, calvin_planner::MachineState::Stopped);
    world.run_until(100, |world| !world.web().owed.is_empty());
    world.run_to(Phase::Done);
    assert!(world.web().owed.is_empty(), "{}", world.story());
    world.run_until(200, |world| world.rests("web"));
    assert_eq!(world.active("2.0").len(), 3);
}

#[test]
fn a_limit_that_nobody_declared_is_refused_with_both_keys() {
    let mut world = World::new();
    let error = world.apply_as("a", "count = 1\n[uses]\nlicences = 1", "1.0");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("uses") && error.contains("limits"),
        "{error}"
    );
    world.rules.limits.insert("licences".parse().unwrap(), 2);
    let error = world.apply_as("a", "count = 1\n[uses]\nlicences = 3", "1.0");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("uses") && error.contains("limits"),
        "{error}"
    );
    world
        .apply_as("a", "count = 1\n[uses]\nlicences = 2", "1.0")
        .unwrap();
    assert_eq!(spec("count = 1").uses.len(), 0);
}

#[test]
fn a_wave_that_can_make_no_room_waits_quietly_and_begins_anew_when_there_is_some() {
    let mut world = world(3);
    world.apply(&text(3, "surge = 1\nunavailable = 1"), "1.0");
    world.run_to(Phase::Done);
    let sick = world.active("1.0");
    // Two fail: none that serves may leave, and what fails makes room first.
    for id in &sick[..2] {
        world.agent(id).forced = Some(calvin_model::Health::Unhealthy);
    }
    world.tick();
    world.start("2.0").unwrap();
    world.run_until(100, |world| world.active("2.0").len() == 1);
    for id in world.active("1.0") {
        world.agent(&id).forced = Some(calvin_model::Health::Unhealthy);
    }
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 3, "{}", world.story());
}

#[test]
fn a_wave_that_may_take_nothing_away_does_not_begin_again_and_again() {
    let mut world = world(6);
    world.apply_as("b", &text(3, ""), "1.0").unwrap();
    world
        .apply_as("a", &text(3, "surge = 1\nunavailable = 1"), "1.0")
        .unwrap();
    world.run_until(100, |world| world.rests("a") && world.rests("b"));
    let lost = world.fleet("a").instances.keys().next().unwrap().clone();
    // Off, and still in the way: nothing of the fleet may leave, and nothing fits.
    world.end_machine(&lost, calvin_planner::MachineState::Stopped);
    world.start_of("a", "2.0").unwrap();
    world.run_until(100, |world| {
        let rollout = world.fleet("a").rollout.as_ref().unwrap();
        rollout.phase == Phase::Done
    });
    let begun = world.events.iter();
    let begun = begun.filter(|one| one.text.contains("a-2: wave"));
    assert!(begun.count() <= 4, "{}", world.story());
}

#[test]
fn a_wave_that_nobody_could_approve_waits_for_room_that_is_being_made() {
    let gates = "surge = 1\nunavailable = 1\napprove = [\"retire\"]";
    let mut world = world(6);
    world.apply(&text(5, gates), "1.0");
    world.run_to(Phase::Done);
    world.boot_delay_ms = 2_000;
    let odd = world.active("1.0")[0].clone();
    let replace = calvin_planner::Command::ReplaceInstance {
        instance: odd.clone(),
        reason: "odd".to_owned(),
    };
    world.order(&replace).unwrap();
    world.agent(&odd).drain_takes = None;
    world.run_until(100, |world| world.web().instances[&odd].leaving());
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(3));
    let said = format!("{odd} to be gone: it may make the room for wave 1");
    assert!(world.says("web", &said), "{}", world.story());
    let rule = calvin_planner::InvariantId::ApprovedByEnough.to_string();
    let blocked = &world.report().blocked;
    assert!(!blocked.iter().any(|one| one.rule == rule), "{blocked:?}");
    world.run_until(600, |world| world.phase() == Some(Phase::AwaitingRetire));
}

#[test]
fn what_another_serves_in_the_place_of_makes_room_for_the_rollout_that_waits_for_it() {
    let mut world = world(3);
    world.apply(&text(2, "surge = 1"), "1.0");
    world.run_to(Phase::Done);
    let replace = calvin_planner::Command::ReplaceInstance {
        instance: world.active("1.0")[0].clone(),
        reason: "odd".to_owned(),
    };
    world.order(&replace).unwrap();
    world.run_until(30, |world| world.web().instances.len() == 3);
    world.start("2.0").unwrap();
    world.tick();
    assert!(world.says("web", "provider process has 0 free"));
    world.run_until(300, |world| world.phase() == Some(Phase::Done));
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
}

#[test]
fn what_was_ordered_away_and_fails_makes_room_for_a_rollout_where_more_are_there_than_wanted() {
    let mut world = World::new();
    world.slots = Some(3);
    world.apply("count = 2\n[replace]\nmin_healthy = \"60s\"\n", "1.0");
    world.run_to(Phase::Done);
    let served = world.active("1.0");
    for instance in served.clone() {
        let reason = "it is odd".to_owned();
        let order = Command::ReplaceInstance { instance, reason };
        world.order(&order).unwrap();
    }
    world.run_until(60, |world| {
        let mut instances = world.web().instances.values();
        world.machines_there() == 3 && instances.all(|one| one.proven)
    });
    for machine in world.machines.values_mut() {
        machine.agent.forced = Some(Health::Unhealthy);
    }
    world.run_for(Duration::from_secs(5));
    world.start("2.0").unwrap();
    world.run_until(900, |world| world.phase() == Some(Phase::Done));
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
}
