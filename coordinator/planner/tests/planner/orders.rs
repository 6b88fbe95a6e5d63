//! What operators order, and what they are told when it is not taken.

use std::time::Duration;

use calvin_planner::{Command, Phase, Refusal, preview};

use crate::world::{Behaviour, Machine, World, spec, web};

fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

fn reason() -> String {
    "it is late".to_owned()
}

#[test]
fn a_new_image_before_the_switch_lets_green_go_and_starts_again() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let lines = world.start("3.0").unwrap();
    assert!(lines[0].contains("goes back, then web@3.0"), "{lines:?}");
    world.run_to(Phase::Settling);
    assert_eq!(world.active("3.0").len(), 2, "{}", world.story());
    world.run_to(Phase::Done);
    assert!(!world.tells("2 active, 2 to stand by; web@2.0"));
    assert_eq!(world.web().serving, Some(world.build("3.0")));
    assert_eq!(world.web().previous, Some(world.build("1.0")));
}

#[test]
fn a_new_image_after_the_switch_switches_back_first() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.start("3.0").unwrap();
    assert_eq!(world.phase(), Some(Phase::RollingBack));
    world.run_until(3, |world| world.active("1.0").len() == 2);
    world.run_until(300, |world| world.active("3.0").len() == 2);
    world.run_to(Phase::Done);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn the_image_that_is_being_rolled_out_or_serves_is_refused() {
    let mut world = served("count = 2");
    let refusal = world.start("1.0").unwrap_err().to_string();
    assert!(refusal.contains("serves already"), "{refusal}");
    world.start("2.0").unwrap();
    let refusal = world.start("2.0").unwrap_err().to_string();
    assert!(refusal.contains("being rolled out already"), "{refusal}");
}

#[test]
fn the_old_image_wanted_again_is_just_the_way_back() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let lines = world.start("1.0").unwrap();
    assert!(lines[0].contains("goes back to web@1.0"), "{lines:?}");
    world.run_to(Phase::RolledBack);
    assert_eq!(world.web().rollouts, 2);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn abort_is_for_before_the_switch_and_rollback_for_after_it() {
    let mut world = served("count = 2");
    let fleet = web();
    let abort = Command::Abort {
        fleet: fleet.clone(),
        reason: reason(),
    };
    let back = Command::Rollback {
        fleet,
        reason: reason(),
    };
    let refusal = world.order(&abort).unwrap_err().to_string();
    assert!(refusal.contains("no rollout runs"), "{refusal}");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.order(&abort).unwrap();
    world.run_to(Phase::RolledBack);
    world.start("2.0").unwrap();
    world.run_to(Phase::Settling);
    let refusal = world.order(&abort).unwrap_err();
    let Refusal::NotNow { hint, .. } = &refusal else {
        panic!("{refusal}");
    };
    assert!(hint.contains("rollback"), "{hint}");
    world.order(&back).unwrap();
    for again in [&abort, &back] {
        let refusal = world.order(again).unwrap_err().to_string();
        assert!(refusal.contains("it goes back already"), "{refusal}");
    }
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
    world.start("2.0").unwrap();
    world.run_to(Phase::Retiring);
    let refusal = world.order(&back).unwrap_err().to_string();
    assert!(
        refusal.contains("nothing is left to switch back to"),
        "{refusal}"
    );
}

#[test]
fn undo_rolls_the_image_from_before_out_again() {
    let mut world = served("count = 2");
    let undo = Command::Undo { fleet: web() };
    let refusal = world.order(&undo).unwrap_err().to_string();
    assert!(refusal.contains("no other image served"), "{refusal}");
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    world.order(&undo).unwrap();
    world.run_to(Phase::Provisioning);
    world.run_to(Phase::Done);
    assert_eq!(world.active("1.0").len(), 2);
}

