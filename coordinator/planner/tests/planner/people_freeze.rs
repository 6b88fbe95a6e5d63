//! Freezes, windows and emergencies: what begins, what goes on, and what is told of what waits.

use std::time::Duration;

use calvin_planner::{Command, FreezeScope, Phase};

use crate::{
    people::{pause, refused, resume, served, waits_for},
    world::{World, spec, web},
};

fn reason() -> String {
    "the sale".to_owned()
}

fn freeze(world: &World, scope: FreezeScope, seconds: Option<u64>) -> Command {
    Command::Freeze {
        fleet: None,
        scope,
        until_wall_ms: seconds.map(|seconds| world.ms + seconds * 1_000),
        reason: reason(),
    }
}

fn emergency(world: &World, version: &str) -> Command {
    Command::StartRollout {
        fleet: web(),
        build: world.build(version),
        plan: None,
        emergency: Some("it burns".to_owned()),
    }
}

fn apply(world: &mut World, text: &str, version: &str) -> Vec<String> {
    let order = Command::ApplyFleet {
        spec: Box::new(spec(text)),
        build: world.build(version),
    };
    world.order(&order).unwrap()
}

#[test]
fn while_new_things_are_frozen_nothing_starts_and_repairs_go_on() {
    let mut world = served("count = 2");
    let order = freeze(&world, FreezeScope::New, None);
    world.order(&order).unwrap();
    let (why, hint) = refused(world.start("2.0"));
    assert!(
        why.contains("frozen (new) by ann until somebody ends it: the sale"),
        "{why}"
    );
    assert!(hint.contains("--emergency"), "{hint}");
    for order in [
        Command::Scale {
            fleet: web(),
            count: 3,
        },
        Command::DeleteFleet { fleet: web() },
    ] {
        let (why, _) = refused(world.order(&order));
        assert!(why.contains("FrozenStartsNothing"), "{why}");
    }
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.active("1.0").len(), 2, "{}", world.story());
    assert_eq!(world.phase(), Some(Phase::Done));
    world.order(&Command::Unfreeze { fleet: None }).unwrap();
    let (why, _) = refused(world.order(&Command::Unfreeze { fleet: None }));
    assert!(why.contains("it is not frozen"), "{why}");
    world.start("2.0").unwrap();
}

#[test]
fn what_is_applied_during_a_freeze_is_recorded_and_starts_after_it() {
    let mut world = served("count = 2");
    let order = freeze(&world, FreezeScope::New, Some(600));
    world.order(&order).unwrap();
    let lines = apply(&mut world, "count = 4", "1.0");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("a count of 4 takes effect when")),
        "{lines:?}"
    );
    let again = apply(&mut world, "count = 4", "1.0");
    assert!(again[0].contains("as wanted already"), "{again:?}");
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.machines_there(), 2);
    assert!(waits_for(&world, "a count of 4 instead of 2"));
    world.run_for(Duration::from_secs(400));
    assert_eq!(world.active("1.0").len(), 4, "{}", world.story());
    assert!(world.tells("the freeze of the environment by ann is over"));
    assert_eq!(world.environment.freeze, None, "it ended by itself");
}

#[test]
fn a_new_fleet_waits_for_the_end_of_a_freeze() {
    let mut world = World::new();
    let order = freeze(&world, FreezeScope::New, Some(100));
    world.order(&order).unwrap();
    let lines = apply(&mut world, "count = 1", "1.0");
    assert!(
        lines[0].contains("are to be made; it waits: frozen"),
        "{lines:?}"
    );
    world.run_for(Duration::from_secs(50));
    assert_eq!(world.machines_there(), 0);
    assert!(
        waits_for(&world, "the rollout of web@1.0"),
        "{}",
        world.story()
    );
    let lines = apply(&mut world, "count = 2", "1.1");
    assert!(lines[0].contains("2 instances of web@1.1"), "{lines:?}");
    world.run_to(Phase::Done);
    assert_eq!(world.active("1.1").len(), 2);
}

