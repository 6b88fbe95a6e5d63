//! The coordinator crashes at every write to its store, before and after the write is durable, and
//! between any two of its actions.

use super::*;

/// Of the places where a run can crash, one of so many is tried for each seed; every place is
/// tried for some. The deep suite tries all of them for every seed.
const SHARE: u64 = 25;

fn crash_at_every_write(case: &Case) {
    for seed in 0..SEEDS {
        for side in [Side::Before, Side::After] {
            let scenario = case.scenario().with_crash(Crash::EveryWrite(side));
            let outcome = Simulation::run(&scenario, seed);
            let what = format!("web@{}, seed {seed}, {:?}", case.version, scenario.crash);
            case.assert_right(&outcome, &what);
            // Epoch, order and each change of the rollout: it did crash, again and again.
            assert!(outcome.ended.runs > 10, "{what}: {:?}", outcome.ended);
        }
    }
}

#[test]
fn a_good_rollout_survives_crashes_at_every_write() {
    crash_at_every_write(&GOOD);
}

#[test]
fn a_never_healthy_rollout_survives_crashes_at_every_write() {
    crash_at_every_write(&NEVER_HEALTHY);
}

#[test]
fn a_rollout_that_turns_bad_survives_crashes_at_every_write() {
    crash_at_every_write(&BAD_WHILE_BAKING);
}

/// Enumerates in a dry run where a run can crash, and crashes there, once in each run.
fn crash_once(case: &Case) {
    let share = if is_deep() { 1 } else { SHARE };
    for seed in 0..SEEDS {
        let dry = Simulation::run(&case.scenario(), seed).ended;
        assert!(dry.writes > 10 && dry.actions > 10, "{dry:?}");
        let writes = (1..=dry.writes).flat_map(|number| {
            [Side::Before, Side::After].map(|side| Crash::AtWrite(number, side))
        });
        let actions = (1..=dry.actions).map(Crash::AtAction);
        for (place, crash) in writes.chain(actions).enumerate() {
            let place = u64::try_from(place).unwrap();
            if place % share != seed % share {
                continue;
            }
            let outcome = Simulation::run(&case.scenario().with_crash(crash), seed);
            let what = format!("web@{}, seed {seed}, {crash:?}", case.version);
            case.assert_right(&outcome, &what);
            assert_eq!(outcome.ended.runs, 2, "{what}");
        }
    }
}

#[test]
fn a_good_rollout_survives_one_crash_anywhere() {
    crash_once(&GOOD);
}

#[test]
fn a_never_healthy_rollout_survives_one_crash_anywhere() {
    crash_once(&NEVER_HEALTHY);
}

#[test]
fn a_rollout_that_turns_bad_survives_one_crash_anywhere() {
    crash_once(&BAD_WHILE_BAKING);
}
