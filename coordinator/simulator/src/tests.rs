//! Rollouts in many worlds. A failure names scenario and seed: the same two give the same run.

mod crashes;
mod faults;
mod forecasts;
mod mutants;
mod stores;

use std::time::Duration;

use calvin_model::fleet::FleetKind;
use calvin_planner::Phase;

use super::*;

/// Seeds that the suite runs.
const SEEDS: u64 = 50;

/// Whether the suite is to try everything, however long that takes.
fn is_deep() -> bool {
    std::env::var_os("CALVIN_TESTS_DEEP").is_some()
}

/// A rollout that the suite runs: to which version, and how it must end.
struct Case {
    version: u32,
    phase: Phase,
    serving: &'static str,
}

const GOOD: Case = Case {
    version: 2,
    phase: Phase::Done,
    serving: "web@2",
};
const NEVER_HEALTHY: Case = Case {
    version: 3,
    phase: Phase::RolledBack,
    serving: "web@1",
};
const BAD_WHILE_BAKING: Case = Case {
    version: 4,
    phase: Phase::RolledBack,
    serving: "web@1",
};

impl Case {
    fn scenario(&self) -> Scenario {
        Scenario::small(2).then_rollout(self.version)
    }

    fn assert_right(&self, outcome: &Outcome, what: &str) {
        assert_well(outcome, what);
        let ended = &outcome.ended;
        let serving = ended.serving.as_ref().map(ToString::to_string);
        let right = ended.phase == Some(self.phase) && serving.as_deref() == Some(self.serving);
        assert!(
            right && ended.active.len() == 2 && ended.machines == 2,
            "{what}: {ended:#?}\n{}",
            outcome.trace.tail(80)
        );
    }
}

fn assert_well(outcome: &Outcome, what: &str) {
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    assert!(
        violations.is_empty(),
        "{what}: {violations:#?}\n{}",
        outcome.trace.tail(80)
    );
}

#[test]
fn every_rollout_ends_right_when_nothing_goes_wrong() {
    for case in [GOOD, NEVER_HEALTHY, BAD_WHILE_BAKING] {
        let outcome = Simulation::run(&case.scenario(), 1);
        case.assert_right(&outcome, &format!("web@{}", case.version));
        assert_eq!(outcome.ended.runs, 1);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_byte_for_byte() {
    let scenario = GOOD.scenario().with_faults(Fault::ALL);
    let first = Simulation::run(&scenario, 7);
    assert_eq!(first.trace, Simulation::run(&scenario, 7).trace);
    assert_ne!(first.trace, Simulation::run(&scenario, 8).trace);
}

#[test]
fn workloads_that_pull_their_work_are_replaced_too() {
    let mut scenario = GOOD.scenario();
    for image in &mut scenario.images {
        image.work = calvin_model::image::Work::OnActive;
    }
    for seed in 0..5 {
        let outcome = Simulation::run(&scenario, seed);
        GOOD.assert_right(&outcome, &format!("on_active, seed {seed}"));
    }
}

#[test]
fn a_fleet_of_five_is_replaced_in_waves() {
    let mut scenario = Scenario::small(5).then_rollout(2);
    scenario.spec.replace.surge = "2".parse().unwrap();
    let outcome = Simulation::run(&scenario, 3);
    assert_well(&outcome, "waves");
    assert_eq!(outcome.ended.active.len(), 5);
    assert_eq!(outcome.ended.serving.unwrap().to_string(), "web@2");
}

#[test]
fn a_deleted_fleet_leaves_nothing() {
    let outcome = Simulation::run(&Scenario::small(3).then(Step::Delete), 1);
    assert_well(&outcome, "delete");
    assert_eq!(outcome.ended.machines, 0);
}

#[test]
fn a_scaled_fleet_has_as_many_as_were_ordered() {
    let scenario = Scenario::small(2).then(Step::Scale(5)).then(Step::Scale(1));
    let outcome = Simulation::run(&scenario, 1);
    assert_well(&outcome, "scale");
    assert_eq!(outcome.ended.active.len(), 1);
}

#[test]
fn an_undo_brings_the_old_image_back() {
    let outcome = Simulation::run(&GOOD.scenario().then(Step::Undo), 1);
    assert_well(&outcome, "undo");
    assert_eq!(outcome.ended.serving.unwrap().to_string(), "web@1");
}

#[test]
fn a_lost_machine_is_replaced_and_the_others_are_left_alone() {
    let calm = Simulation::run(&Scenario::small(3), 4);
    let outcome = Simulation::run(&Scenario::small(3).then(Step::KillMachine), 4);
    assert_well(&outcome, "lost machine");
    let stayed = outcome.ended.active.keys();
    let stayed = stayed.filter(|id| calm.ended.active.contains_key(*id));
    assert_eq!((stayed.count(), outcome.ended.active.len()), (2, 3));
}

#[test]
fn agents_that_are_all_away_cost_no_machine() {
    let away = Step::AgentsAway(Duration::from_secs(200));
    let calm = Simulation::run(&Scenario::small(3), 4);
    let outcome = Simulation::run(&Scenario::small(3).then(away), 4);
    assert_well(&outcome, "agents away");
    assert_eq!(outcome.ended.active, calm.ended.active);
}

/// The phases from which an operator can go back.
const WAYS_BACK: [Phase; 6] = [
    Phase::Provisioning,
    Phase::Soaking,
    Phase::Switching,
    Phase::Settling,
    Phase::Baking,
    Phase::Draining,
];

#[test]
fn an_operator_can_go_back_from_every_phase_in_which_blue_is_there() {
    for phase in WAYS_BACK {
        for seed in 0..3 {
            let scenario = GOOD.scenario().then(Step::RollBackIn(phase));
            let outcome = Simulation::run(&scenario, seed);
            let what = format!("back in {phase}, seed {seed}");
            NEVER_HEALTHY.assert_right(&outcome, &what);
        }
    }
}
