//! Protected instances, vetoed images and pinned fleets.

use std::time::Duration;

use calvin_model::InstanceId;
use calvin_planner::{Command, Phase};

use crate::{
    people::{refused, served, waits_for},
    world::{Behaviour, World, web},
};

fn reason() -> String {
    "it is looked at".to_owned()
}

fn protect(instance: &InstanceId) -> Command {
    Command::Protect {
        instance: instance.clone(),
        reason: reason(),
    }
}

fn unprotect(instance: &InstanceId) -> Command {
    Command::Unprotect {
        instance: instance.clone(),
    }
}

fn veto(tag: &str) -> Command {
    Command::Veto {
        image: tag.parse().unwrap(),
        reason: reason(),
    }
}

#[test]
fn a_rollout_leaves_a_protected_instance_out_and_says_so() {
    let mut world = served("count = 3");
    let kept = world.active("1.0")[0].clone();
    world.order(&protect(&kept)).unwrap();
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
    assert_eq!(world.active("1.0"), std::slice::from_ref(&kept));
    assert!(world.is_quiet());
    assert!(waits_for(&world, "stays on web@1.0 while web@2.0 serves"));
    let lines = world.order(&unprotect(&kept)).unwrap();
    assert!(
        lines[0].contains("replace it: calvin instance replace"),
        "{lines:?}"
    );
    let replace = Command::ReplaceInstance {
        instance: kept,
        reason: reason(),
    };
    world.order(&replace).unwrap();
    world.run_until(300, |world| world.active("2.0").len() == 3);
}

#[test]
fn waves_leave_a_protected_instance_out_as_well() {
    let mut world = served("count = 3\n[replace]\nsurge = 1\nbake = \"3s\"");
    let kept = world.active("1.0")[1].clone();
    world.order(&protect(&kept)).unwrap();
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
    assert_eq!(world.active("1.0"), [kept]);
    assert!(world.is_quiet());
}

#[test]
fn an_instance_that_is_protected_during_a_rollout_is_not_replaced_by_it() {
    for phase in [Phase::Provisioning, Phase::Soaking] {
        let mut world = served("count = 2");
        let kept = world.active("1.0")[0].clone();
        world.start("2.0").unwrap();
        world.run_to(phase);
        world.tick();
        let lines = world.order(&protect(&kept)).unwrap();
        assert!(lines[0].contains("leaves it out"), "{lines:?}");
        world.run_to(Phase::Done);
        world.run_for(Duration::from_secs(200));
        assert!(world.web().instances.contains_key(&kept), "{phase}");
        assert!(!world.web().instances[&kept].leaving(), "{phase}");
        assert!(world.is_quiet(), "{phase}");
    }
}

#[test]
fn a_protected_instance_that_is_lost_keeps_its_record_until_somebody_ends_that() {
    let mut world = served("count = 2");
    let kept = world.active("1.0")[0].clone();
    world.order(&protect(&kept)).unwrap();
    world.kill_machine(&kept);
    world.run_for(Duration::from_secs(1_000));
    assert!(!world.web().instances[&kept].leaving(), "{}", world.story());
    assert!(waits_for(
        &world,
        "is lost, by two sources, and is not replaced"
    ));
    assert!(world.is_quiet());
    world.order(&unprotect(&kept)).unwrap();
    world.run_until(300, |world| world.active("1.0").len() == 2);
    assert!(!world.web().instances.contains_key(&kept));
}

#[test]
fn a_smaller_fleet_lets_others_go_and_holds_where_all_are_protected() {
    let mut world = served("count = 3");
    let all = world.active("1.0");
    world.order(&protect(&all[0])).unwrap();
    let scale = |count| Command::Scale {
        fleet: web(),
        count,
    };
    world.order(&scale(1)).unwrap();
    world.run_for(Duration::from_secs(200));
    assert_eq!(world.active("1.0"), all[..1], "{}", world.story());
    world.order(&scale(2)).unwrap();
    world.run_for(Duration::from_secs(60));
    for id in world.active("1.0") {
        drop(world.order(&protect(&id)));
    }
    world.order(&scale(1)).unwrap();
    world.run_for(Duration::from_secs(200));
    assert_eq!(world.active("1.0").len(), 2);
    assert!(waits_for(&world, "1 are too many, and only 0 may leave"));
}

