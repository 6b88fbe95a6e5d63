//! What clients are shown, and when they are shown nothing new.

use calvin_model::CatalogueRole;
use calvin_planner::{Event, EventKind, Life, MachineState, Next, Plan};

use super::{change, fake::*, plan_of, roles, start};
use crate::{
    engine::PassOutcome,
    ports::{NotPublished, Revision},
    view::Notice,
};

#[test]
fn no_entry_is_lost_while_a_provider_has_not_answered_yet() {
    let mut world = Fake::new(fleets(&[Life::Up, Life::Up]));
    let plan = plan_of(Next::Same, vec![roles(&[0, 1])]);
    let mut engine = start(&mut world, Script::of(vec![plan; 9]));
    engine.pass();
    let calls = engine.ports_mut().take_calls();
    assert!(!calls.iter().any(|call| call.starts_with("roles")));
    // The provider answers: one machine is there, the other is gone.
    let seen = (&id(0), MachineState::Running, Some(address(1)));
    engine.ports_mut().list(&[seen]);
    // The other may yet speak: the list is one source, and this run has no second one.
    for _ in 0..3 {
        engine.ports_mut().forward(1_000);
        engine.pass();
        assert!(engine.ports_mut().entries.is_empty());
    }
    engine.ports_mut().forward(1_000);
    engine.pass();
    let entries = &engine.ports_mut().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].address, address(1));
    assert_eq!(entries[0].services[0].port, 80);
}

#[test]
fn nothing_is_published_before_every_fleet_could_be_set() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    let set = plan_of(Next::Same, vec![roles(&[0])]);
    let script = Script::of([Plan::default(), set, Plan::default()]);
    let mut engine = start(&mut world, script);
    engine.pass();
    assert_eq!(engine.ports_mut().published, 0, "no provider has answered");
    let seen = (&id(0), MachineState::Running, Some(address(1)));
    engine.ports_mut().list(&[seen]);
    engine.pass();
    assert_eq!(engine.ports_mut().published, 1);
    // From now on a fleet that must wait does not hold back the others.
    engine.ports_mut().machines.age = None;
    engine.pass();
    assert_eq!(engine.ports_mut().published, 2);
}

#[test]
fn nothing_is_published_from_a_first_list_that_lacks_most_machines() {
    let mut world = Fake::new(fleets(&[Life::Up, Life::Up, Life::Up]));
    // Complete by its own word, and empty: the provider answers before it has read its disk.
    world.list(&[]);
    let set = plan_of(Next::Same, vec![roles(&[0, 1, 2])]);
    let script = Script::of([set.clone(), set.clone(), set]);
    let mut engine = start(&mut world, script);
    engine.pass();
    let one = (&id(0), MachineState::Running, Some(address(1)));
    engine.ports_mut().list(&[one]);
    engine.pass();
    assert_eq!(engine.ports_mut().published, 0);
    assert!(engine.ports_mut().entries.is_empty());
    let other = (&id(1), MachineState::Running, Some(address(2)));
    let third = (&id(2), MachineState::Running, Some(address(3)));
    engine.ports_mut().list(&[one, other, third]);
    engine.pass();
    assert_eq!(engine.ports_mut().published, 1);
    assert_eq!(engine.ports_mut().entries.len(), 3);
}

#[test]
fn machines_that_did_go_do_not_keep_new_ones_from_being_found_for_ever() {
    let mut world = Fake::new(fleets(&[Life::Up, Life::Up, Life::Up]));
    world.list(&[]);
    // As the planner does: no role for what has no machine.
    let set = plan_of(Next::Same, vec![roles(&[])]);
    let silent_after = fleet(&[]).spec.repair.silent_after.0.as_secs();
    let passes = 2 + usize::try_from(silent_after).unwrap();
    let mut engine = start(&mut world, Script::of(vec![set; passes]));
    engine.pass();
    for _ in 0..silent_after {
        engine.ports_mut().forward(1_000);
        engine.pass();
    }
    assert_eq!(engine.ports_mut().published, 0);
    engine.ports_mut().forward(1_000);
    engine.pass();
    assert_eq!(engine.ports_mut().published, 1);
}

