//! What the engine does with a plan, in a world in which everything can be put in order by hand.

mod away;
mod fake;
mod names;
mod recovering;

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{CatalogueRole, Epoch, RunId};
use calvin_planner::{
    Action, Command, DeleteBasis, Event, EventKind, FleetPlan, Life, MachineState, Moment, Next,
    Plan,
};

use self::fake::*;
use crate::{
    command::CommandError,
    engine::{Engine, PassOutcome},
    ports::{AgentSeen, Revision},
    view::Notice,
};

fn run() -> RunId {
    "aa".parse().unwrap()
}

fn start(world: &mut Fake, script: Script) -> Engine<&mut Fake, Script> {
    Engine::start_with(world, script, run(), 7).unwrap()
}

fn plan_of(next: Next, actions: Vec<Action>) -> Plan {
    let fleet = FleetPlan {
        next,
        actions,
        ..FleetPlan::default()
    };
    Plan {
        fleets: BTreeMap::from([(fleet_name(), fleet)]),
        ..Plan::default()
    }
}

fn create(number: u64) -> Action {
    Action::CreateMachine {
        zone: None,
        instance: id(number),
        fleet: fleet_name(),
        build: build(),
        provider: "process".into(),
    }
}

fn delete(number: u64, basis: DeleteBasis) -> Action {
    Action::DeleteMachine {
        instance: id(number),
        provider: "process".into(),
        basis,
    }
}

fn roles(numbers: &[u64]) -> Action {
    let roles = numbers.iter().map(|n| (id(*n), CatalogueRole::Active));
    Action::SetRoles {
        fleet: fleet_name(),
        roles: roles.collect(),
    }
}

fn change(lives: &[Life]) -> Next {
    Next::Change(Box::new(fleet(lives)))
}

#[test]
fn a_start_takes_the_next_epoch_and_goes_on_from_the_stored_moment() {
    let mut world = Fake::new(fleets(&[]));
    world.stored.epoch = Some(Epoch {
        number: 4,
        run: "bb".parse().unwrap(),
    });
    let engine = start(&mut world, Script::default());
    assert_eq!(engine.view().moment, Moment { ms: 50_000 });
    let epoch = Epoch {
        number: 5,
        run: run(),
    };
    assert_eq!(engine.epoch(), &epoch);
    drop(engine);
    assert_eq!(world.stored.epoch, Some(epoch));
    assert_eq!(world.calls, [""; 0]);
}

#[test]
fn a_start_without_a_durable_epoch_is_none() {
    let mut world = Fake::new(fleets(&[]));
    world.disk = Disk::FailsAfterwards;
    let error = Engine::start_with(&mut world, Script::default(), run(), 7).unwrap_err();
    assert_eq!(error.to_string(), "could not take epoch 1");
}

#[test]
fn nothing_is_acted_on_that_was_not_committed() {
    let mut world = Fake::new(fleets(&[]));
    let plan = plan_of(change(&[Life::Making]), vec![create(0)]);
    let mut engine = start(&mut world, Script::of([plan.clone(), plan]));
    engine.ports_mut().disk = Disk::Fails;
    assert_eq!(engine.pass(), PassOutcome::Held);
    assert!(engine.ports_mut().calls.is_empty());
    let held = engine.view().held.clone().unwrap();
    assert_eq!(
        held.reason,
        "could not write the store: no space left on device"
    );
    assert!(!held.stopped);
    assert!(engine.view().fleets[&fleet_name()].instances.is_empty());

    // The disk works again: not tried before the pause is over, then decided anew.
    engine.ports_mut().disk = Disk::Works;
    engine.ports_mut().forward(200);
    assert_eq!(engine.pass(), PassOutcome::Held);
    engine.ports_mut().forward(50);
    let decided = PassOutcome::Decided {
        changed: true,
        actions: 1,
    };
    assert_eq!(engine.pass(), decided);
    assert!(engine.view().held.is_none());
    let calls = engine.ports_mut().take_calls();
    assert!(calls.contains(&format!("create {}", id(0))), "{calls:?}");
}

#[test]
fn the_clock_stands_still_while_held() {
    let mut world = Fake::new(fleets(&[]));
    let plan = plan_of(change(&[Life::Making]), vec![]);
    let mut engine = start(&mut world, Script::of([plan]));
    engine.ports_mut().forward(250);
    engine.ports_mut().disk = Disk::Fails;
    engine.pass();
    for _ in 0..40 {
        engine.ports_mut().forward(250);
        assert_eq!(engine.pass(), PassOutcome::Held);
    }
    engine.ports_mut().disk = Disk::Works;
    engine.ports_mut().forward(5_000);
    engine.pass();
    engine.ports_mut().forward(250);
    engine.pass();
    assert_eq!(engine.view().moment, Moment { ms: 50_500 });
}

