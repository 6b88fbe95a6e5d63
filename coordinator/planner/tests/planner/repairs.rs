//! What happens to instances that are lost, silent or without their agent.

use std::time::Duration;

use calvin_model::{Health, InstanceId};
use calvin_planner::{Action, Command, InstanceClass, MachineState, Phase, RETIRE_GRACE};

use crate::world::{Behaviour, World, ids, served};

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

#[test]
fn a_list_that_lacks_most_machines_at_once_is_not_believed() {
    for services in [true, false] {
        let mut world = World::new();
        world.services = services;
        world.apply("count = 3", "1.0");
        world.run_to(Phase::Done);
        let before = ids(&world);
        let list = |world: &mut World, state| {
            for id in &before {
                world.machines.get_mut(id).unwrap().state = state;
            }
        };
        // As after a restart: no session has come back yet, and the list is empty by mistake.
        list(&mut world, MachineState::Absent);
        world.started_at = world.ms;
        for _ in 0..400 {
            world.tick();
            assert_eq!(deletes(&world), 0, "{}", world.story());
        }
        assert_eq!(ids(&world), before, "{}", world.story());
        assert!(world.tells("ShortListNeedsWitnesses"), "{}", world.story());
        list(&mut world, MachineState::Running);
        world.run_for(Duration::from_secs(10));
        assert_eq!(ids(&world), before);
        assert!(world.is_quiet(), "{}", world.story());
    }
}

#[test]
fn a_list_that_lacks_also_what_is_being_made_is_not_believed() {
    let mut world = served("count = 1");
    let before = ids(&world);
    world.boot_delay_ms = 600_000;
    world.start("2.0").unwrap();
    world.run_until(60, |world| world.machines.len() == 2);
    world.run_for(Duration::from_secs(10));
    // Nothing is heard of the one that serves, and the list is empty by mistake.
    world.cut_path(&before[0]);
    for machine in world.machines.values_mut() {
        machine.state = MachineState::Absent;
        machine.workload_answers = false;
    }
    for _ in 0..100 {
        world.tick();
        assert_eq!(deletes(&world), 0, "{}", world.story());
    }
    assert!(world.tells("ShortListNeedsWitnesses"), "{}", world.story());
    // One that is listed while the other is not is a loss like any other.
    let green = world.machines.iter_mut().find(|(id, _)| **id != before[0]);
    green.unwrap().1.state = MachineState::Running;
    world.run_until(60, |world| world.tells("is lost"));
}

#[test]
fn a_person_replaces_what_a_list_that_is_not_believed_lacks() {
    let mut world = served("count = 3");
    let before = ids(&world);
    for id in &before {
        world.kill_machine(id);
    }
    world.run_for(Duration::from_secs(60));
    assert_eq!(ids(&world), before, "{}", world.story());
    for instance in before.clone() {
        let reason = "the host burned down".to_owned();
        let order = Command::ReplaceInstance { instance, reason };
        world.order(&order).unwrap();
    }
    world.run_until(100, |world| {
        let after = ids(world);
        after.len() == 3 && before.iter().all(|old| !after.contains(old))
    });
    world.run_until(60, |world| world.active("1.0").len() == 3);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn machines_that_never_become_healthy_are_made_again_ever_more_slowly() {
    let mut world = served("count = 2\n[replace]\nhealthy_deadline = \"20s\"");
    let before = ids(&world);
    // What every machine needs is away: new ones cannot become healthy, old ones still are.
    world.behaviour.insert("1.0".to_owned(), Behaviour::Broken);
    for id in &before {
        world.agent(id).forced = Some(Health::Healthy);
    }
    world.kill_machine(&before[0]);
    let made = world.created.len();
    world.run_for(Duration::from_secs(900));
    let made = world.created.len() - made;
    assert!((2..=7).contains(&made), "{made} made in 900 s");
    let waiting = &world.report().waiting;
    assert!(
        waiting
            .iter()
            .any(|one| one.what.contains("before it were given up")),
        "{waiting:?}"
    );
    // Once it is back, the next one is healthy, and the pace is as at first.
    world.behaviour.clear();
    world.run_until(60, |world| world.active("1.0").len() == 2);
    assert!(world.is_quiet(), "{}", world.story());
    assert_eq!(world.web().given_up_in_a_row, 0);
}

#[test]
fn nothing_is_deleted_because_a_catalogue_was_not_read_yet() {
    let mut world = served("count = 3");
    let before = ids(&world);
    world.end_machine(&before[0], MachineState::Stopped);
    world.catalogue_unread = true;
    world.run_until(60, |world| world.tells("is lost"));
    let since = world.ms;
    world.run_until(100, |world| deletes(world) > 0);
    let waited = Duration::from_millis(world.ms - since);
    assert!(waited >= RETIRE_GRACE, "deleted after {waited:?}");
}

#[test]
fn what_was_hidden_stays_so_until_it_is_known_to_serve_again() {
    let mut world = served("count = 3");
    let failing = ids(&world)[0].clone();
    world.agent(&failing).forced = Some(Health::Unhealthy);
    world.run_for(Duration::from_secs(2));
    assert!(world.hidden.contains(&failing));
    // Nothing more is heard of it, and the coordinator is another one.
    world.cut_path(&failing);
    world.machines.get_mut(&failing).unwrap().workload_answers = false;
    world.hidden.clear();
    world.started_at = world.ms;
    for _ in 0..60 {
        world.tick();
        assert!(world.hidden.contains(&failing), "{}", world.story());
    }
    let machine = world.machines.get_mut(&failing).unwrap();
    machine.path_cut_at = None;
    machine.workload_answers = true;
    machine.agent.forced = None;
    world.run_for(Duration::from_secs(2));
    assert!(world.hidden.is_empty());
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn what_failed_is_hidden_again_once_no_more_than_half_fail() {
    let mut world = served("count = 2");
    let both = ids(&world);
    world.agent(&both[0]).forced = Some(Health::Unhealthy);
    world.run_for(Duration::from_secs(2));
    world.cut_path(&both[0]);
    world.machines.get_mut(&both[0]).unwrap().workload_answers = false;
    world.run_for(Duration::from_secs(10));
    assert!(world.hidden.contains(&both[0]));
    // For a moment both fail, so both are shown.
    world.agent(&both[1]).forced = Some(Health::Unhealthy);
    world.tick();
    assert!(world.hidden.is_empty(), "{}", world.story());
    world.agent(&both[1]).forced = None;
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.hidden.iter().collect::<Vec<_>>(), [&both[0]]);
}

#[test]
fn what_fails_stays_visible_while_nothing_is_known_of_the_others() {
    let mut world = served("count = 2");
    let both = ids(&world);
    world.cut_path(&both[0]);
    world.machines.get_mut(&both[0]).unwrap().workload_answers = false;
    world.run_for(Duration::from_secs(10));
    world.agent(&both[1]).forced = Some(Health::Unhealthy);
    for _ in 0..10 {
        world.tick();
        assert!(world.hidden.is_empty(), "{}", world.story());
    }
    let machine = world.machines.get_mut(&both[0]).unwrap();
    machine.path_cut_at = None;
    machine.workload_answers = true;
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.hidden.iter().collect::<Vec<_>>(), [&both[1]]);
}

