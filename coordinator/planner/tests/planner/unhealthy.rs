//! What becomes of instances that stay unhealthy, and of fleets of which too many fail at once.

use std::time::Duration;

use calvin_model::{Health, InstanceId};
use calvin_planner::{
    Action, CheckObserved, Command, DeleteBasis, InvariantId, Life, MachineState, Phase,
};

use crate::world::{Behaviour, Room, World, ids, served, spec, web};

fn ail(world: &mut World, id: &InstanceId) {
    world.agent(id).forced = Some(Health::Unhealthy);
}

fn heal(world: &mut World, id: &InstanceId) {
    world.agent(id).forced = None;
}

fn held_by(world: &World, rule: InvariantId) -> bool {
    let blocked = &world.report().blocked;
    blocked.iter().any(|one| one.rule == rule.to_string())
}

#[test]
fn what_stays_unhealthy_is_replaced_and_the_new_one_serves_first() {
    let mut world = served("count = 3\n[repair]\nrepair_after = \"60s\"");
    let before = ids(&world);
    ail(&mut world, &before[0]);
    world.run_for(Duration::from_secs(55));
    assert_eq!(ids(&world), before, "{}", world.story());
    let waiting = &world.report().waiting;
    assert!(
        waiting.iter().any(|one| one
            .until
            .as_ref()
            .is_some_and(|it| it.1 == "it is replaced")),
        "{waiting:?}"
    );
    world.run_until(60, |world| {
        let old = &world.web().instances[&before[0]];
        if old.leaving() {
            assert_eq!(world.active("1.0").len(), 3, "{}", world.story());
        }
        old.leaving()
    });
    world.run_until(200, |world| !ids(world).contains(&before[0]));
    assert_eq!(ids(&world).len(), 3);
    assert!(world.tells("(unhealthy)"), "{}", world.story());
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn one_that_is_healthy_again_before_its_replacement_serves_stays() {
    let mut world = served("count = 3\n[repair]\nrepair_after = \"60s\"");
    let before = ids(&world);
    world.boot_delay_ms = 60_000;
    world.run_for(Duration::from_secs(60));
    ail(&mut world, &before[0]);
    world.run_until(100, |world| world.tells("is to be replaced (unhealthy)"));
    // A moment of health is no more than a flap.
    heal(&mut world, &before[0]);
    world.run_for(Duration::from_secs(3));
    ail(&mut world, &before[0]);
    world.run_for(Duration::from_secs(3));
    assert!(!world.tells("is kept after all"), "{}", world.story());
    heal(&mut world, &before[0]);
    world.run_until(30, |world| world.tells("is kept after all"));
    world.run_until(200, |world| ids(world) == before);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn nothing_unhealthy_is_replaced_while_a_rollout_runs() {
    let mut world =
        served("count = 3\n[repair]\nrepair_after = \"30s\"\n[replace]\nbake = \"200s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    let blue = world.active("1.0");
    ail(&mut world, &blue[0]);
    world.run_to(Phase::Done);
    assert!(!world.tells("(unhealthy)"), "{}", world.story());
    assert!(blue.iter().all(|id| !ids(&world).contains(id)));
}

#[test]
fn only_so_many_are_replaced_at_a_time() {
    let mut world =
        served("count = 10\n[repair]\nrepair_after = \"30s\"\n[repair.meltdown]\ncount = 11");
    let before = ids(&world);
    for id in &before[..4] {
        ail(&mut world, id);
    }
    world.run_until(60, |world| world.tells("(unhealthy)"));
    for _ in 0..400 {
        let marked = world.web().instances.values();
        let marked = marked.filter(|one| one.replace == Some(DeleteBasis::Unhealthy));
        assert!(marked.count() <= 2, "{}", world.story());
        assert!(world.machines_there() <= 12, "{}", world.story());
        world.tick();
    }
    assert!(before[..4].iter().all(|id| !ids(&world).contains(id)));
    assert!(before[4..].iter().all(|id| ids(&world).contains(id)));
}

#[test]
fn without_room_for_a_new_one_the_unhealthy_one_makes_room_if_nobody_misses_it() {
    let cases = [
        (Room::Enough, 2, true),
        (Room::Enough, 3, false),
        (Room::Refuses(3), 2, true),
        (Room::Refuses(3), 3, false),
    ];
    for (room, least, goes) in cases {
        let text = format!("count = 3\n[repair]\nrepair_after = \"30s\"\nmin_serving = {least}");
        let mut world = served(&text);
        let before = ids(&world);
        // It says how much room it has, or it refuses what is too much.
        world.slots = matches!(room, Room::Enough).then_some(3);
        world.room = room;
        ail(&mut world, &before[0]);
        for _ in 0..400 {
            world.tick();
            assert!(world.active("1.0").len() >= 2, "{}", world.story());
        }
        assert_eq!(!ids(&world).contains(&before[0]), goes, "{}", world.story());
        assert_eq!(world.active("1.0").len(), if goes { 3 } else { 2 });
    }
}

#[test]
fn what_a_fleet_comes_after_is_looked_at_first() {
    let mut world = served("count = 2\n[repair]\nrepair_after = \"30s\"");
    // There is such a fleet, and nothing of it ever served.
    let mut db = spec("count = 1");
    db.name = "db".parse().unwrap();
    db.image = "web@9.0".parse().unwrap();
    world.behaviour.insert("9.0".to_owned(), Behaviour::Broken);
    let build = world.build("9.0");
    let spec = Box::new(db);
    world.order(&Command::ApplyFleet { spec, build }).unwrap();
    world.apply(
        "count = 2\nafter = [\"db\"]\n[repair]\nrepair_after = \"30s\"",
        "1.0",
    );
    let before = ids(&world);
    ail(&mut world, &before[0]);
    world.run_for(Duration::from_secs(100));
    assert_eq!(ids(&world), before, "{}", world.story());
    let waiting = &world.report().waiting;
    assert!(
        waiting.iter().any(|one| one.what.contains("fleet db")),
        "{waiting:?}"
    );
}

#[test]
fn a_fleet_of_which_too_many_fail_at_once_is_held_and_loses_nothing() {
    let text = "count = 6\n[repair]\nrepair_after = \"30s\"\n[repair.meltdown]\nwindow = \"120s\"";
    let mut world = served(text);
    let before = ids(&world);
    for id in &before[..3] {
        ail(&mut world, id);
    }
    world.run_for(Duration::from_secs(110));
    assert_eq!(ids(&world), before, "{}", world.story());
    assert!(
        held_by(&world, InvariantId::MeltdownHolds),
        "{}",
        world.story()
    );
    // No new failure for the whole window: then they are replaced.
    world.run_until(600, |world| {
        before[..3].iter().all(|id| !ids(world).contains(id))
    });
    world.run_until(60, |world| world.active("1.0").len() == 6);
    assert!(world.tells("the meltdown is over"), "{}", world.story());
    assert!(world.is_quiet(), "{}", world.story());
    assert_eq!(world.web().repairs.melted, None);
}

#[test]
fn machines_that_die_in_a_meltdown_are_not_made_again_at_once() {
    let mut world = served("count = 8\n[repair.meltdown]\nwindow = \"100s\"");
    let before = ids(&world);
    for id in &before[..4] {
        world.end_machine(id, MachineState::Stopped);
    }
    let made = world.created.len();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.created.len(), made, "{}", world.story());
    let deletes = world.actions.iter();
    let deletes = deletes.filter(|one| matches!(one, Action::DeleteMachine { .. }));
    assert_eq!(deletes.count(), 0);
    world.run_until(400, |world| world.active("1.0").len() == 8);
    assert!(world.is_quiet(), "{}", world.story());
}

#[test]
fn fleets_of_one_and_two_are_repaired_however_often_they_fail() {
    for count in [1, 2] {
        let text = format!("count = {count}\n[repair]\nrepair_after = \"20s\"");
        let mut world = served(&text);
        for _ in 0..6 {
            let failing = world.active("1.0")[0].clone();
            ail(&mut world, &failing);
            world.run_until(300, |world| !ids(world).contains(&failing));
            world.run_until(60, |world| world.active("1.0").len() == count);
        }
        assert!(!world.tells("meltdown"), "{}", world.story());
    }
}

#[test]
fn what_a_rollout_replaced_counts_in_no_meltdown() {
    let text = "count = 2\n[repair]\nrepair_after = \"20s\"\n[repair.meltdown]\nwindow = \"3600s\"";
    let mut world = served(text);
    for version in ["1.0", "2.0"] {
        if version == "2.0" {
            world.start(version).unwrap();
            world.run_to(Phase::Done);
        }
        // Each of the two places once.
        for failing in world.active(version) {
            ail(&mut world, &failing);
            world.run_until(300, |world| !ids(world).contains(&failing));
            world.run_until(60, |world| world.active(version).len() == 2);
        }
    }
    assert!(!world.tells("meltdown"), "{}", world.story());
}

#[test]
fn a_coordinator_that_was_just_started_cries_no_meltdown() {
    let mut world = served("count = 6");
    let before = ids(&world);
    for id in &before {
        world.cut_path(id);
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
    world.started_at = world.ms;
    world.run_for(Duration::from_secs(700));
    assert!(!world.tells("meltdown"), "{}", world.story());
    assert_eq!(ids(&world), before, "{}", world.story());
}

#[test]
fn most_sessions_that_end_at_once_are_rather_the_coordinators_own_trouble() {
    let mut world = served("count = 5");
    let before = ids(&world);
    // Its network is gone, and the provider says of one that it is off, as it may be.
    for id in &before {
        world.cut_path(id);
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
    world.machines.get_mut(&before[0]).unwrap().state = MachineState::Stopped;
    world.run_for(Duration::from_secs(900));
    assert_eq!(ids(&world), before, "{}", world.story());
    assert!(
        held_by(&world, InvariantId::DistrustHolds),
        "{}",
        world.story()
    );
    // The others come back: now it is one machine's own trouble.
    for id in &before[1..] {
        let machine = world.machines.get_mut(id).unwrap();
        machine.path_cut_at = None;
        machine.workload_answers = true;
    }
    world.run_until(100, |world| !ids(world).contains(&before[0]));
    assert!(before[1..].iter().all(|id| ids(&world).contains(id)));
}

#[test]
fn agents_whom_most_probes_contradict_are_not_taken_at_their_word() {
    let text = "count = 5\n[repair]\nrepair_after = \"30s\"\n[repair.meltdown]\ncount = 9";
    let mut world = served(text);
    let before = ids(&world);
    for id in &before[..3] {
        ail(&mut world, id);
    }
    world.run_for(Duration::from_secs(100));
    assert_eq!(ids(&world), before, "{}", world.story());
    assert!(
        held_by(&world, InvariantId::DistrustHolds),
        "{}",
        world.story()
    );
    // Now the probes say so too.
    for id in &before[..3] {
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
    world.run_until(600, |world| {
        before[..3].iter().all(|id| !ids(world).contains(id))
    });
}

#[test]
fn a_replacement_that_is_never_healthy_leaves_the_unhealthy_one_where_it_is() {
    let text = "count = 3\n[repair]\nrepair_after = \"30s\"\n[replace]\nhealthy_deadline = \"20s\"";
    let mut world = served(text);
    let before = ids(&world);
    ail(&mut world, &before[0]);
    for id in &before[1..] {
        world.agent(id).forced = Some(Health::Healthy);
    }
    world.behaviour.insert("1.0".to_owned(), Behaviour::Broken);
    world.run_for(Duration::from_secs(400));
    assert_eq!(world.web().instances[&before[0]].life, Life::Up);
    assert!(world.web().given_up_in_a_row > 1, "{}", world.story());
    assert!(world.fleets.contains_key(&web()));
}

#[test]
fn an_unhealthy_one_that_is_too_many_makes_room_for_the_rollout_that_replaces_all() {
    let text = "count = 3\n[repair]\nrepair_after = \"20s\"\n[repair.meltdown]\ncount = 9\n\
                [replace]\nsurge = 1\nmin_healthy = \"3s\"";
    let mut world = served(text);
    let before = ids(&world);
    world.slots = Some(4);
    let behaviour = Behaviour::FailsWhenActive;
    world.behaviour.insert("1.0".to_owned(), behaviour);
    for id in &before {
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
    // The replacement of the first fails as well: all room is taken, and all of it by what fails.
    world.run_until(200, |world| world.machines_there() == 4);
    world.run_for(Duration::from_secs(60));
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 3, "{}", world.story());
}

#[test]
fn an_unhealthy_one_says_since_when_until_when_and_on_whose_word() {
    let mut world = served("count = 3\n[repair]\nrepair_after = \"60s\"");
    let id = ids(&world)[0].clone();
    ail(&mut world, &id);
    world.run_for(Duration::from_secs(21));
    let one = world.report().instances[&id].clone();
    let waits = one.waits.unwrap();
    assert_eq!(waits.what, "to be healthy");
    let (left, then) = waits.until.unwrap();
    assert_eq!(waits.since + left, Duration::from_secs(60));
    assert_eq!(then, "it is replaced, when its turn comes");
    assert!(one.rests_on.agent.is_some());
    world.start("2.0").unwrap();
    world.tick();
    let waits = world.report().instances[&id].waits.clone().unwrap();
    assert!(waits.until.unwrap().1.contains("the rollout has ended"));

    let mut world = served("count = 3\n[repair]\nrepair_after = \"20s\"");
    let id = ids(&world)[0].clone();
    world.boot_delay_ms = 30_000;
    ail(&mut world, &id);
    world.run_until(60, |world| world.tells("is to be replaced (unhealthy)"));
    world.tick();
    let waits = world.report().instances[&id].waits.clone().unwrap();
    assert_eq!(waits.what, "another to serve in its place");
}

/// Fails for a moment and is healthy again.
fn flap(world: &mut World, id: &InstanceId) {
    ail(world, id);
    world.run_for(Duration::from_secs(2));
    assert!(world.hidden.contains(id), "{}", world.story());
    heal(world, id);
}

/// How long until clients find one that is healthy again.
fn found_after(world: &mut World, id: &InstanceId) -> u64 {
    let begin = world.ms;
    world.run_until(200, |world| !world.hidden.contains(id));
    (world.ms - begin) / 1_000
}

#[test]
fn one_that_flaps_is_found_again_ever_later_until_it_has_been_healthy_for_long() {
    let mut world = served("count = 3");
    let id = ids(&world)[0].clone();
    let mut after = Vec::new();
    for _ in 0..7 {
        flap(&mut world, &id);
        if after.len() == 3 {
            world.tick();
            let text = "healthy for 40s without a break: it failed 4 times lately";
            assert!(world.says("web", text), "{}", world.story());
            let waits = world.report().instances[&id].waits.clone().unwrap();
            assert_eq!(waits.until.unwrap().1, "clients find it again");
            // Neither silence nor another coordinator brings it back earlier.
            world.kill_agent(&id);
            world.machines.get_mut(&id).unwrap().workload_answers = false;
            world.started_at = world.ms;
            world.run_for(Duration::from_secs(60));
            assert!(world.hidden.contains(&id), "{}", world.story());
            world.machines.get_mut(&id).unwrap().workload_answers = true;
            world.revive_agent(&id);
            flap(&mut world, &id);
        }
        after.push(found_after(&mut world, &id));
    }
    assert_eq!(after, [1, 11, 21, 81, 121, 121, 121], "{}", world.story());
    world.run_for(Duration::from_secs(310));
    assert!(world.web().repairs.flaps.is_empty());
    flap(&mut world, &id);
    assert_eq!(found_after(&mut world, &id), 1);
}

#[test]
fn one_that_flaps_is_found_while_nobody_else_serves() {
    let mut world = served("count = 2");
    let both = ids(&world);
    for _ in 0..3 {
        flap(&mut world, &both[0]);
        found_after(&mut world, &both[0]);
    }
    flap(&mut world, &both[0]);
    world.run_for(Duration::from_secs(2));
    assert!(world.hidden.contains(&both[0]));
    ail(&mut world, &both[1]);
    world.run_for(Duration::from_secs(2));
    assert!(!world.hidden.contains(&both[0]), "{}", world.story());
    assert!(world.hidden.contains(&both[1]), "{}", world.story());
}

#[test]
fn agents_whom_most_checks_of_the_catalogue_contradict_are_not_taken_at_their_word() {
    let text = "count = 5\n[repair]\nrepair_after = \"30s\"\n[repair.meltdown]\ncount = 9";
    let mut world = served(text);
    let before = ids(&world);
    for id in &before[..3] {
        ail(&mut world, id);
        // The probes agree with the agents, the catalogue does not.
        world.machines.get_mut(id).unwrap().workload_answers = false;
    }
    let (age, passing) = (Duration::ZERO, true);
    let all = before.iter().cloned();
    world.checks = all.map(|id| (id, CheckObserved { age, passing })).collect();
    world.run_for(Duration::from_secs(100));
    assert_eq!(ids(&world), before, "{}", world.story());
    assert!(held_by(&world, InvariantId::DistrustHolds));
    let said = "the catalogue's own checks contradict 3 of 5 agents";
    assert!(world.says("web", said), "{}", world.story());
    // What was read long ago contradicts nobody.
    for check in world.checks.values_mut() {
        check.age = Duration::from_secs(60);
    }
    world.run_until(600, |world| {
        before[..3].iter().all(|id| !ids(world).contains(id))
    });
}

#[test]
fn one_that_fails_beside_the_one_that_it_was_made_for_is_one_failure_with_it() {
    // Whatever ids they have: those of each seed come in another order.
    for seed in [10, 20, 30, 40, 50, 60] {
        let mut world = served("count = 2\n[replace]\nmin_healthy = \"30s\"");
        world.seed = seed;
        let instance = ids(&world)[1].clone();
        let reason = "odd".to_owned();
        world
            .order(&Command::ReplaceInstance { instance, reason })
            .unwrap();
        world.run_until(30, |world| ids(world).len() == 3);
        world.run_for(Duration::from_secs(5));
        for id in ids(&world) {
            ail(&mut world, &id);
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.web().repairs.melted, None, "{}", world.story());
    }
}