#[test]
fn a_commit_that_became_durable_although_it_failed_is_found_and_gone_on_from() {
    let mut world = Fake::new(fleets(&[]));
    let plan = plan_of(change(&[Life::Making]), vec![create(0)]);
    let again = plan_of(Next::Same, vec![create(0)]);
    let mut engine = start(&mut world, Script::of([plan, again]));
    engine.ports_mut().disk = Disk::FailsAfterwards;
    assert_eq!(engine.pass(), PassOutcome::Held);
    assert!(engine.ports_mut().calls.is_empty());
    engine.ports_mut().disk = Disk::Works;
    engine.ports_mut().forward(250);
    engine.pass();
    assert_eq!(engine.view().fleets[&fleet_name()].instances.len(), 1);
    let calls = engine.ports_mut().take_calls();
    assert!(calls.contains(&format!("create {}", id(0))), "{calls:?}");
}

#[test]
fn who_stood_still_before_its_first_pass_asks_its_store_before_it_acts() {
    let mut world = Fake::new(fleets(&[Life::Making]));
    let same = plan_of(Next::Same, vec![create(0)]);
    let mut engine = start(&mut world, Script::of([same]));
    engine.ports_mut().stored.revision = Revision(9);
    engine.ports_mut().forward(16_000);
    assert_eq!(engine.pass(), PassOutcome::Stopped);
    let calls = engine.ports_mut().take_calls();
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn another_writer_ends_this_run_for_good() {
    let mut world = Fake::new(fleets(&[]));
    let plan = plan_of(change(&[Life::Making]), vec![create(0)]);
    let mut engine = start(&mut world, Script::of([plan.clone(), plan]));
    engine.ports_mut().stored.revision = Revision(9);
    engine.ports_mut().stored.epoch = Some(Epoch {
        number: 4,
        run: "bb".parse().unwrap(),
    });
    assert_eq!(engine.pass(), PassOutcome::Stopped);
    let held = engine.view().held.clone().unwrap();
    assert!(held.stopped);
    assert!(held.reason.contains("epoch 4 (run bb)"), "{held:?}");
    engine.ports_mut().forward(60_000);
    assert_eq!(engine.pass(), PassOutcome::Stopped);
    assert!(engine.ports_mut().calls.is_empty());
}

#[test]
fn a_store_taken_over_during_a_hold_ends_this_run_for_good() {
    let mut world = Fake::new(fleets(&[]));
    let plan = plan_of(change(&[Life::Making]), vec![]);
    let mut engine = start(&mut world, Script::of([plan]));
    engine.ports_mut().disk = Disk::Fails;
    engine.pass();
    engine.ports_mut().disk = Disk::Works;
    engine.ports_mut().stored.epoch.as_mut().unwrap().number += 1;
    engine.ports_mut().forward(250);
    assert_eq!(engine.pass(), PassOutcome::Stopped);
}

#[test]
fn a_machine_is_deleted_only_on_the_committed_basis() {
    let lives = [
        Life::Up,
        Life::Retiring(DeleteBasis::Lost),
        Life::Retiring(DeleteBasis::Replaced),
    ];
    let mut world = Fake::new(fleets(&lives));
    let actions = [0, 1, 2, 3].map(|number| delete(number, DeleteBasis::Replaced));
    let plan = plan_of(Next::Same, actions.to_vec());
    let mut engine = start(&mut world, Script::of([plan]));
    engine.pass();
    let mut calls = engine.ports_mut().take_calls();
    calls.retain(|call| call.starts_with("delete"));
    assert_eq!(calls, [format!("delete {} replaced", id(2))]);
    let view = engine.view();
    let refused = view.notices.iter().filter(|notice| match notice {
        Notice::Refused { .. } => true,
        Notice::Breach(_)
        | Notice::Stray { .. }
        | Notice::Doubled { .. }
        | Notice::Alarm { .. }
        | Notice::NoProvider { .. }
        | Notice::NoManifest { .. }
        | Notice::NotPublished(_) => false,
    });
    assert_eq!(refused.count(), 3);
}

#[test]
fn a_machine_that_is_finished_after_its_record_is_gone_is_shown_and_left_alone() {
    let mut world = Fake::new(fleets(&[Life::Retiring(DeleteBasis::NeverHealthy)]));
    let gone = plan_of(change(&[]), vec![]);
    let mut engine = start(&mut world, Script::of([gone]));
    engine.pass();
    let late = (&id(0), MachineState::Running, Some(address(9)));
    engine.ports_mut().list(&[late]);
    engine.ports_mut().take_calls();
    engine.ports_mut().forward(250);
    engine.pass();
    let view = engine.view();
    let shown: Vec<String> = view.notices.iter().map(ToString::to_string).collect();
    let text = shown.iter().find(|text| text.contains(id(0).as_str()));
    let text = text.unwrap_or_else(|| panic!("{shown:?}"));
    assert!(text.contains("finished it after it was given up; it is left alone"));
    let calls = engine.ports_mut().take_calls();
    assert!(!calls.iter().any(|call| call.starts_with("delete")));
}

#[test]
fn a_machine_is_made_only_with_a_committed_intent_of_that_image() {
    let lives = [Life::Making, Life::Retiring(DeleteBasis::Lost)];
    let mut world = Fake::new(fleets(&lives));
    let mut other = build();
    other.services = false;
    let wrong = Action::CreateMachine {
        zone: None,
        instance: id(0),
        fleet: fleet_name(),
        build: other,
        provider: "process".into(),
    };
    let plan = plan_of(Next::Same, vec![create(1), create(2), wrong, create(0)]);
    let mut engine = start(&mut world, Script::of([plan]));
    engine.pass();
    let mut calls = engine.ports_mut().take_calls();
    calls.retain(|call| call.starts_with("create"));
    assert_eq!(calls, [format!("create {}", id(0))]);
}

#[test]
fn a_machine_that_nobody_intended_is_shown_and_left_alone() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    world.list(&[
        (&id(0), MachineState::Running, Some(address(1))),
        (&id(9), MachineState::Running, Some(address(2))),
    ]);
    let mut engine = start(&mut world, Script::default());
    engine.pass();
    let view = engine.view();
    assert_eq!(view.notices.len(), 1);
    assert!(view.notices[0].to_string().contains(id(9).as_str()));
    assert!(!view.observed.instances.contains_key(&id(9)));
    let calls = engine.ports_mut().take_calls();
    assert!(!calls.iter().any(|call| call.starts_with("delete")));
}