#[test]
fn those_that_waited_together_are_given_their_time_when_the_first_recovers() {
    let mut world =
        served("count = 8\n[replace]\nhealthy_deadline = \"20s\"\n[repair.meltdown]\ncount = 9");
    let before = ids(&world);
    world.behaviour.insert("1.0".to_owned(), Behaviour::Broken);
    for id in &before {
        world.agent(id).forced = Some(Health::Healthy);
    }
    for id in &before[..3] {
        world.kill_machine(id);
    }
    // Doubled five times, the deadline is more than ten minutes: long after the old one.
    world.run_until(3_600, |world| {
        let state = world.web();
        let mut unproven = state
            .instances
            .values()
            .filter(|one| !one.proven && !one.leaving());
        let old = Duration::from_secs(60);
        state.given_up_in_a_row == 5 && unproven.all(|one| world.now().since(one.created) > old)
    });
    let unproven = |world: &World| -> Vec<InstanceId> {
        let staying = world.staying().into_iter();
        let unproven = staying.filter(|(_, one)| !one.proven);
        unproven.map(|(id, _)| id.clone()).collect()
    };
    let waiting = unproven(&world);
    assert_eq!(waiting.len(), 3, "{}", world.story());
    world.agent(&waiting[0]).forced = Some(Health::Healthy);
    world.run_for(Duration::from_secs(5));
    assert_eq!(unproven(&world), waiting[1..], "{}", world.story());
    world.behaviour.clear();
    world.run_until(60, |world| world.active("1.0").len() == 8);
    assert!(waiting.iter().all(|id| ids(&world).contains(id)));
    assert_eq!(world.web().given_up_in_a_row, 0);
}

#[test]
fn a_machine_that_a_short_list_lacks_is_ordered_away_all_the_same() {
    let mut world = served("count = 3");
    let before = ids(&world);
    // One is on its way out when the list falls short of all.
    let instance = before[0].clone();
    let reason = "it is slow".to_owned();
    world
        .order(&Command::ReplaceInstance { instance, reason })
        .unwrap();
    world.run_until(200, |world| {
        let leaving = &world.web().instances[&before[0]];
        matches!(leaving.life, calvin_planner::Life::Retiring(_))
    });
    for machine in world.machines.values_mut() {
        machine.state = MachineState::Absent;
    }
    let since = world.ms;
    let mut orders = 0;
    world.run_until(200, |world| {
        orders += deletes(world);
        !ids(world).contains(&before[0])
    });
    let took = Duration::from_millis(world.ms - since);
    assert!(took >= RETIRE_GRACE && orders > 10, "{orders} in {took:?}");
}
