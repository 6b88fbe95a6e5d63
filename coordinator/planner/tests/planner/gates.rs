//! What a rollout waits for before it goes on, and what makes it go back.

use std::time::Duration;

use calvin_model::{CatalogueRole, Health, InstanceId, Role, image::Work, report::Connections};
use calvin_planner::{Action, InvariantId, Phase};

use crate::world::{Behaviour, World};

pub(crate) fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

pub(crate) fn greens(world: &World) -> Vec<InstanceId> {
    let rollout = world.web().rollout.as_ref().unwrap();
    rollout.sets.green.clone()
}

fn blues(world: &World) -> Vec<InstanceId> {
    let rollout = world.web().rollout.as_ref().unwrap();
    rollout.sets.blue.clone()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn held_by(world: &World, rule: InvariantId) -> bool {
    let blocked = &world.report().blocked;
    blocked
        .iter()
        .any(|blocked| blocked.rule == rule.to_string())
}

#[test]
fn green_that_flaps_starts_its_soak_again() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.run_for(seconds(5));
    let green = greens(&world)[0].clone();
    world.agent(&green).forced = Some(Health::Unhealthy);
    world.tick();
    world.agent(&green).forced = None;
    world.run_for(seconds(9));
    assert_eq!(world.phase(), Some(Phase::Soaking), "{}", world.story());
    world.run_until(5, |world| world.phase() == Some(Phase::Settling));
}

#[test]
fn silence_stops_the_soak_and_does_not_end_it() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let green = greens(&world)[0].clone();
    world.cut_path(&green);
    world.run_for(seconds(60));
    assert_eq!(world.phase(), Some(Phase::Soaking));
    let waiting = &world.report().waiting;
    assert!(waiting[0].what.contains("nothing fresh"), "{waiting:?}");
    assert!(waiting[0].until.is_some());
    world.machines.get_mut(&green).unwrap().path_cut_at = None;
    world.run_for(seconds(3));
    // Its own clock went on: it was healthy all the time.
    assert_eq!(world.phase(), Some(Phase::Settling), "{}", world.story());
}

#[test]
fn traffic_is_switched_only_when_every_live_agent_serves_the_names() {
    let mut world = served("count = 2");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.unconfirmed = vec![blue[0].clone()];
    world.run_to(Phase::Switching);
    world.run_for(seconds(30));
    assert_eq!(world.active("2.0").len(), 0);
    let waiting = &world.report().waiting[0].what;
    assert!(waiting.contains("has not confirmed"), "{waiting}");
    world.unconfirmed.clear();
    world.run_to(Phase::Settling);
    assert_eq!(world.active("2.0").len(), 2);
}

#[test]
fn a_switch_is_read_back_from_agents_that_are_likely_to_come_back_too() {
    let mut world = served("count = 2");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Switching);
    // As after a start of the coordinator: its machine goes on resolving the names of before.
    let cut_at = world.ms;
    world.machines.get_mut(&blue[0]).unwrap().path_cut_at = Some(cut_at);
    world.run_for(seconds(14));
    assert_eq!(world.active("2.0").len(), 0, "{}", world.story());
    let waiting = &world.report().waiting[0].what;
    assert!(
        waiting.contains("has no session") || waiting.contains("have no session"),
        "{waiting}"
    );
    // One that does not come back keeps nobody.
    world.run_for(seconds(10));
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
}

#[test]
fn a_switch_that_is_never_read_back_goes_back_at_its_deadline() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Switching);
    world.unconfirmed = vec![blues(&world)[0].clone()];
    world.run_to(Phase::RollingBack);
    let deaf = &world.unconfirmed[0];
    let why = format!("no progress within progress_deadline 10m: {deaf} has not confirmed");
    assert!(world.tells(&why), "{}", world.story());
    // One agent that never confirms keeps nobody for ever, and is named meanwhile.
    world.tick();
    let waiting = &world.report().waiting;
    let named = |one: &calvin_planner::Waiting| {
        one.what.contains("has not confirmed") && one.until.is_some()
    };
    assert!(waiting.iter().any(named), "{waiting:?}");
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
}

#[test]
fn greens_enter_before_they_are_active_and_both_roles_change_as_one() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    let mut seen = Vec::new();
    while world.phase() != Some(Phase::Settling) {
        world.tick();
        for action in &world.actions {
            if let Action::SetRoles { roles, .. } = action {
                let green = greens(&world).first().and_then(|id| roles.get(id)).copied();
                let blue = blues(&world).first().and_then(|id| roles.get(id)).copied();
                seen.push((green, blue));
            }
        }
    }
    let (standby, entered, active) = (
        Some(CatalogueRole::Standby),
        Some(CatalogueRole::Entered),
        Some(CatalogueRole::Active),
    );
    seen.dedup();
    assert_eq!(
        seen,
        [(standby, active), (entered, active), (active, standby)]
    );
}

