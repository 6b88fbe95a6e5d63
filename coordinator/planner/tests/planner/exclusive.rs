//! Exclusive fleets: never two at work, whatever cannot be reached, and how long nobody was.

use std::time::Duration;

use calvin_model::{CatalogueRole, InstanceId, Role, image::Work};
use calvin_planner::{
    Build, Command, FleetState, InvariantId, MachineState, Phase, Refusal, preview,
};

use crate::world::{Behaviour, World, spec, web};

const SPEC: &str = "count = 1\nkind = \"exclusive\"\n[replace]\nmin_healthy = \"3s\"\nsettle = \"2s\"\n\
                    bake = \"5s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                    [repair]\nsilent_after = \"30s\"\nunmanaged_after = \"40s\"\n";

fn new_world() -> World {
    let mut world = World::new();
    world.work = Work::OnActive;
    world.apply(SPEC, "1.0");
    world.run_to(Phase::Done);
    assert_eq!(world.at_work().len(), 1, "{}", world.story());
    world
}

fn the_one_at_work(world: &World) -> InstanceId {
    world.at_work().pop().unwrap()
}

fn held(world: &World) -> Option<String> {
    let rule = InvariantId::ExclusiveNeverTwice.to_string();
    let blocked = world.report().blocked.iter();
    let mut held = blocked.filter(|one| one.rule == rule);
    held.next().map(|one| format!("{}: {}", one.what, one.fact))
}

fn gap(world: &World) -> Option<Duration> {
    let gap = world.web().rollout.as_ref()?.gap?;
    gap.until.map(|_| gap.length(world.now()))
}

#[test]
fn blue_is_stopped_before_green_begins_and_the_gap_is_measured() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    assert_eq!(the_one_at_work(&world), blue, "it works while green soaks");
    world.run_to(Phase::Stopping);
    world.run_to(Phase::Switching);
    // Its entry is gone with its work.
    assert!(!world.at_work().contains(&blue), "{}", world.story());
    assert_eq!(world.active("1.0"), [], "{}", world.story());
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 1, "{}", world.story());
    assert_eq!(world.at_work(), world.active("2.0"));
    let gap = gap(&world).unwrap();
    assert!(
        gap > Duration::ZERO && gap < Duration::from_secs(10),
        "{gap:?}"
    );
    assert!(world.tells("nobody was active for"), "{}", world.story());
}

#[test]
fn a_blue_that_goes_on_working_is_waited_for_without_end() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.agent(&blue).work_goes_on = true;
    world.start("2.0").unwrap();
    world.run_to(Phase::Stopping);
    world.run_for(Duration::from_secs(3_600));
    assert_eq!(world.phase(), Some(Phase::Stopping), "{}", world.story());
    assert_eq!(the_one_at_work(&world), blue);
    let waiting = &world.report().waiting;
    let says = waiting.iter().any(|one| one.what.contains("has stopped"));
    assert!(says, "{waiting:?}");
    world.agent(&blue).work_goes_on = false;
    world.run_to(Phase::Done);
}

#[test]
fn a_blue_that_cannot_be_reached_holds_for_ever_says_so_and_goes_on_when_it_answers() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.cut_path(&blue);
    world.run_to(Phase::Stopping);
    world.run_for(Duration::from_secs(7_200));
    assert_eq!(world.phase(), Some(Phase::Stopping), "{}", world.story());
    assert_eq!(the_one_at_work(&world), blue);
    let text = held(&world).unwrap();
    assert!(
        text.contains(blue.as_str()) && text.contains("power its machine off"),
        "{text}"
    );
    world.machines.get_mut(&blue).unwrap().path_cut_at = None;
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 1);
}

#[test]
fn a_blue_that_cannot_be_reached_goes_on_when_a_person_goes_back() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.cut_path(&blue);
    world.run_to(Phase::Stopping);
    world.run_for(Duration::from_secs(60));
    let reason = "it serves".to_owned();
    world
        .order(&Command::Rollback {
            fleet: web(),
            reason,
        })
        .unwrap();
    world.machines.get_mut(&blue).unwrap().path_cut_at = None;
    world.run_to(Phase::RolledBack);
    assert!(world.is_quiet());
    assert_eq!(the_one_at_work(&world), blue);
    assert_eq!(world.active("1.0"), [blue]);
}

#[test]
fn a_provider_that_says_powered_off_is_word_enough() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.cut_path(&blue);
    world.run_to(Phase::Stopping);
    world.run_for(Duration::from_secs(60));
    assert!(held(&world).is_some());
    world.end_machine(&blue, MachineState::Stopped);
    world.run_to(Phase::Done);
    assert!(world.tells("its provider says"), "{}", world.story());
    assert_eq!(world.active("2.0").len(), 1);
}

