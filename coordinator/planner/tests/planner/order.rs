//! Fleets that come after others, and whose turn it is when there is too little for all.

use std::time::Duration;

use calvin_planner::{Command, Phase};

use crate::world::World;

const SHORT: &str = "min_healthy = \"3s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                     settle = \"2s\"\nsettle_max = \"8s\"\nbake = \"5s\"\n";

fn text(count: u32, top: &str) -> String {
    format!("count = {count}\n{top}\n[replace]\n{SHORT}")
}

fn apply(world: &mut World, name: &str, count: u32, top: &str) {
    world.apply_as(name, &text(count, top), "1.0").unwrap();
}

fn scale(world: &mut World, name: &str, count: u32) {
    let fleet = name.parse().unwrap();
    world.order(&Command::Scale { fleet, count }).unwrap();
}

#[test]
fn a_fleet_is_made_when_what_it_comes_after_serves() {
    let mut world = World::new();
    apply(&mut world, "db", 1, "");
    apply(&mut world, "app", 2, "after = [\"db\"]");
    world.tick();
    assert!(world.fleet("app").instances.is_empty());
    assert!(
        world.says("app", "app-1 begins after fleet db to serve"),
        "{}",
        world.story()
    );
    world.run_until(100, |world| world.rests("db"));
    world.run_until(100, |world| world.rests("app"));
}

#[test]
fn nothing_new_starts_while_what_it_comes_after_is_replaced_and_repairs_go_on() {
    let mut world = World::new();
    apply(&mut world, "db", 1, "");
    apply(&mut world, "app", 2, "after = [\"db\"]");
    world.run_until(200, |world| world.rests("app"));
    // A replacement that never ends.
    world.boot_delay_ms = 15_000;
    world.start_of("db", "2.0").unwrap();
    world.tick();
    let lines = world.start_of("app", "2.0").unwrap();
    assert!(!lines.is_empty());
    world.tick();
    assert_eq!(world.fleet("app").instances.len(), 2);
    let lost = world.fleet("app").instances.keys().next().unwrap().clone();
    world.kill_machine(&lost);
    world.run_for(Duration::from_secs(10));
    // Made again, with the old image; nothing of the new one.
    let app = world.fleet("app");
    assert!(
        app.instances
            .values()
            .all(|one| one.build == world.build("1.0"))
    );
    assert!(
        app.instances
            .values()
            .any(|one| !one.leaving() && !one.proven),
        "{}",
        world.story()
    );
    world.run_until(200, |world| world.rests("db"));
    world.run_until(300, |world| {
        world.rests("app") && world.fleet("app").serving == Some(world.build("2.0"))
    });
}

#[test]
fn a_fleet_grows_only_while_what_it_comes_after_serves_enough() {
    let mut world = World::new();
    apply(&mut world, "db", 2, "");
    apply(&mut world, "app", 1, "after = [\"db\"]");
    world.run_until(200, |world| world.rests("app"));
    let sick = world.fleet("db").instances.keys().next().unwrap().clone();
    world.agent(&sick).forced = Some(calvin_model::Health::Unhealthy);
    world.tick();
    scale(&mut world, "app", 2);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.fleet("app").instances.len(), 1);
    assert!(world.says(
        "app",
        "after fleet db to serve what it should: 1 serve, and 2 must"
    ));
    world.agent(&sick).forced = None;
    world.run_until(100, |world| world.rests("app"));
}

#[test]
fn fleets_that_would_wait_for_each_other_are_refused_and_named() {
    let mut world = World::new();
    apply(&mut world, "a", 1, "");
    apply(&mut world, "b", 1, "after = [\"a\"]");
    apply(&mut world, "c", 1, "after = [\"b\"]");
    let error = world.apply_as("a", &text(1, "after = [\"c\"]"), "1.0");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a after c after b after a"), "{error}");
    let error = world.apply_as("d", &text(1, "after = [\"nobody\"]"), "1.0");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("after: there is no fleet nobody; there are a, b, c"),
        "{error}"
    );
}

#[test]
fn deleting_what_others_come_after_says_who_is_left_waiting() {
    let mut world = World::new();
    apply(&mut world, "db", 1, "");
    apply(&mut world, "app", 1, "after = [\"db\"]");
    let fleet = "db".parse().unwrap();
    let lines = world.order(&Command::DeleteFleet { fleet }).unwrap();
    assert!(lines[1].contains("app comes after db"), "{lines:?}");
}

#[test]
fn what_serves_too_little_goes_before_what_is_only_replaced() {
    let mut world = World::new();
    for name in ["a", "b"] {
        apply(&mut world, name, 4, "");
    }
    world.run_until(200, |world| world.rests("a") && world.rests("b"));
    world.rules.budget.in_flight = Some(1);
    world.start_of("a", "2.0").unwrap();
    world.run_for(Duration::from_secs(2));
    let lost: Vec<_> = world.fleet("b").instances.keys().take(2).cloned().collect();
    for id in &lost {
        world.kill_machine(id);
    }
    // From when the loss is known, no green of the other is begun before both are made again.
    world.run_until(60, |world| world.fleet("b").waiting_since.is_some());
    let greens = |world: &World| world.fleet("a").rollout.as_ref().unwrap().sets.green.len();
    let begun = greens(&world);
    world.run_until(60, |world| {
        let b = world.fleet("b");
        b.owed.is_empty() && b.instances.values().filter(|one| !one.leaving()).count() == 4
    });
    assert!(greens(&world) <= begun + 1, "{begun}: {}", world.story());
    world.run_until(600, |world| world.rests("a") && world.rests("b"));
}

#[test]
fn nobody_waits_for_ever_for_the_budget() {
    let mut world = World::new();
    world.rules.budget.in_flight = Some(1);
    for name in ["a", "b", "c", "d"] {
        apply(&mut world, name, 5, "");
    }
    let mut most = 0;
    world.run_until(400, |world| {
        let made: Vec<usize> = ["a", "b", "c", "d"]
            .iter()
            .map(|name| world.fleet(name).instances.len())
            .collect();
        most = most.max(made.iter().max().unwrap() - made.iter().min().unwrap());
        ["a", "b", "c", "d"].iter().all(|name| world.rests(name))
    });
    assert_eq!(most, 1, "each had its turn");
    assert_eq!(
        world.fleet("a").rollout.as_ref().unwrap().phase,
        Phase::Done
    );
}