#[test]
fn a_workload_that_pulls_its_work_begins_before_it_enters() {
    let mut world = World::new();
    world.work = Work::OnActive;
    world.apply("count = 2", "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.run_to(Phase::Switching);
    for id in greens(&world) {
        let green = &world.web().instances[&id];
        assert_eq!(green.wanted.role, Role::Active);
        assert_eq!(green.catalogue, CatalogueRole::Standby);
    }
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
}

#[test]
fn a_workload_that_fails_at_its_work_never_enters_and_goes_at_its_deadline() {
    let mut world = World::new();
    world.work = Work::OnActive;
    world.apply("count = 2\n[replace]\nhealthy_deadline = \"30s\"", "1.0");
    world.run_to(Phase::Done);
    let broken = Behaviour::FailsWhenActive;
    world.behaviour.insert("2.0".to_owned(), broken);
    world.start("2.0").unwrap();
    world.run_to(Phase::Switching);
    world.run_for(seconds(20));
    assert_eq!(world.phase(), Some(Phase::Switching), "{}", world.story());
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
}

#[test]
fn blue_is_told_to_stand_by_only_when_its_clients_have_gone() {
    let mut world = served("count = 1\n[replace]\nsettle = \"10s\"\nsettle_max = \"60s\"");
    let blue = world.active("1.0")[0].clone();
    let busy = Connections {
        count: 7,
        peers: Vec::new(),
    };
    world.agent(&blue).report.connections = Some(busy);
    world.start("2.0").unwrap();
    world.run_to(Phase::Settling);
    world.run_for(seconds(60));
    assert_eq!(world.phase(), Some(Phase::Settling), "{}", world.story());
    assert_eq!(world.web().instances[&blue].wanted.role, Role::Active);
    assert!(world.report().waiting[0].what.contains("7 connections"));
    world.run_for(seconds(15));
    assert_eq!(world.phase(), Some(Phase::Baking), "settle_max is up");
    assert_eq!(world.web().instances[&blue].wanted.role, Role::Standby);
}

#[test]
fn settling_that_is_to_hold_waits_for_a_person_and_says_so() {
    let mut world =
        served("count = 1\n[replace]\nsettle_max = \"10s\"\non_settle_timeout = \"hold\"");
    let blue = world.active("1.0")[0].clone();
    let busy = Connections {
        count: 7,
        peers: Vec::new(),
    };
    world.agent(&blue).report.connections = Some(busy);
    world.start("2.0").unwrap();
    world.run_to(Phase::Settling);
    world.run_for(seconds(300));
    assert_eq!(world.phase(), Some(Phase::Settling));
    assert!(
        held_by(&world, InvariantId::PolicyHolds),
        "{}",
        world.story()
    );
    world.agent(&blue).report.connections = None;
    world.run_to(Phase::Baking);
}

#[test]
fn a_blue_that_is_lost_before_the_switch_is_repaired_with_the_old_image() {
    let mut world = served("count = 2\n[replace]\nhealthy_deadline = \"100s\"");
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world.start("2.0").unwrap();
    world.run_for(seconds(3));
    let blue = blues(&world)[0].clone();
    world.kill_machine(&blue);
    world.run_for(seconds(60));
    assert_eq!(world.phase(), Some(Phase::Provisioning));
    assert_eq!(world.active("1.0").len(), 2, "{}", world.story());
    world.run_to(Phase::RolledBack);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn a_green_whose_agent_is_not_let_in_says_why_it_was_given_up() {
    let mut world = World::new();
    world.alarm = Some("its join token has expired".to_owned());
    world.boot_delay_ms = 1_000_000;
    world.apply("count = 1", "1.0");
    world.run_to(Phase::Failed);
    assert!(
        world.tells("its join token has expired"),
        "{}",
        world.story()
    );
}

#[test]
fn a_switch_that_was_not_read_back_before_a_restart_waits_until_green_is_heard() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Switching);
    world.run_until(20, |world| {
        let state = world.web();
        let green = &world.web().rollout.as_ref().unwrap().sets.green[0];
        state.instances[green].catalogue == CatalogueRole::Active
    });
    let names_wait = |world: &World| world.plan.fleets[&crate::world::web()].names_wait;
    assert!(!names_wait(&world));
    // Another run: nothing was read from the catalogue, and no agent has come back yet.
    for id in greens(&world) {
        world.cut_path(&id);
    }
    world.catalogue_unread = true;
    world.ms += 1;
    world.started_at = world.ms;
    world.pass();
    assert!(names_wait(&world), "{}", world.story());
    for id in greens(&world) {
        world.machines.get_mut(&id).unwrap().path_cut_at = None;
    }
    world.tick();
    assert!(!names_wait(&world), "{}", world.story());
    world.catalogue_unread = false;
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
}