#[test]
fn a_freeze_holds_a_rollout_before_its_switch_and_lets_it_finish_after_it() {
    for phase in [Phase::Provisioning, Phase::Soaking] {
        let mut world = served("count = 2\n[replace]\nprogress_deadline = \"300s\"");
        world.start("2.0").unwrap();
        world.run_to(phase);
        world.tick();
        let order = freeze(&world, FreezeScope::New, Some(2_000));
        world.order(&order).unwrap();
        world.run_for(Duration::from_secs(1_500));
        assert_eq!(world.phase(), Some(Phase::Soaking), "{}", world.story());
        assert!(waits_for(&world, "traffic is not switched"));
        world.run_to(Phase::Done);
    }
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Settling);
    let order = freeze(&world, FreezeScope::New, None);
    world.order(&order).unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
}

#[test]
fn a_freeze_begins_no_next_wave_and_lets_a_rollout_go_all_the_way_back() {
    let mut world = served("count = 2\n[replace]\nsurge = 1\nbake = \"3s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Retiring);
    let order = freeze(&world, FreezeScope::New, None);
    world.order(&order).unwrap();
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.phase(), Some(Phase::Provisioning));
    assert_eq!(world.machines_there(), 2, "{}", world.story());
    assert!(waits_for(&world, "the wave does not begin"));
    let back = Command::Rollback {
        fleet: web(),
        reason: reason(),
    };
    world.order(&back).unwrap();
    world.run_until(600, |world| world.active("1.0").len() == 2);
    world.run_to(Phase::Done);
    assert_eq!(world.web().rollouts, 3, "the rest went back by itself");
}

#[test]
fn a_freeze_of_everything_needs_an_end_that_is_to_come_and_a_reason() {
    let mut world = served("count = 1");
    let order = freeze(&world, FreezeScope::All, None);
    let (why, _) = refused(world.order(&order));
    assert!(why.contains("--until") && why.contains("--reason"), "{why}");
    let order = Command::Freeze {
        fleet: Some(web()),
        scope: FreezeScope::All,
        until_wall_ms: Some(world.ms + 1_000),
        reason: "  ".to_owned(),
    };
    let (why, _) = refused(world.order(&order));
    assert!(why.contains("--until") && why.contains("--reason"), "{why}");
    let order = freeze(&world, FreezeScope::All, Some(0));
    let (why, _) = refused(world.order(&order));
    assert!(why.contains("is over"), "{why}");
    assert_eq!(world.environment.freeze, None);
}

#[test]
fn while_all_is_frozen_nothing_is_repaired_made_or_removed_until_it_ends() {
    let mut world = served("count = 2\n[repair]\nsilent_after = \"30s\"");
    let order = freeze(&world, FreezeScope::All, Some(1_000));
    world.order(&order).unwrap();
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    let instance = world.active("1.0")[1].clone();
    let replace = Command::ReplaceInstance {
        instance,
        reason: reason(),
    };
    let (why, _) = refused(world.order(&replace));
    assert!(why.contains("frozen (all)"), "{why}");
    world.run_for(Duration::from_secs(500));
    assert_eq!(world.created.len(), 2, "{}", world.story());
    assert_eq!(world.web().instances.len(), 2);
    assert!(waits_for(&world, "nothing is repaired"));
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.active("1.0").len(), 2, "{}", world.story());
}

#[test]
fn while_all_is_frozen_a_broken_green_still_leads_back_and_is_removed_later() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let order = freeze(&world, FreezeScope::All, Some(1_000));
    world.order(&order).unwrap();
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.phase(), Some(Phase::Baking), "it goes no further");
    let green = world.active("2.0")[0].clone();
    world.agent(&green).forced = Some(calvin_model::Health::Unhealthy);
    world.run_until(5, |world| world.active("1.0").len() == 2);
    world.run_for(Duration::from_secs(300));
    assert_eq!(
        world.machines_there(),
        4,
        "nothing is removed: {}",
        world.story()
    );
    world.run_to(Phase::RolledBack);
    assert_eq!(world.machines_there(), 2);
}

#[test]
fn a_rollout_that_all_was_frozen_for_has_its_time_left_afterwards() {
    let text = "count = 2\n[replace]\nhealthy_deadline = \"30s\"\nprogress_deadline = \"40s\"";
    let mut world = served(text);
    world.boot_delay_ms = 20_000;
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(5));
    let order = freeze(&world, FreezeScope::All, Some(500));
    world.order(&order).unwrap();
    world.run_for(Duration::from_secs(400));
    assert_eq!(
        world.phase(),
        Some(Phase::Provisioning),
        "{}",
        world.story()
    );
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
}

