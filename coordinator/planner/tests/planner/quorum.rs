//! Quorum fleets: one member leaves at a time, while the others can vote without it.

use std::{collections::BTreeSet, time::Duration};

use calvin_model::{Health, InstanceId};
use calvin_planner::{
    Blocked, Command, EventKind, InvariantId, Life, MachineState, Phase, Purpose,
};

use crate::world::{Behaviour, World, spec, web};

const TIMES: &str = "kind = \"quorum\"\n[replace]\nmin_healthy = \"3s\"\nsettle = \"2s\"\nbake = \"5s\"\n\
                     healthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                     [repair]\nsilent_after = \"30s\"\nunmanaged_after = \"40s\"\n";

fn new_world(count: u32) -> World {
    let mut world = World::new();
    world.apply(&format!("count = {count}\n{TIMES}"), "1.0");
    world.run_to(Phase::Done);
    world
}

fn held(world: &World) -> Option<String> {
    let rule = InvariantId::QuorumOneAtATime.to_string();
    let mut blocked = world.report().blocked.iter().filter(|one| one.rule == rule);
    blocked
        .next()
        .map(|one| format!("{}: {}", one.what, one.fact))
}

/// Members in the order in which they left.
fn left(world: &World) -> Vec<InstanceId> {
    let events = world.events.iter();
    let leaves = events.filter(|event| event.kind == EventKind::InstanceDraining);
    leaves.filter_map(|event| event.instance.clone()).collect()
}

/// Runs to the end of the rollout, and says how many were missing at most.
fn roll(world: &mut World, end: Phase) -> usize {
    let mut most = 0;
    world.run_until(3_600, |world| {
        let instances = world.web().instances.values();
        let leaving = instances.filter(|one| one.leaving()).count();
        most = most.max(leaving);
        world.phase() == Some(end)
    });
    most
}

#[test]
fn members_are_replaced_one_at_a_time_and_the_leader_last() {
    for count in [1, 2, 3, 5] {
        let mut world = new_world(count);
        let olds: BTreeSet<InstanceId> = world.web().instances.keys().cloned().collect();
        let leader = olds.first().cloned().unwrap();
        world.catch_up_ms = 8_000;
        world.start("2.0").unwrap();
        assert_eq!(roll(&mut world, Phase::Done), 1, "{}", world.story());
        let left = left(&world);
        assert_eq!(left.len(), olds.len(), "{}", world.story());
        assert_eq!(left.last(), Some(&leader), "of {count}: {}", world.story());
        assert_eq!(world.active("2.0").len(), olds.len());
        assert!(world.is_quiet());
    }
}

#[test]
fn a_surge_of_the_whole_set_is_one_all_the_same() {
    let mut world = World::new();
    let text =
        format!("count = 3\n{TIMES}").replace("[replace]\n", "[replace]\nsurge = \"100%\"\n");
    world.apply(&text, "1.0");
    world.run_to(Phase::Done);
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    assert_eq!(world.web().instances.len(), 4, "{}", world.story());
    roll(&mut world, Phase::Done);
}

#[test]
fn a_member_whose_own_word_is_missing_holds_the_rollout_and_is_named() {
    let mut world = new_world(3);
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let blue = world.web().rollout.as_ref().unwrap().sets.blue.clone();
    let other = ids.iter().find(|id| !blue.contains(id)).unwrap().clone();
    world.agent(&other).quorum_fails = true;
    world.run_for(Duration::from_secs(3_600));
    assert_eq!(world.phase(), Some(Phase::Baking), "{}", world.story());
    assert_eq!(left(&world), []);
    let text = held(&world).unwrap();
    assert!(
        text.contains(other.as_str()) && text.contains("how many voters"),
        "{text}"
    );
    world.agent(&other).quorum_fails = false;
    roll(&mut world, Phase::Done);
}

#[test]
fn an_unhealthy_other_member_holds_a_wave_before_anything_is_made_for_it() {
    let mut world = new_world(3);
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    for id in &ids[1..] {
        world.agent(id).forced = Some(Health::Unhealthy);
    }
    world.run_for(Duration::from_secs(3));
    world.start("2.0").unwrap();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.web().instances.len(), 3, "{}", world.story());
    let text = held(&world).unwrap();
    assert!(text.contains("not known to be healthy"), "{text}");
    for id in &ids[1..] {
        world.agent(id).forced = None;
    }
    roll(&mut world, Phase::Done);
}