#[test]
fn two_machines_with_one_tag_are_shown() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    let one = (&id(0), MachineState::Running, Some(address(1)));
    world.list(&[one, one]);
    let mut engine = start(&mut world, Script::default());
    engine.pass();
    assert!(
        engine.view().notices[0]
            .to_string()
            .starts_with("2 machines")
    );
}

#[test]
fn of_two_machines_with_one_tag_clients_are_told_that_from_which_the_agent_came() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    let both = [1, 2].map(|last| Some(address(last)));
    let both = both.map(|address| (MachineState::Running, address));
    let both = both.map(|(state, address)| (id(0), state, address));
    let list: Vec<_> = both
        .iter()
        .map(|(id, state, at)| (id, *state, *at))
        .collect();
    world.list(&list);
    let mut engine = start(&mut world, Script::default());
    let machine = |engine: &mut Engine<&mut Fake, Script>| {
        engine.pass();
        engine.view().observed.instances[&id(0)].machine.unwrap()
    };
    assert_eq!(machine(&mut engine).address, None, "nobody knows which");
    let seen = AgentSeen {
        from: Some(address(2)),
        ..AgentSeen::default()
    };
    engine.ports_mut().seen.insert(id(0), seen);
    assert_eq!(machine(&mut engine).address, Some(address(2)));
    // Its session is over, and nothing else is known: it is where it was.
    engine.ports_mut().seen.clear();
    assert_eq!(machine(&mut engine).address, Some(address(2)));
}

#[test]
fn agents_and_probes_are_told_only_what_is_new() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    let mut engine = start(&mut world, Script::default());
    engine.pass();
    let first = ["admit 1", "watch 0", "hide 0"];
    assert_eq!(engine.ports_mut().take_calls(), first);
    engine.pass();
    assert!(engine.ports_mut().calls.is_empty());
    let seen = (&id(0), MachineState::Running, Some(address(1)));
    engine.ports_mut().list(&[seen]);
    engine.pass();
    assert_eq!(engine.ports_mut().take_calls(), ["watch 1"]);
    let target = engine.ports_mut().targets[&id(0)][0].clone();
    assert_eq!(target.address.to_string(), "127.0.7.1:80");
    assert_eq!(target.http_path.as_deref(), Some("/health"));
}