#[test]
fn a_freeze_of_one_fleet_holds_that_fleet_only_and_is_ended_for_it() {
    let mut world = served("count = 1");
    let order = Command::Freeze {
        fleet: Some(web()),
        scope: FreezeScope::New,
        until_wall_ms: Some(world.ms + 100_000),
        reason: reason(),
    };
    world.order(&order).unwrap();
    let (_, hint) = refused(world.order(&Command::Unfreeze { fleet: None }));
    assert!(hint.contains("calvin status"), "{hint}");
    refused(world.start("2.0"));
    world
        .order(&Command::Unfreeze { fleet: Some(web()) })
        .unwrap();
    world.order(&order).unwrap();
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.web().freeze, None);
    assert!(world.tells("the freeze by ann is over"));
    world.start("2.0").unwrap();
}

/// The world's day begins at midnight UTC, on a Friday.
const WINDOW: &str =
    "count = 2\n[replace]\nprogress_deadline = \"400s\"\nwindows = [\"fri 01:00-01:10 UTC\"]";

#[test]
fn a_rollout_outside_of_its_windows_is_taken_and_starts_when_one_opens() {
    let mut world = served("count = 2");
    world.apply(WINDOW, "1.0");
    let lines = world.start("2.0").unwrap();
    assert!(lines[0].contains("is taken and waits"), "{lines:?}");
    assert!(
        lines[0].contains("opens at 1970-01-02 01:00 UTC"),
        "{lines:?}"
    );
    let lines = world.start("2.0").unwrap();
    assert!(lines[0].contains("waits already"), "{lines:?}");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.web().rollouts, 1);
    assert!(
        waits_for(&world, "its windows are closed"),
        "{}",
        world.story()
    );
    world.run_until(3_700, |world| world.web().rollouts == 2);
    assert_eq!(world.ms % 86_400_000 / 60_000, 60);
    world.run_to(Phase::Done);
}

#[test]
fn a_rollout_that_waits_for_a_window_can_be_dropped() {
    let mut world = served("count = 2");
    world.apply(WINDOW, "1.0");
    world.start("2.0").unwrap();
    let abort = Command::Abort {
        fleet: web(),
        reason: reason(),
    };
    let lines = world.order(&abort).unwrap();
    assert!(lines[0].contains("that waited is dropped"), "{lines:?}");
    world.run_for(Duration::from_secs(4_000));
    assert_eq!(world.web().rollouts, 1);
}

#[test]
fn a_window_that_closes_in_the_middle_holds_before_the_switch_and_finishes_after_it() {
    let mut world = served("count = 2\n[replace]\nmin_healthy = \"100s\"");
    world.apply(&format!("{WINDOW}\nmin_healthy = \"100s\""), "1.0");
    world.start("2.0").unwrap();
    world.run_until(3_700, |world| world.web().rollouts == 2);
    world.order(&pause()).unwrap();
    world.run_for(Duration::from_secs(605));
    world.order(&resume()).unwrap();
    world.run_for(Duration::from_secs(3_000));
    assert_eq!(world.phase(), Some(Phase::Soaking), "{}", world.story());
    assert!(waits_for(&world, "its windows are closed"));
    world.order(&pause()).unwrap();
    world.order(&resume()).unwrap();
    let back = Command::Abort {
        fleet: web(),
        reason: reason(),
    };
    world.order(&back).unwrap();
    world.run_to(Phase::RolledBack);

    let mut world = served("count = 2");
    world.apply(&format!("{WINDOW}\nbake = \"900s\""), "1.0");
    world.start("2.0").unwrap();
    world.run_until(3_700, |world| world.web().rollouts == 2);
    world.run_to(Phase::Baking);
    world.run_to(Phase::Done);
    let minute = world.ms % 86_400_000 / 60_000;
    assert!(minute > 70, "it finished after the window: {minute}");
}

