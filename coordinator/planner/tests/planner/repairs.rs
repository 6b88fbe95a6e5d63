//! What happens to instances that are lost, silent or without their agent.

use std::time::Duration;

use calvin_model::InstanceId;
use calvin_planner::{Action, InstanceClass, Phase};

use crate::world::World;

fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world
}

fn ids(world: &World) -> Vec<InstanceId> {
    world.web().instances.keys().cloned().collect()
}

fn deletes(world: &World) -> usize {
    let actions = world.actions.iter();
    actions
        .filter(|action| matches!(action, Action::DeleteMachine { .. }))
        .count()
}

#[test]
fn a_machine_that_is_gone_is_replaced_and_the_others_are_not_touched() {
    let mut world = served("count = 3");
    let before = ids(&world);
    world.kill_machine(&before[0]);
    world.run_until(60, |world| {
        !ids(world).contains(&before[0]) && world.active("1.0").len() == 3
    });
    let after = ids(&world);
    assert!(!after.contains(&before[0]));
    assert!(after.contains(&before[1]) && after.contains(&before[2]));
    assert!(world.tells("is lost"), "{}", world.story());
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn an_agent_that_comes_back_finds_everything_as_it_was() {
    let mut world = served("count = 3");
    let before = ids(&world);
    world.kill_agent(&before[0]);
    world.run_for(Duration::from_secs(60));
    let class = world.report().instances[&before[0]].class;
    assert_eq!(class, InstanceClass::Unmanaged);
    assert_eq!(world.report().serving, 3);
    world.revive_agent(&before[0]);
    world.run_for(Duration::from_secs(5));
    assert_eq!(ids(&world), before);
    assert!(world.is_quiet());
}

#[test]
fn all_agents_gone_with_their_workloads_alive_delete_nothing_however_long() {
    let mut world = served("count = 3");
    let before = ids(&world);
    for id in &before {
        world.kill_agent(id);
    }
    for _ in 0..3_000 {
        world.tick();
        assert_eq!(deletes(&world), 0);
        assert_eq!(world.active("1.0").len(), 3);
    }
    assert_eq!(ids(&world), before);
    assert!(world.tells("UnmanagedOneAtATime"), "{}", world.story());
}

#[test]
fn one_unmanaged_instance_is_replaced_after_its_time_and_serves_until_then() {
    let mut world = served("count = 3\n[repair]\nunmanaged_after = \"60s\"");
    let before = ids(&world);
    world.kill_agent(&before[0]);
    for _ in 0..200 {
        world.tick();
        assert!(world.active("1.0").len() >= 3, "{}", world.story());
    }
    assert!(!ids(&world).contains(&before[0]), "{}", world.story());
    assert_eq!(ids(&world).len(), 3);
}

#[test]
fn a_silent_instance_is_replaced_late_and_only_while_the_others_answer() {
    let mut world = served("count = 3\n[repair]\nsilent_after = \"60s\"");
    let before = ids(&world);
    for id in &before {
        world.cut_path(id);
    }
    world.run_for(Duration::from_secs(300));
    assert_eq!(ids(&world), before, "{}", world.story());
    for id in &before[1..] {
        world.machines.get_mut(id).unwrap().path_cut_at = None;
    }
    world.run_until(200, |world| !ids(world).contains(&before[0]));
    assert_eq!(world.active("1.0").len(), 3);
}