#[test]
fn a_count_that_changes_during_a_rollout_takes_effect_after_it() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    let scale = Command::Scale {
        fleet: web(),
        count: 4,
    };
    let lines = world.order(&scale).unwrap();
    assert!(lines[0].contains("after web-2 has ended"), "{lines:?}");
    world.run_to(Phase::Baking);
    assert_eq!(world.peak, 4);
    let waiting = &world.report().waiting;
    let says = waiting.iter().any(|one| one.what.contains("a count of 4"));
    assert!(says, "{waiting:?}");
    world.run_to(Phase::Done);
    world.run_until(100, |world| world.active("2.0").len() == 4);
}

#[test]
fn a_first_rollout_that_fails_is_kept_a_while_and_can_be_tried_again() {
    let text = "count = 2\n[replace]\nhealthy_deadline = \"20s\"\nkeep_failed = \"60s\"";
    let mut world = World::new();
    world.behaviour.insert("1.0".to_owned(), Behaviour::Broken);
    world.apply(text, "1.0");
    world.run_to(Phase::Failed);
    world.run_for(Duration::from_secs(50));
    assert_eq!(world.machines.len(), 2, "kept: {}", world.story());
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.machines.len(), 0, "{}", world.story());
    assert!(world.is_quiet());
    world.behaviour.clear();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    assert_eq!(world.active("1.0").len(), 2);
}

#[test]
fn a_green_that_fails_is_made_again_as_often_as_the_fleet_allows() {
    let text = "count = 2\n[replace]\nhealthy_deadline = \"20s\"\nmax_instance_failures = 1";
    let mut world = served(text);
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(15));
    let rollout = world.web().rollout.clone().unwrap();
    let spared = rollout.sets.green[1].clone();
    world.agent(&spared).forced = Some(calvin_model::Health::Healthy);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.web().rollout.as_ref().unwrap().failures, 1);
    world.behaviour.clear();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
}

#[test]
fn a_machine_that_can_never_be_made_fails_at_once() {
    let mut world = served("count = 2");
    let cannot = Behaviour::CannotBeMade;
    world.behaviour.insert("2.0".to_owned(), cannot);
    world.start("2.0").unwrap();
    world.run_until(10, |world| world.phase() == Some(Phase::RolledBack));
    assert!(world.tells("the image's digest is another"));
}

#[test]
fn a_rollout_in_waves_never_has_more_on_top_than_its_surge() {
    let mut world = served("count = 3\n[replace]\nsurge = 1\nbake = \"5s\"");
    world.peak = 0;
    world.start("2.0").unwrap();
    while world.phase() != Some(Phase::Done) {
        world.tick();
        let active = world.active("1.0").len() + world.active("2.0").len();
        assert!(active >= 3, "{}", world.story());
    }
    assert_eq!(world.peak, 4);
    assert_eq!(world.active("2.0").len(), 3);
}

#[test]
fn a_later_wave_that_fails_takes_the_earlier_ones_back_as_well() {
    let text = "count = 3\n[replace]\nsurge = 1\nbake = \"5s\"\nhealthy_deadline = \"20s\"";
    let mut world = served(text);
    world.start("2.0").unwrap();
    world.run_until(300, |world| {
        let rollout = world.web().rollout.as_ref().unwrap();
        rollout.wave == 1 && !rollout.sets.green.is_empty()
    });
    world.tick();
    let green = world.web().rollout.as_ref().unwrap().sets.green[0].clone();
    world.agent(&green).forced = Some(calvin_model::Health::Unhealthy);
    world.run_until(100, |world| world.web().rollouts == 3);
    assert!(world.tells("web-2: rolling_back -> rolled_back"));
    let rollout = world.web().rollout.clone().unwrap();
    assert_eq!(rollout.started_by, calvin_planner::PLANNER);
    assert!(rollout.reason.unwrap().contains("when web-2 has gone back"));
    world.run_to(Phase::Done);
    assert_eq!(world.active("1.0").len(), 3, "{}", world.story());
    assert_eq!(world.web().serving, Some(world.build("1.0")));
    assert!(world.is_quiet());
}