#[test]
fn the_moment_is_committed_every_five_seconds_also_when_nothing_changes() {
    let mut world = Fake::new(fleets(&[]));
    let mut engine = start(&mut world, Script::default());
    for _ in 0..80 {
        engine.ports_mut().forward(250);
        engine.pass();
    }
    drop(engine);
    assert_eq!(world.commits, 1 + 4);
    assert_eq!(world.stored.moment, Moment { ms: 70_000 });
}

#[test]
fn events_go_into_the_history_with_the_state_that_they_are_about() {
    let mut world = Fake::new(fleets(&[]));
    let event = Event {
        fleet: Some(fleet_name()),
        instance: Some(id(0)),
        kind: EventKind::InstanceIntended,
        text: "intended".into(),
    };
    let mut plan = plan_of(change(&[Life::Making]), vec![]);
    plan.fleets.get_mut(&fleet_name()).unwrap().events = vec![event.clone()];
    let mut engine = start(&mut world, Script::of([plan]));
    engine.pass();
    drop(engine);
    assert_eq!(world.commits, 2);
    assert_eq!(world.history.len(), 1);
    assert_eq!(world.history[0].event, event);
    assert_eq!(world.history[0].who, "planner");
}

#[test]
fn after_a_gap_no_silence_is_older_than_the_gap() {
    let mut world = Fake::new(fleets(&[]));
    let mut engine = start(&mut world, Script::default());
    engine.ports_mut().forward(1_000);
    engine.pass();
    engine.ports_mut().forward(600_000);
    engine.pass();
    let seen = engine.decide.seen.borrow().clone();
    assert_eq!(
        seen,
        [
            (Moment { ms: 51_000 }, Duration::from_secs(1)),
            (Moment { ms: 53_000 }, Duration::ZERO),
        ]
    );
}

fn scale(count: u32) -> Command {
    Command::Scale {
        fleet: fleet_name(),
        count,
    }
}

#[test]
fn an_order_is_durable_and_shown_when_it_is_taken() {
    let mut world = Fake::new(fleets(&[]));
    let mut engine = start(&mut world, Script::default());
    let taken = engine.command(&scale(7), "alice").unwrap();
    assert_eq!(taken.lines.len(), 1);
    assert_eq!(engine.view().fleets[&fleet_name()].spec.count, 7);
    drop(engine);
    assert_eq!(world.stored.fleets[&fleet_name()].spec.count, 7);
    assert_eq!(world.history[0].who, "alice");
}

#[test]
fn an_order_that_was_not_committed_changes_nothing() {
    let mut world = Fake::new(fleets(&[]));
    let mut engine = start(&mut world, Script::default());
    engine.ports_mut().disk = Disk::Fails;
    let error = engine.command(&scale(7), "alice").unwrap_err();
    assert!(matches!(error, CommandError::NotCommitted(_)), "{error}");
    assert_eq!(engine.view().fleets[&fleet_name()].spec.count, 2);
    // From now on the engine holds, and says so to everybody who orders.
    let error = engine.command(&scale(7), "alice").unwrap_err();
    assert!(matches!(error, CommandError::Held { .. }), "{error}");
    engine.ports_mut().disk = Disk::Works;
    engine.ports_mut().forward(250);
    assert!(engine.command(&scale(7), "alice").is_ok());
}

#[test]
fn an_order_that_does_not_fit_is_refused_with_the_reason() {
    let mut world = Fake::new(BTreeMap::new());
    let mut engine = start(&mut world, Script::default());
    let error = engine.command(&scale(7), "alice").unwrap_err();
    assert_eq!(error.to_string(), "there is no fleet web");
}

#[test]
fn what_the_catalogue_did_by_itself_is_told_once_however_often_a_commit_fails() {
    let mut world = Fake::new(fleets(&[]));
    let mut engine = start(&mut world, Script::default());
    let fake = engine.ports_mut();
    fake.disk = Disk::Fails;
    fake.deeds.push(Event {
        fleet: Some(fleet_name()),
        instance: Some(id(1)),
        kind: EventKind::Catalogue,
        text: "its token is revoked".to_owned(),
    });
    engine.pass();
    engine.ports_mut().disk = Disk::Works;
    for _ in 0..3 {
        engine.ports_mut().forward(6_000);
        engine.pass();
    }
    drop(engine);
    let lines = world.history.iter();
    let told: Vec<_> = lines
        .filter(|line| line.event.kind == EventKind::Catalogue)
        .map(|line| (line.who.as_str(), line.event.text.as_str()))
        .collect();
    assert_eq!(told, [("catalogue", "its token is revoked")]);
}
