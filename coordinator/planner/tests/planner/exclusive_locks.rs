//! Exclusive fleets whose catalogue has locks: what a lost lock says, and what it does not.

use std::time::Duration;

use calvin_model::{CatalogueRole, InstanceId, image::Work};
use calvin_planner::{Command, Phase};

use crate::world::{LEASE_MS, Lock, World, web};

const SPEC: &str = "count = 1\nkind = \"exclusive\"\n[replace]\nmin_healthy = \"3s\"\nsettle = \"2s\"\n\
                    bake = \"5s\"\nhealthy_deadline = \"20s\"\nprogress_deadline = \"40s\"\n\
                    [repair]\nsilent_after = \"30s\"\nunmanaged_after = \"40s\"\n";

fn new_world() -> World {
    let mut world = World::new();
    world.work = Work::OnActive;
    world.lock = Some(Lock::default());
    world.apply(SPEC, "1.0");
    world.run_to(Phase::Done);
    let one = world.at_work();
    assert_eq!(one.len(), 1, "{}", world.story());
    assert_eq!(holder(&world), one.first().cloned());
    world
}

fn holder(world: &World) -> Option<InstanceId> {
    world.lock.as_ref().unwrap().holder.clone()
}

fn says(world: &World) -> String {
    let report = world.report();
    let waiting = report.waiting.iter().map(|one| one.what.clone());
    let blocked = report.blocked.iter();
    let blocked = blocked.map(|one| format!("{}: {}", one.what, one.fact));
    waiting.chain(blocked).collect::<Vec<_>>().join("; ")
}

/// A world in which blue cannot be reached, and green waits for its work to end.
fn stopping() -> (World, InstanceId) {
    let mut world = new_world();
    let blue = holder(&world).unwrap();
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.cut_path(&blue);
    world.run_to(Phase::Stopping);
    (world, blue)
}

#[test]
fn a_blue_that_is_cut_off_from_everything_has_stopped_once_its_lock_is_lost() {
    let (mut world, blue) = stopping();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.phase(), Some(Phase::Stopping), "it renews its lock");
    let text = says(&world);
    assert!(text.contains("it holds the lock of its fleet"), "{text}");
    world.cut_catalogue(&blue);
    let cut_at = world.ms;
    world.run_to(Phase::Switching);
    // Its lock runs out, and a lease after that nothing of it can run.
    let took = world.ms - cut_at;
    assert!((15_000 + LEASE_MS..32_000).contains(&took), "{took}");
    assert!(world.tells("it has lost the lock"), "{}", world.story());
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0"), world.at_work());
    assert_eq!(holder(&world), world.at_work().pop());
    // It comes back without a lock to work with, and hears that it stands by.
    let machine = world.machines.get_mut(&blue);
    if let Some(machine) = machine {
        machine.path_cut_at = None;
        machine.catalogue_cut_at = None;
    }
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.active("2.0"), world.at_work());
}

#[test]
fn a_dead_agent_s_work_has_stopped_when_its_lock_is_lost() {
    let mut world = new_world();
    let blue = holder(&world).unwrap();
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.kill_agent(&blue);
    world.run_to(Phase::Done);
    assert!(world.tells("it has lost the lock"), "{}", world.story());
    assert_eq!(world.active("2.0"), world.at_work());
}

#[test]
fn a_lost_lock_alone_replaces_nobody_and_a_person_s_order_then_does() {
    let mut world = new_world();
    let one = holder(&world).unwrap();
    world.kill_agent(&one);
    world.run_for(Duration::from_secs(3_600));
    assert_eq!(world.staying().len(), 1, "{}", world.story());
    let record = &world.web().instances[&one];
    // It is wanted active still: when its agent is back it works again.
    assert!(record.at_work && record.catalogue == CatalogueRole::Active);
    assert_eq!(holder(&world), None);
    let text = says(&world);
    assert!(text.contains("which nobody holds"), "{text}");
    let order = Command::ReplaceInstance {
        instance: one.clone(),
        reason: "its host is odd".to_owned(),
    };
    world.order(&order).unwrap();
    world.run_until(300, |world| {
        world.active("1.0").len() == 1 && world.active("1.0") == world.at_work()
    });
    assert_ne!(holder(&world).unwrap(), one);
}

#[test]
fn one_that_has_not_heard_takes_a_free_lock_again_and_nobody_else_works_then() {
    let (mut world, blue) = stopping();
    let green = world.web().instances.keys().find(|id| **id != blue);
    let green = green.cloned().unwrap();
    world.cut_catalogue(&blue);
    world.cut_catalogue(&green);
    world.run_to(Phase::Switching);
    assert_eq!(holder(&world), None);
    let text = says(&world);
    assert!(
        text.contains(&format!("{green} to take the lock")),
        "{text}"
    );
    // Blue gets through to the catalogue again before green does, and not to the coordinator.
    world.machines.get_mut(&blue).unwrap().catalogue_cut_at = None;
    world.tick();
    assert_eq!(world.at_work(), std::slice::from_ref(&blue));
    let text = says(&world);
    let waits = format!("{green} to take the lock of its fleet, which {blue} holds");
    assert!(text.contains(&waits), "{text}");
    for machine in world.machines.values_mut() {
        (machine.path_cut_at, machine.catalogue_cut_at) = (None, None);
    }
    world.run_until(600, |world| world.at_work() == [green.clone()]);
}

#[test]
fn what_was_read_before_the_order_is_no_word() {
    let (mut world, blue) = stopping();
    world.cut_catalogue(&blue);
    // What is read is too old to count; then it is read again.
    world.lock.as_mut().unwrap().age_ms = 31_000;
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.phase(), Some(Phase::Stopping), "{}", world.story());
    world.lock.as_mut().unwrap().age_ms = 9_000;
    world.run_to(Phase::Done);
}

#[test]
fn a_catalogue_without_locks_says_nothing_of_work() {
    let (mut world, blue) = stopping();
    world.lock = None;
    world.cut_catalogue(&blue);
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.phase(), Some(Phase::Stopping), "{}", world.story());
    let reason = "it serves".to_owned();
    let fleet = web();
    world.order(&Command::Rollback { fleet, reason }).unwrap();
}
