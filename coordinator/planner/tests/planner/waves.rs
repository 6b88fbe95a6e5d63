//! Waves: how large they are, what leaves first, canaries, and the way back from each.

use std::time::Duration;

use calvin_planner::{Command, DeleteBasis, Life, Phase, WaveOrder, waves_in_all};

use crate::world::{Behaviour, World, web};

const SHORT: &str = "min_healthy = \"3s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                     settle = \"2s\"\nsettle_max = \"8s\"\nbake = \"5s\"\n";

fn served(count: u32, replace: &str) -> World {
    let mut world = World::new();
    world.apply(
        &format!("count = {count}\n[replace]\n{SHORT}{replace}"),
        "1.0",
    );
    world.run_to(Phase::Done);
    world.run_for(Duration::from_secs(5));
    world.peak = 0;
    world
}

/// Runs to the end of the rollout; gives the least that served meanwhile.
fn least_serving(world: &mut World, end: Phase) -> u32 {
    let mut least = u32::MAX;
    world.run_until(2_000, |world| {
        least = least.min(world.report().serving);
        world.phase() == Some(end)
    });
    least
}

#[test]
fn with_no_surge_what_it_replaces_leaves_first_and_nothing_is_on_top() {
    let mut world = served(3, "surge = 0\nunavailable = 1");
    world.start("2.0").unwrap();
    world.tick();
    assert_eq!(world.phase(), Some(Phase::MakingRoom));
    assert_eq!(waves_in_all(world.web()), 3);
    let least = least_serving(&mut world, Phase::Done);
    assert_eq!((least, world.peak), (2, 3), "{}", world.story());
    assert_eq!(world.active("2.0").len(), 3);
    assert!(world.is_quiet());
}

#[test]
fn greens_that_others_made_room_for_bake_like_any_others() {
    let mut world = served(3, "surge = 0\nunavailable = 1");
    world
        .behaviour
        .insert("2.0".to_owned(), Behaviour::FailsWhenActive);
    world.start("2.0").unwrap();
    let least = least_serving(&mut world, Phase::RolledBack);
    assert_eq!(least, 2, "{}", world.story());
    world.run_until(100, |world| world.rests("web"));
    assert_eq!(world.active("1.0").len(), 3);
    assert!(world.is_quiet());
}

#[test]
fn what_makes_room_leaves_only_as_far_as_enough_others_serve() {
    let mut world = served(5, "surge = 0\nunavailable = 2\n[repair]\nmin_serving = 3");
    let sick = world.active("1.0")[4].clone();
    let ill = world.active("1.0")[3].clone();
    world.agent(&sick).forced = Some(calvin_model::Health::Unhealthy);
    world.agent(&ill).forced = Some(calvin_model::Health::Unhealthy);
    world.tick();
    world.start("2.0").unwrap();
    let least = least_serving(&mut world, Phase::Done);
    assert_eq!(least, 3, "{}", world.story());
    // What fails goes first: it is not missed.
    assert!(!world.web().instances.contains_key(&sick));
}

#[test]
fn a_wave_that_would_leave_too_few_waits_and_says_so() {
    let mut world = served(3, "surge = 0\nunavailable = 1");
    world.start("2.0").unwrap();
    world.run_until(500, |world| world.web().rollout.as_ref().unwrap().wave == 1);
    world.run_to(Phase::Provisioning);
    let others: Vec<_> = world.active("1.0");
    world.agent(&others[0]).forced = Some(calvin_model::Health::Unhealthy);
    world.run_for(Duration::from_secs(3));
    let rollout = world.web().rollout.clone().unwrap();
    assert!(!rollout.phase.ended(), "{}", world.story());
    let least = least_serving(&mut world, Phase::Done);
    assert!(least >= 1, "{}", world.story());
}

#[test]
fn going_back_while_room_is_made_makes_the_old_image_whole_again() {
    for phase in [
        Phase::MakingRoom,
        Phase::Provisioning,
        Phase::Soaking,
        Phase::Baking,
    ] {
        let mut world = served(3, "surge = 0\nunavailable = 2");
        world.start("2.0").unwrap();
        world.run_to(phase);
        world.run_for(Duration::from_secs(2));
        let reason = "no".to_owned();
        let fleet = web();
        world.order(&Command::Rollback { fleet, reason }).unwrap();
        let least = least_serving(&mut world, Phase::RolledBack);
        assert!(least >= 1, "{phase}: {}", world.story());
        assert_eq!(world.active("1.0").len(), 3, "{phase}: {}", world.story());
        assert!(world.peak <= 5, "{phase}: {}", world.story());
        assert!(world.is_quiet());
    }
}

#[test]
fn a_fleet_of_one_that_may_be_away_makes_room_for_its_only_green() {
    let mut world = served(1, "surge = 0\nunavailable = 1");
    world.start("2.0").unwrap();
    let least = least_serving(&mut world, Phase::Done);
    assert_eq!((least, world.peak), (0, 1));
    assert_eq!(world.active("2.0").len(), 1);
}