#[test]
fn the_one_that_is_ill_is_replaced_first() {
    let mut world = new_world(3);
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    world.agent(&ids[2]).forced = Some(Health::Unhealthy);
    world.run_for(Duration::from_secs(3));
    world.start("2.0").unwrap();
    roll(&mut world, Phase::Done);
    assert_eq!(left(&world).first(), Some(&ids[2]), "{}", world.story());
}

#[test]
fn a_green_that_never_catches_up_never_serves_and_the_rollout_goes_back() {
    let mut world = new_world(3);
    world.start("2.0").unwrap();
    world.tick();
    world.catch_up_ms = u64::MAX / 2;
    world.run_to(Phase::Switching);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.active("2.0"), []);
    assert!(
        held(&world).unwrap().contains("caught up"),
        "{}",
        world.story()
    );
    world.run_to(Phase::RollingBack);
    // The others have caught up long ago.
    world.catch_up_ms = 0;
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 3);
}

#[test]
fn a_broken_image_is_given_up_while_the_others_vote() {
    let mut world = new_world(3);
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world.start("2.0").unwrap();
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 3);
    assert!(world.is_quiet());
}

#[test]
fn a_lost_member_is_replaced_the_new_one_first() {
    for state in [MachineState::Absent, MachineState::Stopped] {
        let mut world = new_world(3);
        let lost = world.web().instances.keys().next().cloned().unwrap();
        world.end_machine(&lost, state);
        world.catch_up_ms = 10_000;
        world.run_until(60, |world| world.web().instances.len() == 4);
        assert!(!world.web().instances[&lost].leaving(), "{}", world.story());
        world.run_until(120, |world| !world.web().instances.contains_key(&lost));
        assert_eq!(world.active("1.0").len(), 3);
    }
}

#[test]
fn a_member_that_is_lost_in_a_rollout_is_replaced_before_it_goes_on() {
    let mut world = new_world(3);
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let rollout = world.web().rollout.clone().unwrap();
    let mut others = world.web().instances.keys();
    let lost =
        others.find(|id| !rollout.sets.blue.contains(id) && !rollout.sets.green.contains(id));
    let lost = lost.cloned().unwrap();
    world.kill_machine(&lost);
    assert_eq!(roll(&mut world, Phase::Done), 1, "{}", world.story());
    assert_eq!(world.active("2.0").len(), 3);
    assert!(!world.web().instances.contains_key(&lost));
}

#[test]
fn a_member_that_its_wave_would_replace_and_that_is_lost_is_made_again_when_the_wave_goes_back() {
    let mut world = new_world(3);
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    let blue = world.web().rollout.as_ref().unwrap().sets.blue[0].clone();
    world.kill_machine(&blue);
    let reason = "bad".to_owned();
    let fleet = web();
    world.order(&Command::Rollback { fleet, reason }).unwrap();
    world.run_to(Phase::RolledBack);
    world.run_until(600, |world| !world.web().instances.contains_key(&blue));
    assert_eq!(world.active("1.0").len(), 3, "{}", world.story());
}

#[test]
fn a_fleet_that_is_deleted_acts_on_no_record_that_goes_with_it() {
    let mut world = new_world(1);
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    world.run_until(600, |world| !world.fleets.contains_key(&web()));
}

#[test]
fn without_a_quorum_nothing_is_taken_away() {
    let mut world = new_world(3);
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    world.end_machine(&ids[0], MachineState::Stopped);
    world.end_machine(&ids[1], MachineState::Stopped);
    // Without a leader nobody joins, and nobody knows of voters.
    world.agent(&ids[2]).quorum_fails = true;
    world.run_for(Duration::from_secs(3_600));
    for id in &ids {
        assert_eq!(
            world.web().instances[id].life,
            Life::Up,
            "{}",
            world.story()
        );
    }
    assert!(held(&world).is_some(), "{}", world.story());
}

