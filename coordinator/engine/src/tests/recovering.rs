//! A run that is behind the world: it looks, tells nobody anything, and waits for a person.

use calvin_model::{Generation, Health, Role};

use super::*;
use crate::{
    ports::{AgentHeard, MachineTag, Recovering},
    recover::{Approval, MARGIN, RecoveryRefusal, Verdict, WhatBlocks},
};

fn epoch(number: u64) -> Epoch {
    Epoch {
        number,
        run: "bb".parse().unwrap(),
    }
}

fn hear(world: &mut Fake, number: u64, seen: u64, generation: u64) {
    let heard = AgentHeard {
        age: Duration::ZERO,
        fleet: fleet_name(),
        epoch: Some(epoch(seen)),
        generation: Generation(generation),
        role: Some(Role::Active),
        health: Health::Healthy,
        manifest: calvin_model::Digest::from_sha256([7; 32]),
        build: None,
    };
    world.heard.insert(id(number), heard);
    let tag = MachineTag {
        fleet: fleet_name(),
        image: build().image,
        epoch: 0,
    };
    world.tags.insert(id(number), tag);
}

/// A store of two, restored into a world of two others.
fn restored() -> Fake {
    let mut world = Fake::new(fleets(&[Life::Up, Life::Up]));
    world.stored.recovering = Some(Recovering {
        reason: "it was adopted".to_owned(),
        since_wall_ms: 5,
    });
    hear(&mut world, 8, 9, 4);
    hear(&mut world, 9, 9, 4);
    world.list(&[
        (&id(8), MachineState::Running, Some(address(8))),
        (&id(9), MachineState::Running, Some(address(9))),
    ]);
    world
}

fn approval(plan: &str) -> Approval {
    Approval {
        plan: plan.to_owned(),
        reason: "the disk was lost".to_owned(),
        blocked: WhatBlocks::Refuses,
    }
}

fn plan_id(engine: &Engine<&mut Fake>) -> String {
    engine
        .view()
        .recovery
        .as_ref()
        .unwrap()
        .difference
        .id
        .clone()
}

#[test]
fn a_run_that_recovers_makes_deletes_and_tells_nothing_and_its_time_stands_still() {
    let mut world = restored();
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    for _ in 0..20 {
        engine.ports_mut().forward(250);
        assert_eq!(engine.pass(), PassOutcome::Held);
    }
    let view = engine.view();
    assert_eq!(view.moment, Moment { ms: 50_000 });
    assert!(
        view.held
            .as_ref()
            .unwrap()
            .reason
            .contains("it was adopted")
    );
    assert!(view.notices.is_empty(), "{:?}", view.notices);
    let difference = &view.recovery.as_ref().unwrap().difference;
    assert_eq!(difference.count(Verdict::Adopt), 2);
    assert_eq!(engine.ports_mut().take_calls(), ["listen"]);
    assert_eq!(engine.ports_mut().published, 0);
}

#[test]
fn an_approved_plan_is_one_commit_after_which_the_run_decides_above_all_numbers() {
    let mut world = restored();
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    engine.pass();
    let plan = plan_id(&engine);
    let commits = engine.ports_mut().commits;
    let lines = engine.approve_recovery(&approval(&plan), "ann").unwrap();
    assert!(
        lines.iter().any(|line| line.starts_with("2 taken")),
        "{lines:?}"
    );
    assert_eq!(engine.ports_mut().commits, commits + 1);
    assert_eq!(engine.epoch().number, 9 + MARGIN);
    assert!(engine.view().recovery.is_none());
    engine.ports_mut().forward(250);
    assert!(matches!(engine.pass(), PassOutcome::Decided { .. }));
    let calls = engine.ports_mut().take_calls();
    assert!(calls.contains(&"admit 2".to_owned()), "{calls:?}");
    assert!(
        !calls.iter().any(|call| call.starts_with("delete")
            || call.starts_with("create")
            || call.starts_with("revoke")),
        "{calls:?}"
    );
    assert!(calls.contains(&"roles web 2".to_owned()), "{calls:?}");
    let stored = &world.stored;
    assert_eq!(stored.recovering, None);
    assert_eq!(stored.epoch.as_ref().unwrap().number, 9 + MARGIN);
    assert!(stored.fleets[&fleet_name()].instances.contains_key(&id(8)));
    let told = world.history.iter().map(|line| line.event.text.as_str());
    let told: Vec<&str> = told.collect();
    assert!(
        told.iter()
            .any(|text| text.contains("the disk was lost") && text.contains(&plan)),
        "{told:?}"
    );
}