#[test]
fn what_is_lost_while_it_makes_room_is_not_made_again() {
    let mut world = served(3, "surge = 0\nunavailable = 1");
    world.start("2.0").unwrap();
    world.tick();
    let blue = world.web().rollout.as_ref().unwrap().sets.blue[0].clone();
    world.kill_machine(&blue);
    least_serving(&mut world, Phase::Done);
    let repaired = world
        .events
        .iter()
        .filter(|one| one.text.contains("in the place of"));
    assert_eq!(repaired.count(), 0, "{}", world.story());
    assert!(world.is_quiet());
}

#[test]
fn what_does_not_drain_in_time_turns_a_wave_that_makes_room_around() {
    let text = "surge = 0\nunavailable = 1\n[drain]\ntimeout = \"5s\"\non_timeout = \"back\"";
    let mut world = served(3, text);
    for id in world.active("1.0") {
        world.agent(&id).drain_takes = None;
    }
    world.start("2.0").unwrap();
    least_serving(&mut world, Phase::RolledBack);
    assert!(world.tells("is not drained in time"), "{}", world.story());
    assert_eq!(world.active("1.0").len(), 3);
}

#[test]
fn a_canary_goes_first_alone_and_soaks_longer() {
    let mut world = served(5, "surge = 2\ncanary = 1\ncanary_soak = \"30s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let sets = &world.web().rollout.as_ref().unwrap().sets;
    assert_eq!(
        (sets.green.len(), sets.blue.len(), sets.canary),
        (1, 1, true)
    );
    world.run_for(Duration::from_secs(25));
    assert_eq!(world.phase(), Some(Phase::Soaking));
    world.run_until(500, |world| world.web().rollout.as_ref().unwrap().wave == 1);
    world.run_to(Phase::Soaking);
    let sets = &world.web().rollout.as_ref().unwrap().sets;
    assert_eq!((sets.green.len(), sets.canary), (2, false));
    world.run_for(Duration::from_secs(10));
    assert_ne!(world.phase(), Some(Phase::Soaking));
    world.run_to(Phase::Done);
    assert_eq!(world.web().rollout.as_ref().unwrap().wave, 2);
}

#[test]
fn a_bad_image_ends_with_its_canary() {
    let mut world = served(5, "canary = 1\ncanary_soak = \"30s\"");
    world.behaviour.insert("3.0".to_owned(), Behaviour::Broken);
    world.start("3.0").unwrap();
    least_serving(&mut world, Phase::RolledBack);
    assert_eq!(world.peak, 6);
    assert!(world.is_quiet());
}

#[test]
fn a_way_back_keeps_green_while_too_few_of_blue_serve() {
    let mut world = World::new();
    let slow = SHORT.replace("bake = \"5s\"", "bake = \"50s\"");
    world.apply(&format!("count = 4\n[replace]\n{slow}"), "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let blues = world.web().rollout.as_ref().unwrap().sets.blue.clone();
    world.kill_machine(&blues[0]);
    world.kill_machine(&blues[1]);
    world.run_until(40, |world| !world.web().instances.contains_key(&blues[1]));
    let reason = "no".to_owned();
    let fleet = web();
    world.order(&Command::Rollback { fleet, reason }).unwrap();
    let least = least_serving(&mut world, Phase::RolledBack);
    assert_eq!(least, 4, "{}", world.story());
    world.run_until(100, |world| world.rests("web"));
    assert_eq!(world.active("1.0").len(), 4);
}

#[test]
fn what_leaves_to_make_room_leaves_as_replaced() {
    let mut world = served(2, "surge = 0\nunavailable = 1");
    world.start("2.0").unwrap();
    let replaced = Life::Retiring(DeleteBasis::Replaced);
    let any = |world: &World| {
        world
            .web()
            .instances
            .values()
            .any(|one| one.life == replaced)
    };
    world.run_until(100, any);
    let rollout = world.web().rollout.as_ref().unwrap();
    assert_eq!(rollout.sets.order, WaveOrder::RoomFirst);
    assert_eq!(rollout.sets.to_make, 1);
}

#[test]
fn an_earlier_wave_s_green_that_stays_unhealthy_is_the_room_where_no_blue_may_leave() {
    let mut world = served(
        4,
        "surge = 0\nunavailable = 1\n[repair]\nrepair_after = \"30s\"",
    );
    world.start("2.0").unwrap();
    world.run_until(500, |world| world.web().rollout.as_ref().unwrap().wave == 1);
    world.run_to(Phase::Baking);
    let of_wave = world.web().rollout.as_ref().unwrap().sets.green.clone();
    let mut greens = world.active("2.0").into_iter();
    let ill = greens.find(|id| !of_wave.contains(id)).unwrap();
    world.agent(&ill).forced = Some(calvin_model::Health::Unhealthy);
    world.run_to(Phase::MakingRoom);
    let least = least_serving(&mut world, Phase::Done);
    assert_eq!(least, 3, "{}", world.story());
    assert!(!world.web().instances.contains_key(&ill));
    assert_eq!(world.active("2.0").len(), 4);
}