#[test]
fn a_person_s_orders_and_the_count_wait_for_the_same() {
    let mut world = new_world(5);
    let ids: Vec<InstanceId> = world.web().instances.keys().cloned().collect();
    let reason = "it is odd".to_owned();
    for id in &ids[..2] {
        let (instance, reason) = (id.clone(), reason.clone());
        world
            .order(&Command::ReplaceInstance { instance, reason })
            .unwrap();
    }
    let mut most = 0;
    world.run_until(600, |world| {
        let leaving = world
            .web()
            .instances
            .values()
            .filter(|one| one.leaving())
            .count();
        most = most.max(leaving);
        ids[..2]
            .iter()
            .all(|id| !world.web().instances.contains_key(id))
    });
    assert_eq!(most, 1, "{}", world.story());
    world
        .order(&Command::Scale {
            fleet: web(),
            count: 3,
        })
        .unwrap();
    let mut most = 0;
    world.run_until(600, |world| {
        let leaving = world
            .web()
            .instances
            .values()
            .filter(|one| one.leaving())
            .count();
        most = most.max(leaving);
        world.web().instances.len() == 3
    });
    assert_eq!(most, 1, "{}", world.story());
}

#[test]
fn a_fleet_that_is_deleted_needs_no_quorum() {
    let mut world = new_world(3);
    let first = world.web().instances.keys().next().cloned().unwrap();
    world.agent(&first).quorum_fails = true;
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    world.run_until(300, |world| world.fleets.is_empty());
}

#[test]
fn an_image_without_a_quorum_command_is_refused_with_both_keys() {
    let mut world = World::new();
    let mut build = world.build("1.0");
    build.quorum = false;
    let spec = Box::new(spec(&format!("count = 3\n{TIMES}")));
    let refused = world
        .order(&Command::ApplyFleet { spec, build })
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("kind = \"quorum\"") && refused.contains("[quorum]"),
        "{refused}"
    );
}

/// A world of three in which one was lost, and its replacement runs and is not healthy.
fn replaced_in_vain(votes: bool) -> (World, InstanceId, InstanceId) {
    let mut world = new_world(3);
    let lost = world.web().instances.keys().next().cloned().unwrap();
    let olds: BTreeSet<InstanceId> = world.web().instances.keys().cloned().collect();
    world.kill_machine(&lost);
    world.run_until(60, |world| world.machines.len() == 4);
    let new = world.machines.keys().find(|id| !olds.contains(*id));
    let new = new.cloned().unwrap();
    world.agent(&new).forced = Some(Health::Unhealthy);
    world.agent(&new).learns = !votes;
    (world, lost, new)
}

#[test]
fn a_replacement_that_is_never_healthy_and_never_voted_is_made_again() {
    let (mut world, lost, new) = replaced_in_vain(false);
    world.run_until(120, |world| !world.web().instances.contains_key(&new));
    world.run_until(120, |world| !world.web().instances.contains_key(&lost));
    assert_eq!(world.active("1.0").len(), 3, "{}", world.story());
}

#[test]
fn a_replacement_that_is_never_healthy_and_votes_stays_while_the_others_are_too_few() {
    let (mut world, lost, new) = replaced_in_vain(true);
    world.run_for(Duration::from_secs(600));
    for id in [&lost, &new] {
        assert!(!world.web().instances[id].leaving(), "{}", world.story());
    }
    let text = held(&world).unwrap();
    assert!(text.contains("3 voters, 3 needed"), "{text}");
    assert!(text.contains("2 would be left and 3 must"), "{text}");
    world.agent(&new).forced = None;
    world.run_until(120, |world| !world.web().instances.contains_key(&lost));
}

#[test]
fn a_green_that_is_never_healthy_goes_also_where_the_count_has_grown() {
    let mut world = new_world(1);
    world
        .order(&Command::Freeze {
            fleet: None,
            scope: calvin_planner::FreezeScope::New,
            until_wall_ms: None,
            reason: "not now".to_owned(),
        })
        .unwrap();
    world.fleets.get_mut(&web()).unwrap().spec.count = 2;
    world.behaviour.insert("2.0".to_owned(), Behaviour::Broken);
    world
        .order(&Command::StartRollout {
            fleet: web(),
            build: world.build("2.0"),
            plan: None,
            emergency: Some("it burns".to_owned()),
        })
        .unwrap();
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 1, "{}", world.story());
}

#[test]
fn a_rollout_that_waited_while_the_count_grew_is_no_deadlock() {
    let mut world = new_world(2);
    world.start("2.0").unwrap();
    world.tick();
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 4 }).unwrap();
    world.start("3.0").unwrap();
    world.run_until(900, |world| {
        let done = world.phase() == Some(Phase::Done);
        done && world.active("3.0").len() == 4
    });
}