#[test]
fn an_approval_of_a_plan_that_no_longer_holds_is_refused_with_what_has_changed() {
    let mut world = restored();
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    engine.pass();
    let plan = plan_id(&engine);
    engine.ports_mut().heard.remove(&id(8));
    let error = engine
        .approve_recovery(&approval(&plan), "ann")
        .unwrap_err();
    let text = error.to_string();
    let CommandError::Recovery(RecoveryRefusal::PlanChanged { .. }) = error else {
        panic!("{text}")
    };
    assert!(text.contains("no longer: adopt"), "{text}");
    assert!(engine.view().recovery.is_some());
}

#[test]
fn only_orders_that_change_what_is_wanted_are_taken_meanwhile() {
    let mut world = restored();
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    engine.pass();
    let start = Command::StartRollout {
        fleet: fleet_name(),
        build: build(),
        plan: None,
        emergency: None,
    };
    let error = engine.command(&start, "ann").unwrap_err();
    assert!(matches!(error, CommandError::Recovering { .. }), "{error}");
    let before = plan_id(&engine);
    let scale = Command::Scale {
        fleet: fleet_name(),
        count: 3,
    };
    drop(engine.command(&scale, "ann").unwrap());
    engine.pass();
    assert_ne!(plan_id(&engine), before);
    assert_eq!(engine.ports_mut().take_calls(), ["listen"]);
}

#[test]
fn one_that_hears_of_an_epoch_it_never_spoke_stops_deciding_also_after_its_next_start() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    world.list(&[(&id(0), MachineState::Running, Some(address(0)))]);
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    assert!(matches!(engine.pass(), PassOutcome::Decided { .. }));
    hear(engine.ports_mut(), 0, 5, 1);
    engine.ports_mut().take_calls();
    assert_eq!(engine.pass(), PassOutcome::Held);
    assert_eq!(engine.ports_mut().take_calls(), ["listen"]);
    let view = engine.view();
    let held = view.held.as_ref().unwrap();
    assert!(held.reason.contains("epoch 5"), "{}", held.reason);
    drop(engine);
    world.heard.clear();
    let mut again = Engine::start(&mut world, run(), 8).unwrap();
    assert_eq!(again.pass(), PassOutcome::Held);
    assert!(again.view().recovery.is_some());
}

#[test]
fn a_higher_generation_than_was_ever_given_is_being_behind_as_well() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    hear(&mut world, 0, 1, 2);
    world.heard.get_mut(&id(0)).unwrap().epoch = None;
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    assert_eq!(engine.pass(), PassOutcome::Held);
}

#[test]
fn a_machine_that_was_made_in_a_later_epoch_is_being_behind_as_well() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    let tag = MachineTag {
        fleet: fleet_name(),
        image: build().image,
        epoch: 6,
    };
    world.tags.insert(id(0), tag);
    world.list(&[(&id(0), MachineState::Running, Some(address(0)))]);
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    assert_eq!(engine.pass(), PassOutcome::Held);
    let view = engine.view();
    assert!(view.held.as_ref().unwrap().reason.contains("epoch 6"));
}

#[test]
fn a_number_out_of_this_world_stops_nobody() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    hear(&mut world, 0, u64::MAX, u64::MAX);
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    assert!(matches!(engine.pass(), PassOutcome::Decided { .. }));
}

#[test]
fn an_approval_whose_commit_failed_although_it_was_written_is_in_effect_after_the_next_look() {
    let mut world = restored();
    let mut engine = Engine::start(&mut world, run(), 7).unwrap();
    engine.pass();
    let plan = plan_id(&engine);
    engine.ports_mut().disk = Disk::FailsAfterwards;
    let error = engine
        .approve_recovery(&approval(&plan), "ann")
        .unwrap_err();
    assert!(matches!(error, CommandError::NotCommitted(_)), "{error}");
    engine.ports_mut().disk = Disk::Works;
    engine.ports_mut().forward(1_000);
    engine.pass();
    assert!(engine.view().recovery.is_none());
    assert_eq!(engine.epoch().number, 9 + MARGIN);
}
