//! Everything else that goes wrong. A rollout may then end either way, but it ends, and rightly.

use super::*;

/// Seeds that the deep suite runs.
const DEEP_SEEDS: u64 = 2_000;

fn long_life(version: u32) -> Scenario {
    Scenario::small(3)
        .then_rollout(version)
        .then(Step::KillMachine)
        .then(Step::Scale(4))
        .then(Step::AgentsAway(Duration::from_secs(20)))
        .then(Step::Scale(2))
        .then(Step::Delete)
}

fn run(version: u32, faults: &[Fault], seed: u64) {
    let scenario = long_life(version).with_faults(faults.iter().copied());
    let outcome = Simulation::run(&scenario, seed);
    assert_well(&outcome, &format!("web@{version}, seed {seed}, {faults:?}"));
    assert_eq!(outcome.ended.machines, 0);
}

#[test]
fn each_fault_alone_breaks_no_rule() {
    for (place, fault) in Fault::ALL.into_iter().enumerate() {
        let seed = u64::try_from(place).unwrap();
        for version in [2, 3, 4] {
            run(version, &[fault], seed);
        }
    }
}

#[test]
fn all_faults_together_break_no_rule() {
    let seeds = if is_deep() { DEEP_SEEDS } else { SEEDS };
    for seed in 0..seeds {
        let version = 2 + u32::try_from(seed % 3).unwrap();
        run(version, &Fault::ALL, seed);
    }
}