#[test]
fn an_emergency_passes_freeze_windows_soak_and_waves_and_still_proves_what_it_makes() {
    let text = "count = 3\n[replace]\nsurge = 1\nmin_healthy = \"250s\"\nbake = \"3s\"\n\
                windows = [\"fri 01:00-01:10 UTC\"]";
    let mut world = served(&text.replace("windows = [\"fri 01:00-01:10 UTC\"]", ""));
    world.apply(text, "1.0");
    let order = freeze(&world, FreezeScope::All, Some(100_000));
    world.order(&order).unwrap();
    let order = Command::StartRollout {
        fleet: web(),
        build: world.build("2.0"),
        plan: None,
        emergency: Some(String::new()),
    };
    let (why, _) = refused(world.order(&order));
    assert!(why.contains("it needs a reason"), "{why}");
    let order = emergency(&world, "2.0");
    let lines = world.order(&order).unwrap();
    assert!(lines[0].contains("an emergency skips"), "{lines:?}");
    world.run_until(60, |world| world.active("2.0").len() == 3);
    world.run_to(Phase::Done);
    assert_eq!(world.web().rollout.as_ref().unwrap().wave, 0);
    assert!(
        world.tells("ann skips the soak: it burns"),
        "{}",
        world.story()
    );
}

#[test]
fn an_emergency_skips_no_approval() {
    let mut world = served("count = 1\n[replace]\napprove = [\"switch\"]");
    let order = emergency(&world, "2.0");
    world.order(&order).unwrap();
    world.run_to(Phase::AwaitingSwitch);
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.phase(), Some(Phase::AwaitingSwitch));
}

#[test]
fn an_emergency_passes_the_freeze_for_its_own_rollout_alone() {
    // The count waits for the end of the freeze.
    let mut world = served("count = 2");
    let order = freeze(&world, FreezeScope::New, Some(600));
    world.order(&order).unwrap();
    apply(&mut world, "count = 4", "1.0");
    let order = emergency(&world, "2.0");
    world.order(&order).unwrap();
    world.run_to(Phase::Settling);
    assert!(waits_for(&world, "a count of 4 instead of 2"));
    world.run_to(Phase::Done);
    assert_eq!(world.web().spec.count, 2, "{}", world.story());
    world.run_until(700, |world| world.active("2.0").len() == 4);

    // What was leaving and what is lost wait as well; what the rollout replaces goes.
    let mut world = served("count = 3\n[repair]\nsilent_after = \"30s\"");
    world
        .order(&Command::Scale {
            fleet: web(),
            count: 2,
        })
        .unwrap();
    world.run_until(20, |world| {
        world.web().instances.values().any(|one| one.leaving())
    });
    let leaves = world.web().instances.iter();
    let leaves: Vec<_> = leaves.filter(|(_, one)| one.leaving()).collect();
    let leaves = leaves[0].0.clone();
    let order = freeze(&world, FreezeScope::All, Some(1_000));
    world.order(&order).unwrap();
    let order = emergency(&world, "2.0");
    world.order(&order).unwrap();
    world.run_to(Phase::Settling);
    assert!(waits_for(&world, "is not removed") || waits_for(&world, "no machine is removed"));
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2, "{}", world.story());
    assert!(world.machines.contains_key(&leaves), "{}", world.story());
    world.run_until(1_100, |world| !world.machines.contains_key(&leaves));
}

#[test]
fn a_freeze_is_not_made_narrower_or_shorter_by_another() {
    let mut world = served("count = 2");
    let order = freeze(&world, FreezeScope::All, Some(3_600));
    world.order(&order).unwrap();
    for weaker in [
        freeze(&world, FreezeScope::New, Some(7_200)),
        freeze(&world, FreezeScope::All, Some(600)),
    ] {
        let (why, hint) = refused(world.order(&weaker));
        assert!(why.contains("frozen (all) by ann until"), "{why}");
        assert!(hint.contains("calvin unfreeze"), "{hint}");
    }
    let longer = freeze(&world, FreezeScope::All, Some(7_200));
    world.order(&longer).unwrap();
    // One that holds until somebody ends it is not given an end by another.
    world.order(&Command::Unfreeze { fleet: None }).unwrap();
    let endless = freeze(&world, FreezeScope::New, None);
    world.order(&endless).unwrap();
    let order = freeze(&world, FreezeScope::New, Some(600));
    assert!(world.order(&order).is_err());
}
