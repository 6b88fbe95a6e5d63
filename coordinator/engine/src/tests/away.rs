//! What the history tells of time in which nothing was decided.

use std::time::Duration;

use calvin_planner::{EventKind, Life};

use super::{
    Script, change, create,
    fake::{Disk, Fake},
    fleets, plan_of, start,
};
use crate::engine::PassOutcome;

/// 2026-11-23 at half past noon.
const NOON_MS: u64 = 1_795_437_000_000;

fn told(world: &Fake) -> Vec<&str> {
    let lines = world.history.iter();
    let away = lines.filter(|line| line.event.kind == EventKind::Away);
    away.map(|line| line.event.text.as_str()).collect()
}

fn ran_at(wall_ms: u64) -> Fake {
    let mut world = Fake::new(fleets(&[]));
    world.wall_ms = wall_ms;
    drop(start(&mut world, Script::default()));
    world
}

#[test]
fn the_first_run_was_never_away() {
    assert!(told(&ran_at(NOON_MS)).is_empty());
}

#[test]
fn who_comes_back_tells_from_when_to_when_nobody_was_there() {
    let mut world = ran_at(NOON_MS);
    world.wall_ms = NOON_MS + 130_000;
    drop(start(&mut world, Script::default()));
    assert_eq!(
        told(&world),
        [
            "the coordinator was away for 2m10s, and is back at 2026-11-23T12:32:10Z with epoch 2: \
             the one before wrote last at 2026-11-23T12:30:00Z, and may have run up to 5s longer"
        ]
    );
}

#[test]
fn a_checkpoint_is_a_sign_of_life() {
    let mut world = ran_at(NOON_MS);
    let mut engine = start(&mut world, Script::default());
    engine.ports_mut().wall_ms = NOON_MS + 60_000;
    engine.ports_mut().forward(1_000);
    engine.pass();
    engine.ports_mut().forward(5_000);
    engine.pass();
    engine.ports_mut().forward(5_000);
    engine.pass();
    drop(engine);
    world.wall_ms = NOON_MS + 90_000;
    drop(start(&mut world, Script::default()));
    let last = told(&world).pop().unwrap_or_default().to_owned();
    assert!(last.contains("away for 30s"), "{last}");
}

#[test]
fn a_clock_that_was_set_back_meanwhile_measures_nothing() {
    let mut world = ran_at(NOON_MS);
    world.wall_ms = NOON_MS - 60_000;
    drop(start(&mut world, Script::default()));
    let told = told(&world);
    assert!(told[0].contains("nobody knows how long"), "{told:?}");
}

#[test]
fn a_disk_that_could_not_be_written_is_told_once_it_can() {
    let mut world = Fake::new(fleets(&[]));
    world.wall_ms = NOON_MS;
    let mut engine = start(&mut world, Script::default());
    engine.ports_mut().disk = Disk::Fails;
    engine.ports_mut().forward(6_000);
    engine.pass();
    engine.ports_mut().forward(6_000);
    engine.pass();
    let fake = engine.ports_mut();
    fake.disk = Disk::Works;
    fake.wall_ms = NOON_MS + 3_600_000;
    fake.forward(6_000);
    engine.pass();
    drop(engine);
    let told = told(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("the coordinator decided nothing for 1h, from 2026-11-23T12:30:00Z")
            && told[0].contains("no space left on device"),
        "{told:?}"
    );
}

#[test]
fn nothing_is_decided_while_the_catalogue_says_so_and_no_deadline_passes_meanwhile() {
    let mut world = Fake::new(fleets(&[]));
    world.wall_ms = NOON_MS;
    let plan = plan_of(change(&[Life::Making]), vec![create(0)]);
    let mut engine = start(&mut world, Script::of([plan]));
    engine.ports_mut().holds = Some("consul has no leader".to_owned());
    let begun = engine.view().moment;
    for _ in 0..40 {
        engine.ports_mut().forward(250);
        assert_eq!(engine.pass(), PassOutcome::Held);
    }
    assert_eq!(engine.view().moment, begun);
    let held = engine.view().held.clone().unwrap();
    assert_eq!(held.reason, "consul has no leader");
    assert!(engine.ports_mut().calls.is_empty());

    let fake = engine.ports_mut();
    fake.holds = None;
    fake.wall_ms = NOON_MS + 60_000;
    fake.forward(250);
    let decided = PassOutcome::Decided {
        changed: true,
        actions: 1,
    };
    assert_eq!(engine.pass(), decided);
    assert!(engine.view().held.is_none());
    assert_eq!(
        engine.view().moment,
        begun.after(Duration::from_millis(250))
    );
    drop(engine);
    let told = told(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("decided nothing for 1m"), "{told:?}");
    assert!(told[0].ends_with("consul has no leader"), "{told:?}");
}