#[test]
fn what_the_catalogue_withheld_is_shown_to_clients_while_the_store_is_held() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    world.list(&[(&id(0), MachineState::Running, Some(address(1)))]);
    let set = plan_of(Next::Same, vec![roles(&[0])]);
    let mut more = plan_of(change(&[Life::Up, Life::Making]), vec![]);
    let intended = Event {
        fleet: None,
        instance: Some(id(1)),
        kind: EventKind::InstanceIntended,
        text: "intended".to_owned(),
    };
    let fleet = more.fleets.values_mut().next().unwrap();
    fleet.events.push(intended);
    let mut engine = start(&mut world, Script::of([set, more]));
    engine.pass();
    assert_eq!(engine.ports_mut().published, 1);
    engine.ports_mut().disk = Disk::Fails;
    engine.ports_mut().names_refused = true;
    assert_eq!(engine.pass(), PassOutcome::Held, "the commit failed");
    assert_eq!(engine.ports_mut().published, 2);
    assert_eq!(
        *engine.view().notices,
        [Notice::NotPublished(NotPublished("too many".to_owned()))]
    );
    engine.ports_mut().names_refused = false;
    assert_eq!(engine.pass(), PassOutcome::Held, "not tried again yet");
    assert_eq!(engine.ports_mut().published, 3);
    assert!(engine.view().notices.is_empty());
}

#[test]
fn a_run_that_was_taken_over_shows_clients_nothing_more() {
    let mut world = Fake::new(fleets(&[]));
    let more = plan_of(change(&[Life::Making]), vec![]);
    let mut engine = start(&mut world, Script::of([Plan::default(), more]));
    engine.pass();
    assert_eq!(engine.ports_mut().published, 1);
    engine.ports_mut().stored.revision = Revision(9);
    assert_eq!(engine.pass(), PassOutcome::Stopped);
    assert_eq!(engine.ports_mut().published, 1);
}

#[test]
fn an_entry_keeps_its_address_after_its_machine_is_gone() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    world.list(&[(&id(0), MachineState::Running, Some(address(1)))]);
    let plan = plan_of(Next::Same, vec![roles(&[0])]);
    let mut engine = start(&mut world, Script::of([Plan::default(), plan]));
    engine.pass();
    engine.ports_mut().list(&[]);
    engine.pass();
    assert_eq!(engine.ports_mut().entries[0].address, address(1));
}

#[test]
fn entries_of_an_unrecorded_image_are_left_as_they_are_and_that_is_shown() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    world.list(&[(&id(0), MachineState::Running, Some(address(1)))]);
    world.recorded = false;
    let plan = plan_of(Next::Same, vec![roles(&[0])]);
    let mut engine = start(&mut world, Script::of([plan.clone(), plan]));
    engine.pass();
    let calls = engine.ports_mut().take_calls();
    assert!(!calls.iter().any(|call| call.starts_with("roles")));
    assert!(engine.view().notices[0].to_string().contains("web@1.0"));
    engine.ports_mut().recorded = true;
    engine.pass();
    assert_eq!(engine.ports_mut().entries.len(), 1);
    assert!(engine.view().notices.is_empty());
}

#[test]
fn an_entry_of_an_instance_without_a_record_is_removed() {
    let mut world = Fake::new(fleets(&[Life::Up]));
    world.listed = vec![
        (id(0), CatalogueRole::Active),
        (id(5), CatalogueRole::Standby),
    ];
    let mut engine = start(&mut world, Script::default());
    engine.pass();
    let mut calls = engine.ports_mut().take_calls();
    calls.retain(|call| call.starts_with("ghost"));
    assert_eq!(calls, [format!("ghost {}", id(5))]);
}