#[test]
fn a_plan_that_no_longer_holds_is_refused_with_what_changed() {
    let mut world = served("count = 2");
    let build = world.build("2.0");
    let plan = preview(world.web(), &build).id;
    let start = |plan: &str| Command::StartRollout {
        fleet: web(),
        build: build.clone(),
        plan: Some(plan.to_owned()),
        emergency: None,
    };
    let refusal = world.order(&start("nonsense")).unwrap_err().to_string();
    assert!(refusal.contains("it is no plan's id"), "{refusal}");
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    world.run_until(60, |world| {
        world.active("1.0").len() == 2 && world.web().instances.len() == 2
    });
    world.run_for(Duration::from_secs(30));
    let refusal = world.order(&start(&plan)).unwrap_err().to_string();
    assert!(refusal.contains("its instances are others"), "{refusal}");
    let plan = preview(world.web(), &build).id;
    let mut changed = spec("count = 2\n[replace]\nsurge = 1");
    changed.replace.bake = calvin_model::HumanDuration::from_secs(1);
    let build = world.build("1.0");
    let apply = Command::ApplyFleet {
        spec: Box::new(changed),
        build,
    };
    world.order(&apply).unwrap();
    let refusal = world.order(&start(&plan)).unwrap_err().to_string();
    assert!(
        refusal.contains("the fleet's spec was changed"),
        "{refusal}"
    );
    let plan = preview(world.web(), &world.build("2.0")).id;
    world.order(&start(&plan)).unwrap();
    assert_eq!(world.phase(), Some(Phase::Provisioning));
}

#[test]
fn orders_about_what_is_not_there_are_refused_by_name() {
    let mut world = served("count = 1");
    let fleet = "wbe".parse().unwrap();
    let refusal = world.order(&Command::DeleteFleet { fleet }).unwrap_err();
    let Refusal::NoFleet { known, .. } = &refusal else {
        panic!("{refusal}");
    };
    assert_eq!(known, &[web()]);
    let instance = "web-nobody".parse().unwrap();
    let replace = Command::ReplaceInstance {
        instance,
        reason: reason(),
    };
    assert!(matches!(
        world.order(&replace),
        Err(Refusal::NoInstance { .. })
    ));
    let scale = Command::Scale {
        fleet: web(),
        count: 0,
    };
    let refusal = world.order(&scale).unwrap_err().to_string();
    assert!(refusal.contains("a count is from 1"), "{refusal}");
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    let refusal = world.start("2.0").unwrap_err().to_string();
    assert!(refusal.contains("it is being deleted"), "{refusal}");
}

#[test]
fn a_fleet_that_was_deleted_and_is_made_again_counts_its_rollouts_on() {
    let mut world = World::new();
    world.apply("count = 1", "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    world.run_until(300, |world| world.fleets.is_empty());
    world.apply("count = 1", "1.0");
    let id = world.web().rollout.as_ref().unwrap().id.to_string();
    assert_eq!(id, "web-3");
}

#[test]
fn one_that_is_ordered_away_before_it_came_up_leaves_its_place_to_another() {
    let mut world = World::new();
    world.apply("count = 1\n[budget]\nin_flight = 1", "1.0");
    world.run_to(Phase::Done);
    let behaviour = Behaviour::NeverMade;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    let first = world.active("1.0")[0].clone();
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 2 }).unwrap();
    world.run_for(Duration::from_secs(5));
    let hangs = world.web().instances.keys().find(|id| **id != first);
    let hangs = hangs.cloned().unwrap();
    world.behaviour.remove("1.0");
    world.machines.insert(
        hangs.clone(),
        Machine::new(u64::MAX / 2, "1.0".to_owned(), world.work),
    );
    world.kill_machine(&hangs);
    let reason = "it hangs".to_owned();
    let instance = hangs.clone();
    world
        .order(&Command::ReplaceInstance { instance, reason })
        .unwrap();
    world.run_until(60, |world| world.active("1.0").len() == 2);
    assert!(!world.web().instances.contains_key(&hangs));
}