#[test]
fn orders_against_what_is_protected_are_refused_by_its_name() {
    let mut world = served("count = 1");
    let kept = world.active("1.0")[0].clone();
    world.order(&protect(&kept)).unwrap();
    let lines = world.order_by("bob", &protect(&kept)).unwrap();
    assert!(lines[0].contains("protected already, by ann"), "{lines:?}");
    let (why, _) = refused(world.order(&Command::DeleteFleet { fleet: web() }));
    assert!(why.contains(kept.as_str()), "{why}");
    let replace = Command::ReplaceInstance {
        instance: kept.clone(),
        reason: reason(),
    };
    let (why, _) = refused(world.order(&replace));
    assert!(why.contains("protected by ann"), "{why}");
    let (why, _) = refused(world.start("2.0"));
    assert!(
        why.contains("all of its 1 instances are protected"),
        "{why}"
    );
    world.order(&unprotect(&kept)).unwrap();
    let (why, _) = refused(world.order(&unprotect(&kept)));
    assert!(why.contains("it is not protected"), "{why}");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let green = world.web().rollout.as_ref().unwrap().sets.green[0].clone();
    let (why, _) = refused(world.order(&protect(&green)));
    assert!(why.contains("it is a green of web-2"), "{why}");
}

#[test]
fn nothing_starts_to_a_vetoed_image_and_what_runs_to_it_goes_back() {
    let mut world = served("count = 2");
    world.order(&veto("web@2.0")).unwrap();
    let (why, hint) = refused(world.start("2.0"));
    assert!(
        why.contains("web@2.0") && why.contains("vetoed by ann"),
        "{why}"
    );
    assert!(hint.contains("calvin image unveto web@2.0"), "{hint}");
    for phase in [Phase::Provisioning, Phase::Soaking, Phase::Baking] {
        world.start("3.0").unwrap();
        world.run_to(phase);
        let lines = world.order(&veto("web@3.0")).unwrap();
        assert!(lines[1].contains("goes back"), "{lines:?}");
        world.run_to(Phase::RolledBack);
        assert_eq!(world.active("1.0").len(), 2, "{phase}");
        let unveto = Command::Unveto {
            image: "web@3.0".parse().unwrap(),
        };
        world.order(&unveto).unwrap();
        let (why, _) = refused(world.order(&unveto));
        assert!(why.contains("it is not vetoed"), "{why}");
    }
}

#[test]
fn a_paused_rollout_to_an_image_that_is_vetoed_goes_back_all_the_same() {
    let mut world = served("count = 1");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.order(&crate::people::pause()).unwrap();
    world.order(&veto("web@2.0")).unwrap();
    world.run_to(Phase::RolledBack);
}

#[test]
fn a_repair_of_a_vetoed_image_is_made_from_what_served_before() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    let lines = world.order(&veto("web@2.0")).unwrap();
    assert!(
        lines[1].contains("repairs are made from web@1.0"),
        "{lines:?}"
    );
    let lost = world.active("2.0")[0].clone();
    world.kill_machine(&lost);
    world.run_until(300, |world| world.active("1.0").len() == 1);
    assert_eq!(world.active("2.0").len(), 1);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn where_nothing_else_served_a_vetoed_image_is_not_made_again_and_says_so() {
    let mut world = served("count = 2");
    let lines = world.order(&veto("web@1.0")).unwrap();
    assert!(lines[1].contains("nothing can be repaired"), "{lines:?}");
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.created.len(), 2);
    assert!(
        waits_for(&world, "nothing is made from web@1.0"),
        "{}",
        world.story()
    );
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
}

#[test]
fn a_vetoed_image_is_not_made_where_its_intent_waits_for_a_machine() {
    let mut world = served("count = 1");
    world.start("2.0").unwrap();
    // The intent is not planned yet: the next look would make it.
    world.order(&veto("web@2.0")).unwrap();
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.created.len(), 1, "{}", world.story());
    assert_eq!(world.phase(), Some(Phase::RolledBack));
}

