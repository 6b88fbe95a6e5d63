//! What providers do and do not do: refuse, fail to delete, or have two machines of one tag.

use std::time::Duration;

use calvin_model::{InstanceId, image::Work};
use calvin_planner::{
    Action, Command, FaultKind, InvariantId, Life, Next, PlanInput, ProviderFault, plan,
};

use crate::world::{Behaviour, Machine, Room, World, ids, served, web};

fn retiring(world: &mut World) -> InstanceId {
    let instance = ids(world)[0].clone();
    let reason = "it is slow".to_owned();
    let order = Command::ReplaceInstance {
        instance: instance.clone(),
        reason,
    };
    world.order(&order).unwrap();
    world.run_until(300, |world| {
        let deletes = world.actions.iter();
        let mut deletes = deletes.filter(|one| matches!(one, Action::DeleteMachine { .. }));
        let retiring = world.web().instances.get(&instance);
        deletes.next().is_some() && retiring.is_some_and(|it| matches!(it.life, Life::Retiring(_)))
    });
    instance
}

#[test]
fn one_of_two_machines_with_one_tag_is_never_deleted_by_guess_and_a_failed_delete_is_shown() {
    let mut world = served("count = 2");
    let id = retiring(&mut world);
    let mut observed = world.observed();
    let seen = observed.instances.get_mut(&id).unwrap();
    let mut others = ids(&world).into_iter().filter(|other| *other != id);
    let other = others.next().unwrap();
    seen.machine = world.observed().instances[&other].machine;
    seen.revoked = true;
    seen.fault = Some(ProviderFault {
        message: "the hypervisor does not answer".to_owned(),
        tries: 4,
        retry_in: std::time::Duration::from_secs(16),
        permanent: false,
        kind: FaultKind::Other,
    });
    for doubled in [false, true] {
        observed.instances.get_mut(&id).unwrap().doubled = doubled;
        let input = PlanInput {
            now: world.now(),
            seed: 1,
            wall_ms: world.ms,
            environment: &world.environment,
            rules: &world.rules,
            fleets: &world.fleets,
            observed: &observed,
        };
        let planned = plan(&input).fleets.remove(&web()).unwrap();
        let deletes = planned.actions.iter();
        let deletes = deletes.filter(|one| matches!(one, Action::DeleteMachine { .. }));
        assert_eq!(deletes.count(), usize::from(!doubled));
        let rule = InvariantId::OneMachinePerIntent.to_string();
        let held = planned.report.blocked.iter().any(|one| one.rule == rule);
        assert_eq!(held, doubled);
        let says = |text: &str| {
            planned
                .report
                .waiting
                .iter()
                .any(|one| one.what.contains(text))
        };
        assert_eq!(says("does not answer (try 4, again in 16 s)"), !doubled);
        if let Next::Change(after) = &planned.next {
            assert!(after.instances.contains_key(&id));
        }
    }
}

#[test]
fn a_used_up_quota_is_shown_as_one_with_its_next_try() {
    let mut world = served("count = 2");
    world.room = Room::Refuses(2);
    world
        .order(&Command::Scale {
            fleet: web(),
            count: 3,
        })
        .unwrap();
    world.tick();
    world.tick();
    let instances = world.report().instances.values();
    let texts: Vec<&String> = instances.map(|one| &one.text).collect();
    let shown = "no room for it: the quota of 2 machines is used up (try 3, again in 20 s)";
    assert!(texts.iter().any(|text| text.contains(shown)), "{texts:?}");
    world.room = Room::Enough;
    world.run_until(60, |world| world.active("1.0").len() == 3);
}

/// What an instance waits for, for how long still, and what happens then.
fn wait_of(world: &World, id: &InstanceId) -> (String, Duration, String) {
    let wait = world.report().instances[id].waits.clone().unwrap();
    let (left, then) = wait.until.unwrap();
    (wait.what, left, then)
}

#[test]
fn a_create_that_hangs_says_until_when_and_a_machine_that_comes_later_is_left_alone() {
    let mut world = served("count = 2\n[replace]\nhealthy_deadline = \"60s\"");
    let behaviour = Behaviour::NeverMade;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    let olds = ids(&world);
    world.kill_machine(&olds[0]);
    let new = |world: &World| ids(world).into_iter().find(|id| !olds.contains(id));
    world.run_until(60, |world| new(world).is_some());
    world.run_for(Duration::from_secs(10));
    let first = new(&world).unwrap();
    let (what, left, then) = wait_of(&world, &first);
    assert_eq!(what, "its provider to make its machine");
    assert_eq!(then, "it is given up and made again");
    assert!(left <= Duration::from_secs(50), "{left:?}");
    let asked = world.report().instances[&first].clone();
    assert_eq!(asked.since, Duration::from_secs(10));
    assert!(asked.rests_on.list.is_some(), "{asked:?}");

    // The next has twice as long, and says so.
    world.run_until(300, |world| !ids(world).contains(&first));
    let second = new(&world).unwrap();
    let (_, left, _) = wait_of(&world, &second);
    assert!(left > Duration::from_secs(60), "{left:?}");

    // The first comes at last. Nobody has a record of it, so nobody removes it.
    let late = Machine::new(world.ms, "1.0".to_owned(), Work::Boot);
    world.machines.insert(first.clone(), late);
    world.behaviour.remove("1.0");
    for _ in 0..300 {
        world.tick();
        assert!(!world.actions.iter().any(|action| matches!(
            action,
            Action::DeleteMachine { instance, .. } if *instance == first
        )));
    }
    assert!(world.machines.contains_key(&first));
    assert_eq!(world.web().instances.len(), 2, "{}", world.story());
}
