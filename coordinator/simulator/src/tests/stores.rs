//! Coordinators on a copy of the store and on a backup of it, and two machines for one order.

use super::*;

/// What the traces of some seeds with this fault alone say, once none breaks a rule.
fn traces(fault: Fault, seeds: u64) -> Vec<String> {
    let traces = (0..seeds).map(|seed| {
        let scenario = Scenario::small(3).then_rollout(2).with_faults([fault]);
        let outcome = Simulation::run(&scenario, seed);
        assert_well(&outcome, &format!("{fault}, seed {seed}"));
        assert_eq!(outcome.ended.active.len(), 3, "{fault}, seed {seed}");
        outcome.trace.as_str().to_owned()
    });
    traces.collect()
}

fn some(traces: &[String], what: &str) -> bool {
    traces.iter().any(|trace| trace.contains(what))
}

#[test]
fn a_coordinator_on_a_copy_of_the_store_does_not_start_or_only_listens() {
    let traces = traces(Fault::CopiedStore, 12);
    assert!(some(
        &traces,
        "a coordinator on a copy of the store does not start"
    ));
    assert!(some(&traces, "starts on a copy of the store, with --adopt"));
}

#[test]
fn a_restored_store_decides_again_after_an_approval() {
    let traces = traces(Fault::RestoredBackup, 12);
    assert!(some(&traces, "the store is restored from a backup"));
    assert!(some(
        &traces,
        "the coordinator does not start: it was made as"
    ));
    assert!(some(&traces, "approved: the coordinator decides again"));
}

#[test]
fn of_two_machines_for_one_order_one_works_and_a_person_deletes_the_other() {
    let traces = traces(Fault::DoubleCreate, 12);
    assert!(some(&traces, "is being made twice"));
    assert!(some(&traces, "2 machines carry the tag of"));
    assert!(some(&traces, "a person deletes the machine of"));
}

#[test]
fn exclusive_fleets_and_quorums_are_replaced_too() {
    for kind in [FleetKind::Exclusive, FleetKind::Quorum] {
        let outcome = Simulation::run(&Scenario::small(3).of_kind(kind).then_rollout(2), 1);
        assert_well(&outcome, &format!("{kind}"));
        assert_eq!(outcome.ended.serving.unwrap().to_string(), "web@2");
    }
}

/// Tells everybody to be active at once, whoever works.
#[derive(Debug, Clone, Copy)]
struct AllAtOnce;

impl calvin_engine::Decide for AllAtOnce {
    fn plan(&self, input: &calvin_planner::PlanInput<'_>) -> calvin_planner::Plan {
        let mut input = *input;
        let mut fleets = input.fleets.clone();
        for fleet in fleets.values_mut() {
            fleet.spec.kind = FleetKind::Service;
        }
        input.fleets = &fleets;
        let mut plan = calvin_engine::Planner.plan(&input);
        for fleet in plan.fleets.values_mut() {
            if let calvin_planner::Next::Change(next) = &mut fleet.next {
                next.spec.kind = FleetKind::Exclusive;
            }
        }
        plan
    }

    fn command(
        &self,
        input: &calvin_planner::CommandInput<'_>,
        order: &calvin_planner::Command,
        who: &str,
    ) -> Result<calvin_planner::CommandOutcome, calvin_planner::Refusal> {
        calvin_engine::Planner.command(input, order, who)
    }
}

#[test]
fn two_of_an_exclusive_fleet_at_work_are_noticed_whatever_the_planner_believes() {
    let mut scenario = Scenario::small(1)
        .of_kind(FleetKind::Exclusive)
        .then_rollout(2);
    scenario.limit = Duration::from_secs(120);
    let outcome = Simulation::run_with(&scenario, 1, AllAtOnce);
    let works = |violation: &Violation| violation.text.contains("works beside");
    assert!(
        outcome.violations.iter().any(works),
        "{:?}",
        outcome.violations
    );
}