#[test]
fn a_pinned_fleet_starts_no_rollout_in_an_emergency_neither() {
    let mut world = served("count = 1");
    let pin = Command::Pin {
        fleet: web(),
        reason: reason(),
    };
    world.order(&pin).unwrap();
    let lines = world.order(&pin).unwrap();
    assert!(lines[0].contains("pinned already, by ann"), "{lines:?}");
    let order = Command::StartRollout {
        fleet: web(),
        build: world.build("2.0"),
        plan: None,
        emergency: Some("it burns".to_owned()),
    };
    for refusal in [world.start("2.0"), world.order(&order)] {
        let (why, hint) = refused(refusal);
        assert!(why.contains("pinned by ann"), "{why}");
        assert!(hint.contains("calvin fleet unpin web"), "{hint}");
    }
    let unpin = Command::Unpin { fleet: web() };
    world.order(&unpin).unwrap();
    refused(world.order(&unpin));
    world.start("2.0").unwrap();
    let (why, _) = refused(world.order(&pin));
    assert!(why.contains("rollout web-2 to web@2.0 runs"), "{why}");
}

#[test]
fn a_pin_and_a_repair_go_together() {
    let mut world = served("count = 1");
    let pin = Command::Pin {
        fleet: web(),
        reason: reason(),
    };
    world.order(&pin).unwrap();
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    world.run_until(200, |world: &World| world.active("1.0").len() == 1);
}

#[test]
fn what_a_rollout_goes_back_to_after_its_switch_cannot_be_taken_from_it() {
    let mut world = served("count = 2");
    let blue = world.active("1.0")[0].clone();
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let (why, hint) = refused(world.order(&protect(&blue)));
    assert!(why.contains("it is what web-2 goes back to"), "{why}");
    assert!(hint.contains("calvin rollout pause web"), "{hint}");
}

#[test]
fn a_green_of_a_failed_first_rollout_is_kept_to_be_looked_at_and_never_serves() {
    let mut world = World::new();
    let text = "count = 1\n[replace]\nhealthy_deadline = \"20s\"\nkeep_failed = \"30s\"";
    let behaviour = crate::world::Behaviour::Broken;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    world.apply(text, "1.0");
    world.run_to(Phase::Failed);
    let kept = world.web().instances.keys().next().unwrap().clone();
    world.order(&protect(&kept)).unwrap();
    world.run_for(Duration::from_secs(100));
    assert!(
        world.web().instances.contains_key(&kept),
        "{}",
        world.story()
    );
    world.behaviour.clear();
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.active("2.0").len(), 1, "{}", world.story());
    assert!(world.active("1.0").is_empty());
    assert!(world.is_quiet());
    let lines = world.order(&unprotect(&kept)).unwrap();
    assert!(
        lines[0].contains("it served nobody and is removed"),
        "{lines:?}"
    );
    world.run_until(200, |world| world.machines_there() == 1);
}

#[test]
fn what_is_set_aside_is_no_part_of_the_count_when_the_fleet_grows() {
    let mut world = World::new();
    let behaviour = crate::world::Behaviour::Broken;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    world.apply("count = 1\n[replace]\nhealthy_deadline = \"20s\"", "1.0");
    world.run_to(Phase::Failed);
    let kept = world.web().instances.keys().next().unwrap().clone();
    world.order(&protect(&kept)).unwrap();
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    let scale = Command::Scale {
        fleet: web(),
        count: 2,
    };
    world.order(&scale).unwrap();
    world.run_until(100, |world| world.active("2.0").len() == 2);
    assert_eq!(world.machines_there(), 3);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn what_is_not_protected_any_more_leaves_its_place_to_the_next_attempt() {
    let mut world = World::new();
    let behaviour = Behaviour::NeverMade;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    world.apply("count = 1\n[budget]\nin_flight = 1", "1.0");
    world.run_for(Duration::from_secs(3));
    let abort = Command::Abort {
        fleet: web(),
        reason: "it hangs".to_owned(),
    };
    world.order(&abort).unwrap();
    let kept = world.web().instances.keys().next().cloned().unwrap();
    world.order(&protect(&kept)).unwrap();
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(20));
    let said = "the fleet's budget in_flight is 1";
    assert!(world.says("web", said), "{}", world.story());
    world.order(&unprotect(&kept)).unwrap();
    world.run_to(Phase::Done);
    assert!(!world.web().instances.contains_key(&kept));
}