#[test]
fn going_back_stops_green_before_blue_begins_again() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let green = the_one_at_work(&world);
    assert_ne!(green, blue);
    let reason = "slow".to_owned();
    world
        .order(&Command::Rollback {
            fleet: web(),
            reason,
        })
        .unwrap();
    world.agent(&green).work_goes_on = true;
    world.run_for(Duration::from_secs(600));
    assert_eq!(the_one_at_work(&world), green, "blue waits for it");
    world.agent(&green).work_goes_on = false;
    world.run_to(Phase::RolledBack);
    assert_eq!(the_one_at_work(&world), blue);
    assert_eq!(world.active("1.0"), [blue]);
    assert!(gap(&world).is_some(), "{}", world.story());
}

#[test]
fn a_green_that_fails_at_work_gives_way_to_blue() {
    let mut world = new_world();
    world
        .behaviour
        .insert("2.0".to_owned(), Behaviour::FailsWhenActive);
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::RolledBack);
    assert!(world.tells("is told to stop its work"), "{}", world.story());
    assert_eq!(world.active("1.0"), [blue]);
    assert!(world.is_quiet());
}

#[test]
fn a_green_that_breaks_while_blue_is_stopped_lets_blue_go_on() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.agent(&blue).work_goes_on = true;
    world.start("2.0").unwrap();
    world.run_to(Phase::Stopping);
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world.run_to(Phase::RolledBack);
    assert_eq!(the_one_at_work(&world), blue);
    assert_eq!(world.active("1.0"), [blue]);
}

#[test]
fn silence_never_replaces_the_one_at_work_and_neither_does_a_lost_agent() {
    for cut in [true, false] {
        let mut world = new_world();
        let one = the_one_at_work(&world);
        if cut {
            world.cut_path(&one);
        } else {
            world.kill_agent(&one);
        }
        world.run_for(Duration::from_secs(7_200));
        assert_eq!(world.staying().len(), 1, "{}", world.story());
        assert_eq!(the_one_at_work(&world), one);
        let text = held(&world).unwrap();
        assert!(text.contains("power its machine off"), "{text}");
    }
}

#[test]
fn one_that_is_lost_by_two_sources_is_made_again() {
    for state in [MachineState::Absent, MachineState::Stopped] {
        let mut world = new_world();
        let one = the_one_at_work(&world);
        world.end_machine(&one, state);
        world.run_until(120, |world| {
            world.active("1.0").len() == 1 && world.at_work().len() == 1
        });
        assert_ne!(the_one_at_work(&world), one);
        world.run_until(120, |world| world.web().instances.len() == 1);
    }
}

#[test]
fn a_person_s_order_to_replace_waits_for_the_stop_like_everything_else() {
    let mut world = new_world();
    let old = the_one_at_work(&world);
    world.cut_path(&old);
    let reason = "it is odd".to_owned();
    let instance = old.clone();
    world
        .order(&Command::ReplaceInstance { instance, reason })
        .unwrap();
    world.run_for(Duration::from_secs(3_600));
    assert_eq!(the_one_at_work(&world), old, "an order is no proof");
    assert_eq!(world.staying().len(), 2, "another is ready");
    assert!(held(&world).is_some(), "{}", world.story());
    world.machines.get_mut(&old).unwrap().path_cut_at = None;
    world.run_until(120, |world| world.web().instances.len() == 1);
    assert_ne!(the_one_at_work(&world), old);
    assert_eq!(world.active("1.0").len(), 1);
}

#[test]
fn one_that_agreed_to_be_replaced_stops_first_then_leaves() {
    let mut world = new_world();
    let old = the_one_at_work(&world);
    let reason = "it is odd".to_owned();
    let instance = old.clone();
    world
        .order(&Command::ReplaceInstance { instance, reason })
        .unwrap();
    world.run_until(120, |world| !world.web().instances.contains_key(&old));
    assert_ne!(the_one_at_work(&world), old);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn what_was_told_to_stop_counts_as_at_work_over_a_restart_of_the_coordinator() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.agent(&blue).work_goes_on = true;
    world.start("2.0").unwrap();
    world.run_to(Phase::Stopping);
    world.cut_path(&blue);
    world.started_at = world.ms + 1_000;
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.phase(), Some(Phase::Stopping), "{}", world.story());
    assert!(world.web().instances[&blue].at_work);
    assert_eq!(the_one_at_work(&world), blue);
}

#[test]
fn an_image_that_works_from_boot_is_refused_with_both_keys() {
    let mut world = World::new();
    let build = world.build("1.0");
    assert_eq!(build.work, Work::Boot);
    let refused = apply(&mut world, SPEC, build).unwrap_err().to_string();
    assert!(
        refused.contains("kind = \"exclusive\"") && refused.contains("work = \"on_active\""),
        "{refused}"
    );
    let mut world = new_world();
    world.work = Work::Boot;
    let refused = world.start("2.0").unwrap_err().to_string();
    assert!(refused.contains("work = \"on_active\""), "{refused}");
}

