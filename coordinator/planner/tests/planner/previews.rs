//! What a preview says of a rollout, against what the rollout then does.

use std::time::Duration;

use calvin_planner::{
    Phase, PlanInput, ProviderRules, RolloutPreview, WaveOrder, preview, preview_in,
};

use crate::world::{World, web};

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
fn gates_count_with_their_whole_time_and_windows_have_no_longest_duration() {
    let text = |more: &str| format!("{TEXT}\n{more}");
    let plain = served(TEXT);
    let longest = |world: &World| preview(world.web(), &world.build("2.0")).max_duration;
    let gates = text("approve = [\"switch\", \"retire\"]\napproval_timeout = \"1h\"");
    let mut asks = served(TEXT);
    asks.apply(&gates, "1.0");
    let two_hours = Duration::from_secs(2 * 3_600);
    assert_eq!(longest(&asks), longest(&plain).map(|one| one + two_hours));
    let plan = preview(asks.web(), &asks.build("2.0"));
    let phases: Vec<Phase> = plan.ways_back.iter().map(|way| way.phase).collect();
    assert!(phases.contains(&Phase::AwaitingSwitch), "{phases:?}");
    assert!(phases.contains(&Phase::AwaitingRetire), "{phases:?}");
    let mut windows = served(TEXT);
    windows.apply(&text("windows = [\"fri 01:00-01:10 UTC\"]"), "1.0");
    assert_eq!(longest(&windows), None);
    let closed = |plan: RolloutPreview| {
        let mut remarks = plan.remarks.into_iter();
        remarks.any(|one| one.contains("windows are closed") && one.contains(", in "))
    };
    assert!(closed(beside_others(&windows)));
    assert!(!closed(beside_others(&asks)));
}

#[test]
fn protected_instances_are_neither_replaced_nor_waited_for() {
    let mut world = served("count = 3\n[replace]\nsurge = 1\nbake = \"20s\"");
    let id = world.staying()[0].0.clone();
    let order = calvin_planner::Command::Protect {
        instance: id,
        reason: "it is looked at".to_owned(),
    };
    world.order(&order).unwrap();
    let plan = preview(world.web(), &world.build("2.0"));
    assert_eq!(sizes(&plan), [(1, 1), (1, 1)]);
    assert_eq!(plan.peak_extra, 1);
    assert!(plan.max_duration.is_some());
    assert!(beside_others(&world).max_duration.is_some());
    world.peak = 0;
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.peak, 4);
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

/// What a rollout of `web` to 2.0 would do beside all other fleets.
fn beside_others(world: &World) -> RolloutPreview {
    let observed = world.observed();
    let input = PlanInput {
        now: world.now(),
        seed: 0,
        wall_ms: world.ms,
        environment: &world.environment,
        rules: &world.rules,
        fleets: &world.fleets,
        observed: &observed,
    };
    preview_in(&input, &web(), &world.build("2.0")).unwrap()
}

fn sizes(plan: &RolloutPreview) -> Vec<(u32, u32)> {
    let waves = plan.waves.iter();
    waves.map(|one| (one.greens, one.blues)).collect()
}

#[test]
fn a_preview_of_waves_that_make_room_is_what_the_rollout_does() {
    let text = "count = 5\n[replace]\nsurge = 0\nunavailable = 2\nmin_healthy = \"10s\"\n\
                settle = \"5s\"\nbake = \"20s\"";
    let mut world = served(text);
    let plan = preview(world.web(), &world.build("2.0"));
    assert_eq!(sizes(&plan), [(2, 2), (2, 2), (1, 1)]);
    assert!(
        plan.waves
            .iter()
            .all(|one| one.order == WaveOrder::RoomFirst)
    );
    assert_eq!(plan.peak_extra, 0);
    assert!(
        plan.ways_back[0].how.contains("made again"),
        "{:?}",
        plan.ways_back
    );
    world.peak = 0;
    let begin = world.ms;
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    let took = Duration::from_millis(world.ms - begin);
    assert_eq!(world.peak, 5);
    assert!(
        took >= plan.min_duration,
        "{took:?} {:?}",
        plan.min_duration
    );
    assert!(took <= plan.max_duration.unwrap(), "{took:?}");
}

#[test]
fn a_canary_is_shown_with_its_zones_and_its_longer_soak() {
    let mut world = World::new();
    let zones = ["a", "b"].map(|zone| zone.parse().unwrap()).to_vec();
    let rules = ProviderRules { zones };
    world.rules.providers.insert("process".to_owned(), rules);
    let text = "count = 6\nzones = [\"a\", \"b\"]\n[replace]\nsurge = 3\ncanary = 1\n\
                canary_soak = \"50s\"\nmin_healthy = \"10s\"\nsettle = \"5s\"\nbake = \"20s\"";
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    let plan = preview(world.web(), &world.build("2.0"));
    assert_eq!(sizes(&plan), [(2, 2), (3, 3), (1, 1)]);
    let canaries: Vec<bool> = plan.waves.iter().map(|one| one.canary).collect();
    assert_eq!(canaries, [true, false, false]);
    let first: Vec<u32> = plan.waves[0].zones.values().copied().collect();
    assert_eq!(first, [1, 1]);
    let rest = Duration::from_secs(10 + 25) * 2;
    assert_eq!(plan.min_duration, Duration::from_secs(50 + 25) + rest);
}

#[test]
fn a_preview_says_how_much_fits_and_what_it_would_wait_for() {
    let mut world = World::new();
    world.slots = Some(8);
    world.apply_as("db", "count = 1", "1.0").unwrap();
    world.apply(
        "count = 5\nafter = [\"db\"]\n[replace]\nunavailable = 1",
        "1.0",
    );
    world.run_until(200, |world| world.rests("web"));
    let plan = beside_others(&world);
    assert_eq!(sizes(&plan), [(2, 2), (2, 2), (1, 1)]);
    assert_eq!(
        plan.remarks,
        ["surge 2 of 5 fits: provider process has 2 free"]
    );
    world.slots = Some(6);
    world.start_of("db", "2.0").unwrap();
    world.tick();
    let plan = beside_others(&world);
    assert_eq!(sizes(&plan), [(1, 1); 5]);
    assert!(
        plan.remarks[0].contains("it begins after fleet db"),
        "{:?}",
        plan.remarks
    );
    assert!(
        plan.remarks[1].contains("1 make room first"),
        "{:?}",
        plan.remarks
    );
    let text = "count = 5\nafter = [\"db\"]";
    world.apply(text, "1.0");
    let plan = beside_others(&world);
    assert_eq!((plan.waves.len(), plan.max_duration), (0, None));
    assert!(
        plan.remarks[1].contains("nothing can be made now"),
        "{:?}",
        plan.remarks
    );
}

#[test]
fn a_plan_no_longer_holds_when_any_key_is_another() {
    let mut world = served("count = 4");
    let id = preview(world.web(), &world.build("2.0")).id;
    for (top, replace, rest) in [
        ("", "unavailable = 1", ""),
        ("", "canary = 1", ""),
        ("", "canary_soak = \"1m\"", ""),
        ("", "", "[repair]\nmin_serving = 2"),
        ("", "", "[budget]\nin_flight = 2"),
        ("", "", "[budget]\ndeletions = 2"),
    ] {
        world.apply(
            &format!("count = 4\n{top}\n[replace]\n{replace}\n{rest}"),
            "1.0",
        );
        let other = preview(world.web(), &world.build("2.0")).id;
        assert_ne!(id, other, "{top} {replace} {rest}");
    }
    world.apply("count = 4", "1.0");
    assert_eq!(id, preview(world.web(), &world.build("2.0")).id);
}
