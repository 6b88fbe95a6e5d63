//! What ends a bake and a drain, and what a rollout that goes back does with both sets.

use calvin_model::Health;
use calvin_planner::{Command, InvariantId, Phase};

use crate::{
    gates::{greens, held_by, seconds, served},
    world::web,
};

#[test]
fn a_green_of_which_nothing_is_known_keeps_blue() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let green = greens(&world)[0].clone();
    world.cut_path(&green);
    world.run_for(seconds(120));
    assert_eq!(world.phase(), Some(Phase::Baking));
    assert!(held_by(&world, InvariantId::BlueStaysUntilGreenIsProven));
    world.machines.get_mut(&green).unwrap().path_cut_at = None;
    world.run_to(Phase::Done);
}

#[test]
fn a_green_that_is_lost_while_it_bakes_goes_back_to_blue() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let green = greens(&world)[0].clone();
    world.kill_machine(&green);
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn a_green_that_is_lost_after_the_bake_is_repaired_with_the_new_image() {
    let mut world = served("count = 2\n[drain]\ntimeout = \"60s\"");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    for id in &blue {
        world.agent(id).drain_takes = None;
    }
    world.run_to(Phase::Draining);
    let green = greens(&world)[0].clone();
    world.kill_machine(&green);
    world.run_to(Phase::Done);
    world.run_until(100, |world| world.active("2.0").len() == 2);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn the_policy_decides_what_becomes_of_a_blue_that_does_not_drain() {
    for (policy, end) in [
        ("force", Phase::Done),
        ("back", Phase::RolledBack),
        ("hold", Phase::Draining),
    ] {
        let text = format!("count = 2\n[drain]\ntimeout = \"20s\"\non_timeout = \"{policy}\"");
        let mut world = served(&text);
        let blue = world.active("1.0")[0].clone();
        world.start("2.0").unwrap();
        world.run_to(Phase::Baking);
        world.agent(&blue).drain_takes = None;
        world.run_to(Phase::Draining);
        world.run_for(seconds(120));
        assert_eq!(world.phase(), Some(end), "{policy}: {}", world.story());
        assert_eq!(held_by(&world, InvariantId::PolicyHolds), policy == "hold");
    }
}

#[test]
fn a_blue_without_its_agent_does_not_keep_the_rollout() {
    let mut world = served("count = 2\n[drain]\ntimeout = \"20s\"\non_timeout = \"hold\"");
    let blue = world.active("1.0")[0].clone();
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.kill_agent(&blue);
    world.run_to(Phase::Done);
    assert!(world.is_quiet(), "{}", world.story());
    assert_eq!(world.machines.len(), 2);
}

#[test]
fn a_blue_that_is_only_silent_for_a_moment_waits_for_the_person_all_the_same() {
    let mut world = served("count = 2\n[drain]\ntimeout = \"20s\"\non_timeout = \"hold\"");
    let blue = world.active("1.0")[0].clone();
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.agent(&blue).drain_takes = None;
    world.run_to(Phase::Draining);
    world.run_for(seconds(40));
    assert!(held_by(&world, InvariantId::PolicyHolds));
    // As after a restart of the coordinator: the session comes back in its own time.
    world.cut_path(&blue);
    world.started_at = world.ms;
    world.run_for(seconds(60));
    assert_eq!(world.phase(), Some(Phase::Draining), "{}", world.story());
    assert!(held_by(&world, InvariantId::PolicyHolds));
    // Gone for longer than silent_after, it never will say that it has finished.
    world.run_until(400, |world| world.phase() == Some(Phase::Done));
}

#[test]
fn a_green_that_flapped_unseen_bakes_anew() {
    let mut world = served("count = 2\n[replace]\nbake = \"20s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let green = greens(&world)[0].clone();
    world.cut_path(&green);
    world.run_for(seconds(14));
    world.agent(&green).forced = Some(Health::Unhealthy);
    world.run_for(seconds(2));
    world.agent(&green).forced = None;
    world.run_for(seconds(2));
    world.machines.get_mut(&green).unwrap().path_cut_at = None;
    world.run_for(seconds(10));
    assert_eq!(world.phase(), Some(Phase::Baking), "{}", world.story());
    let waiting = &world.report().waiting[0].what;
    assert!(waiting.contains("without a break"), "{waiting}");
    world.run_until(12, |world| world.phase() != Some(Phase::Baking));
    assert_eq!(world.phase(), Some(Phase::Draining), "{}", world.story());
}

#[test]
fn green_goes_on_serving_while_blue_that_drained_becomes_healthy_again() {
    let mut world = served("count = 2\n[drain]\ntimeout = \"20s\"\non_timeout = \"back\"");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.agent(&blue[0]).drain_takes = None;
    world.run_to(Phase::RollingBack);
    for id in &blue {
        world.agent(id).forced = Some(Health::Unknown);
    }
    world.run_for(seconds(60));
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
    let waiting = &world.report().waiting[0].what;
    assert!(waiting.contains("to be active again"), "{waiting}");
    for id in &blue {
        world.agent(id).forced = None;
    }
    world.run_until(5, |world| world.active("1.0").len() == 2);
    world.run_to(Phase::RolledBack);
}

#[test]
fn a_blue_that_was_lost_as_a_whole_is_made_again_before_green_leaves() {
    let mut world = served("count = 2\n[replace]\nbake = \"100s\"");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    for id in &blue {
        world.kill_machine(id);
    }
    world.run_for(seconds(30));
    assert_eq!(world.phase(), Some(Phase::Baking));
    let green = greens(&world)[0].clone();
    world.agent(&green).forced = Some(Health::Unhealthy);
    while world.phase() != Some(Phase::RolledBack) {
        world.tick();
        let serving = world.active("1.0").len() + world.active("2.0").len();
        assert!(serving >= 1, "{}", world.story());
    }
    assert_eq!(world.active("1.0").len(), 2, "{}", world.story());
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn a_way_back_to_a_broken_image_is_held_until_a_person_chooses_another() {
    let mut world = served("count = 2");
    let broken = world.active("1.0");
    for id in &broken {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let back = calvin_planner::Command::Rollback {
        fleet: crate::world::web(),
        reason: "by mistake".to_owned(),
    };
    world.order(&back).unwrap();
    world.run_for(seconds(60));
    assert!(held_by(
        &world,
        InvariantId::ServingCapacityNeverBelowMinimum
    ));
    assert_eq!(world.active("2.0").len(), 2);
    world.start("3.0").unwrap();
    while world.phase() != Some(Phase::Done) {
        world.tick();
        let serving = world.active("2.0").len() + world.active("3.0").len();
        assert_eq!(world.report().serving.min(2), 2, "{}", world.story());
        assert!(serving >= 2);
    }
    assert_eq!(world.active("3.0").len(), 2);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn a_way_back_that_is_held_gives_way_only_to_an_image_that_may_start_now() {
    // The world begins at midnight.
    let mut world = served("count = 2\n[replace]\nwindows = [\"fri 00:00-00:03 UTC\"]");
    for id in &world.active("1.0") {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let back = Command::Rollback {
        fleet: web(),
        reason: "by mistake".to_owned(),
    };
    world.order(&back).unwrap();
    world.run_for(seconds(180));
    world.start("3.0").unwrap();
    world.run_for(seconds(120));
    assert_eq!(world.phase(), Some(Phase::RollingBack), "{}", world.story());
    assert_eq!(world.active("2.0").len(), 2);
    assert!(held_by(&world, InvariantId::ClosedWindowStartsNothing));
}

#[test]
fn a_blue_that_was_lost_is_not_made_again_where_another_image_is_wanted() {
    let mut world = served("count = 2\n[replace]\nbake = \"100s\"");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    for id in &blue {
        world.kill_machine(id);
    }
    world.run_for(seconds(30));
    let made = world.created.len();
    world.start("3.0").unwrap();
    while world.phase() != Some(Phase::Done) {
        world.tick();
        let serving = world.active("2.0").len() + world.active("3.0").len();
        assert!(serving >= 2, "{}", world.story());
    }
    assert_eq!(world.active("3.0").len(), 2, "{}", world.story());
    assert_eq!(world.created.len() - made, 2, "only what was wanted");
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn a_green_that_flaps_unseen_again_and_again_does_not_bake_for_ever() {
    let mut world = served(
        "count = 2\n[replace]\nbake = \"20s\"\nhealthy_deadline = \"60s\"\nprogress_deadline = \"60s\"",
    );
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let green = greens(&world)[0].clone();
    for _ in 0..20 {
        world.run_for(seconds(8));
        if world.phase() != Some(Phase::Baking) {
            break;
        }
        // Over before anybody could see it; its agent's count tells.
        world.agent(&green).flap();
    }
    assert!(
        world.tells("does not stay healthy for 20s"),
        "{}",
        world.story()
    );
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
}

/// Right after a coordinator starts, nothing is known of anybody.
#[test]
fn a_green_of_which_nothing_is_known_goes_on_serving_while_no_blue_is_known_to() {
    let mut world = served("count = 2");
    let blue = world.active("1.0");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let green = greens(&world);
    for id in &blue {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.run_for(seconds(2));
    let order = Command::Rollback {
        fleet: web(),
        reason: "slow".to_owned(),
    };
    world.order(&order).unwrap();
    world.run_for(seconds(2));
    for id in &green {
        world.cut_path(id);
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
    world.started_at = world.ms;
    for _ in 0..40 {
        world.tick();
        assert_eq!(world.active("2.0"), green, "{}", world.story());
    }
    for id in &blue {
        world.agent(id).forced = None;
    }
    for id in &green {
        let machine = world.machines.get_mut(id).unwrap();
        machine.path_cut_at = None;
        machine.workload_answers = true;
    }
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0"), blue);
}