#[test]
fn a_lost_member_that_a_rollout_waits_for_is_not_replaced_in_a_meltdown() {
    let mut world = World::new();
    let text = format!(
        "count = 5\n{TIMES}[repair.meltdown]\ncount = 2\npercent = 40\nwindow = \"60s\"\n\
         [budget]\nin_flight = 1\n"
    );
    world.apply(&text, "1.0");
    world.run_to(Phase::Done);
    world.run_until(60, |world| world.active("1.0").len() == 5);
    // The one place in flight is taken, so the lost one is not made again at once.
    world.boot_delay_ms = 10_000;
    world.start("2.0").unwrap();
    world.tick();
    let blue = world.web().rollout.as_ref().unwrap().sets.blue.clone();
    let others = world
        .active("1.0")
        .into_iter()
        .filter(|id| !blue.contains(id));
    let others: Vec<InstanceId> = others.collect();
    world.kill_machine(&others[0]);
    world.run_until(9, |world| {
        world.web().instances[&others[0]].replace.is_some()
    });
    world.agent(&others[1]).forced = Some(Health::Unhealthy);
    world.run_until(60, |world| world.tells("meltdown"));
    let instead = Purpose::Repair(others[0].clone());
    let made = |world: &World| {
        let mut instances = world.web().instances.values();
        instances.any(|one| one.purpose == instead)
    };
    world.run_until(30, |world| world.phase() != Some(Phase::Provisioning));
    let rule = InvariantId::MeltdownHolds.to_string();
    world.tick();
    assert!(!made(&world), "{}", world.story());
    let blocked = &world.report().blocked;
    let said = |one: &Blocked| one.rule == rule && one.what.contains(others[0].as_str());
    assert!(blocked.iter().any(said), "{}", world.story());
    world.agent(&others[1]).forced = None;
    world.run_until(120, made);
    assert_eq!(roll(&mut world, Phase::Done), 1, "{}", world.story());
}

#[test]
fn a_member_that_drains_stays_until_the_place_of_one_that_dies_meanwhile_is_given_up() {
    let mut world = new_world(3);
    for machine in world.machines.values_mut() {
        machine.agent.drain_takes = Some(Duration::from_secs(20));
    }
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 2 }).unwrap();
    world.run_until(60, |world| !left(world).is_empty());
    let drains = left(&world)[0].clone();
    let dies = world.web().instances.keys().find(|id| **id != drains);
    let dies = dies.cloned().unwrap();
    world.run_for(Duration::from_secs(18));
    world.kill_machine(&dies);
    // Two of three are left, and both are needed.
    world.run_until(300, |world| {
        let instances = &world.web().instances;
        let removed = |id: &InstanceId| {
            let found = instances.get(id).map(|one| &one.life);
            matches!(found, None | Some(Life::Retiring(_)))
        };
        assert!(!removed(&drains) || removed(&dies), "{}", world.story());
        removed(&drains) && removed(&dies)
    });
    world.run_until(300, |world| world.active("1.0").len() == 2);
}

#[test]
fn two_that_drain_do_not_keep_each_other_for_ever() {
    let mut world = new_world(5);
    for machine in world.machines.values_mut() {
        machine.agent.drain_takes = Some(Duration::from_secs(40));
    }
    let fleet = web();
    world.order(&Command::Scale { fleet, count: 4 }).unwrap();
    world.run_until(60, |world| !left(world).is_empty());
    let first = left(&world)[0].clone();
    let second = world.web().instances.keys().find(|id| **id != first);
    let second = second.cloned().unwrap();
    // Ill, it may go beside the one that drains; and then it is well again, and both drain.
    world.agent(&second).forced = Some(Health::Unhealthy);
    let (instance, reason) = (second.clone(), "it is odd".to_owned());
    world
        .order(&Command::ReplaceInstance { instance, reason })
        .unwrap();
    world.run_until(60, |world| left(world).len() == 2);
    world.agent(&second).forced = None;
    world.run_until(300, |world| {
        let instances = &world.web().instances;
        !instances.contains_key(&first) && !instances.contains_key(&second)
    });
    world.run_until(300, |world| world.active("1.0").len() == 4);
}
