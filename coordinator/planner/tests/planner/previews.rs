//! What a preview says of a rollout, against what the rollout then does.

use std::time::Duration;

use calvin_planner::{Phase, preview};

use crate::world::World;

const TEXT: &str = "count = 5\n[replace]\nsurge = 2\nmin_healthy = \"10s\"\nsettle = \"5s\"\n\
                    bake = \"20s\"";

fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

#[test]
fn waves_peak_and_durations_are_those_of_the_rollout() {
    let mut world = served(TEXT);
    let plan = preview(world.web(), &world.build("2.0"));
    let waves: Vec<(u32, u32)> = plan
        .waves
        .iter()
        .map(|one| (one.greens, one.blues))
        .collect();
    assert_eq!(waves, [(2, 2), (2, 2), (1, 1)]);
    assert_eq!(plan.min_duration, Duration::from_secs(3 * (10 + 5 + 20)));
    assert!(plan.instances.iter().all(|one| one.replaced));
    world.peak = 0;
    let begin = world.ms;
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    let took = Duration::from_millis(world.ms - begin);
    assert_eq!(world.peak, usize::try_from(5 + plan.peak_extra).unwrap());
    assert!(took >= plan.min_duration, "{took:?}");
    assert!(took <= plan.max_duration.unwrap(), "{took:?}");
}

#[test]
fn a_policy_that_waits_for_a_person_has_no_longest_duration() {
    let world = served("count = 1\n[drain]\non_timeout = \"hold\"");
    let plan = preview(world.web(), &world.build("2.0"));
    assert_eq!(plan.max_duration, None);
}

#[test]
fn what_runs_the_image_already_stays_and_each_instance_has_its_reason() {
    let mut world = served(TEXT);
    world.start("2.0").unwrap();
    world.run_until(200, |world| world.web().rollout.as_ref().unwrap().wave == 1);
    let plan = preview(world.web(), &world.build("2.0"));
    let text = "it runs web@2.0 already";
    let kept = plan.instances.iter().filter(|one| one.reason == text);
    let new = world.staying().into_iter();
    let new = new.filter(|(_, one)| one.build == world.build("2.0"));
    let (kept, new) = (kept.count(), new.count());
    assert!(kept == new && new >= 2, "{kept} {new}");
    assert!(plan.instances.iter().all(|one| !one.reason.is_empty()));
    assert!(plan.remarks[0].contains("runs, in"), "{:?}", plan.remarks);
}

#[test]
fn every_phase_that_can_be_left_backwards_says_how() {
    let world = served("count = 1");
    let plan = preview(world.web(), &world.build("2.0"));
    let phases: Vec<Phase> = plan.ways_back.iter().map(|way| way.phase).collect();
    assert_eq!(phases.len(), 8);
    assert!(phases.contains(&Phase::Retiring));
    let mut new = World::new();
    new.apply("count = 1", "1.0");
    let plan = preview(new.web(), &new.build("1.0"));
    assert_eq!(plan.from, None);
    assert!(plan.ways_back[0].how.contains("nothing to go back to"));
}

#[test]
fn a_preview_changes_nothing_and_its_id_is_stable() {
    let world = served("count = 3");
    let before = world.web().clone();
    let first = preview(world.web(), &world.build("2.0"));
    let again = preview(world.web(), &world.build("2.0"));
    assert_eq!(first, again);
    assert_eq!(*world.web(), before);
    assert_ne!(first.id, preview(world.web(), &world.build("3.0")).id);
}