#[test]
fn a_fleet_does_not_become_exclusive_nor_larger_than_one() {
    let mut world = World::new();
    world.work = Work::OnActive;
    world.apply("count = 1\n", "1.0");
    world.run_to(Phase::Done);
    let build = world.build("1.0");
    let refused = apply(&mut world, SPEC, build).unwrap_err().to_string();
    assert!(refused.contains("kind"), "{refused}");
    let mut world = new_world();
    let refused = world.order(&Command::Scale {
        fleet: web(),
        count: 2,
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("exclusive"), "{refused}");
}

#[test]
fn only_green_and_blue_of_a_switch_stand_by_until_it_is_decided() {
    let mut world = new_world();
    world.start("2.0").unwrap();
    world.run_to(Phase::Switching);
    let state: &FleetState = world.web();
    let idle = state.not_to_serve();
    assert_eq!(idle.len(), 2, "{idle:?}");
    let found = |role| {
        state
            .instances
            .values()
            .filter(move |one| one.catalogue == role)
    };
    assert_eq!(found(CatalogueRole::Active).count(), 0);
    let told = state
        .instances
        .values()
        .filter(|one| one.wanted.role == Role::Active);
    assert!(told.count() <= 1);
}

fn apply(world: &mut World, text: &str, build: Build) -> Result<Vec<String>, Refusal> {
    let spec = Box::new(spec(text));
    world.order(&Command::ApplyFleet { spec, build })
}

#[test]
fn the_preview_tells_of_the_gap_and_of_the_way_back() {
    let mut world = new_world();
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    let plan = preview(world.web(), &world.build("1.0"));
    let remark = plan.remarks.iter().find(|one| one.contains("never two"));
    assert!(
        remark.is_some_and(|one| one.contains("the last time")),
        "{plan:?}"
    );
    let stopping = plan
        .ways_back
        .iter()
        .find(|way| way.phase == Phase::Stopping);
    assert!(stopping.is_some(), "{plan:?}");
}

#[test]
fn where_a_list_is_doubted_an_order_takes_a_standby_for_lost_and_never_the_one_at_work() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.cut_path(&blue);
    let replace = |instance: &InstanceId| Command::ReplaceInstance {
        instance: instance.clone(),
        reason: "it is odd".to_owned(),
    };
    world.order(&replace(&blue)).unwrap();
    world.run_until(30, |world| world.web().instances.len() == 2);
    world.run_for(Duration::from_secs(5));
    let standby = world.web().instances.keys().find(|id| **id != blue);
    let standby = standby.cloned().unwrap();
    world.kill_machine(&blue);
    world.kill_machine(&standby);
    // Two of two are missing in the list, which is not believed: nobody knows that the work has stopped.
    for _ in 0..400 {
        world.tick();
        let instances = &world.web().instances;
        assert!(
            instances.contains_key(&blue) && instances.contains_key(&standby),
            "{}",
            world.story()
        );
    }
    world.order(&replace(&standby)).unwrap();
    world.run_until(300, |world| !world.web().instances.contains_key(&standby));
    // One of one is believed.
    world.run_until(300, |world| {
        world.web().instances.len() == 1 && world.active("1.0").len() == 1
    });
}

#[test]
fn one_that_had_finished_before_it_was_kept_finishes_anew_when_it_is_one_too_many() {
    let mut world = new_world();
    world.behaviour.insert("3.0".to_owned(), Behaviour::Broken);
    world.start("2.0").unwrap();
    world.run_to(Phase::Draining);
    let all: Vec<InstanceId> = world.machines.keys().cloned().collect();
    for id in &all {
        world.kill_agent(id);
    }
    world.tick();
    world.start("3.0").unwrap();
    world.run_until(60, |world| world.tells("web-3 starts"));
    for id in &all {
        world.revive_agent(id);
    }
    // It goes back to what is left, and what had drained for the first is one too many.
    world.run_until(900, |world| {
        let state = world.web();
        state.instances.len() == 1 && state.running().is_none() && state.next.is_none()
    });
    assert!(world.tells("web-4 starts"), "{}", world.story());
    assert!(world.tells("the fleet is to have 1"), "{}", world.story());
}

#[test]
fn a_person_can_give_up_what_a_rollout_goes_back_to_where_that_and_green_are_gone() {
    let mut world = new_world();
    let blue = the_one_at_work(&world);
    world.start("2.0").unwrap();
    world.run_to(Phase::Stopping);
    let all: Vec<InstanceId> = world.machines.keys().cloned().collect();
    let replace = Command::ReplaceInstance {
        instance: blue.clone(),
        reason: "its host has burnt".to_owned(),
    };
    for id in &all {
        world.kill_machine(id);
    }
    world.run_to(Phase::RollingBack);
    world.run_for(Duration::from_secs(200));
    // Two of two are missing in the list, which is not believed, and green may be at work.
    assert!(held(&world).is_some(), "{}", world.story());
    assert!(world.web().instances.contains_key(&blue));
    world.order(&replace).unwrap();
    world.run_to(Phase::RolledBack);
    world.run_until(300, |world| {
        world.web().instances.len() == 1 && world.active("1.0").len() == 1
    });
}
