//! Which health the checks and the workload add up to, and for how long.

use calvin_model::Health;

use super::*;

const STANDBY_CHECK: &str =
    "[[check]]\nname = \"warm\"\nexec = [\"w\"]\nwhen = \"standby\"\ninterval = \"1s\"\n";
const ACTIVE_CHECK: &str =
    "[[check]]\nname = \"works\"\nexec = [\"w\"]\nwhen = \"active\"\ninterval = \"1s\"\n";

#[test]
fn health_is_unknown_until_every_check_has_spoken() {
    let second = CHECK.replace("\"up\"", "\"other\"");
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK, &second]));
    assert_eq!(machine.checks, [0, 1]);
    assert_eq!(machine.report().health, Health::Unknown);
    machine.check(0, "+");
    assert_eq!(machine.report().health, Health::Unknown);
    machine.check(1, "+");
    assert_eq!(machine.report().health, Health::Healthy);
    machine.check(1, "-");
    assert_eq!(machine.report().health, Health::Healthy, "one slip is none");
    machine.check(1, "-");
    let report = machine.report();
    assert_eq!((report.health, report.flaps), (Health::Unhealthy, 1));
    assert_eq!(report.failing, ["check other: refused"]);
}

#[test]
fn an_image_without_checks_is_healthy_while_its_workload_runs() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    assert_eq!(machine.report().health, Health::Healthy);
    machine.put(Input::Workload(WorkloadState::Backoff));
    assert_eq!(machine.report().health, Health::Unhealthy);
    machine.put(Input::Workload(WorkloadState::Starting));
    assert_eq!(machine.report().health, Health::Unknown);
    machine.put(Input::Workload(WorkloadState::Running));
    let report = machine.report();
    assert_eq!((report.health, report.flaps), (Health::Healthy, 1));
}

#[test]
fn a_workload_that_does_not_stay_up_says_why() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    for (trouble, said) in [
        (None, "the workload ended by itself and is started again"),
        (
            Some("could not start web: not found"),
            "the workload is started again: could not start web: not found",
        ),
        (
            Some("it ended by itself with exit code 1"),
            "the workload is started again: it ended by itself with exit code 1",
        ),
    ] {
        machine.put(Input::WorkloadTrouble(trouble.map(str::to_owned)));
        machine.put(Input::Workload(WorkloadState::Backoff));
        assert_eq!(machine.report().failing, [said]);
        machine.put(Input::Workload(WorkloadState::Running));
        assert!(machine.report().failing.is_empty());
    }
}

#[test]
fn a_workload_that_died_must_pass_its_checks_anew() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    machine.check(0, "+");
    machine.put(Input::Workload(WorkloadState::Backoff));
    machine.put(Input::Workload(WorkloadState::Starting));
    machine.put(Input::Workload(WorkloadState::Running));
    assert_eq!(machine.report().health, Health::Unknown);
    machine.check(0, "+");
    assert_eq!(machine.report().health, Health::Healthy);
}

#[test]
fn the_checks_of_a_workload_that_starts_again_begin_at_once() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    let outputs = machine.put(Input::Workload(WorkloadState::Starting));
    let told: Vec<_> = outputs
        .iter()
        .filter(|output| matches!(output, Output::RunChecks(_)))
        .collect();
    let expected = [Output::RunChecks(Vec::new()), Output::RunChecks(vec![0])];
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
}

#[test]
fn each_role_has_its_own_checks_and_what_begins_to_count_starts_anew() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK, STANDBY_CHECK, ACTIVE_CHECK]));
    machine.want(1, Role::Standby);
    assert_eq!(machine.checks, [0]);
    machine.check(0, "+");
    assert_eq!(machine.report().health, Health::Healthy);
    machine.want(2, Role::Active);
    assert_eq!(machine.checks, [1]);
    let report = machine.report();
    assert_eq!(
        (report.health, report.health_for),
        (Health::Unknown, Duration::ZERO)
    );
    machine.check(1, "--");
    assert_eq!(machine.report().flaps, 0, "as active it never was healthy");
    machine.check(1, "+");
    machine.want(3, Role::Draining);
    assert_eq!(
        machine.report().health,
        Health::Healthy,
        "the same checks go on"
    );
    machine.want(4, Role::Standby);
    assert_eq!(machine.checks, [0]);
    machine.want(5, Role::Retired);
    assert!(machine.checks.is_empty());
    assert_eq!(machine.report().health, Health::Unknown);
}

#[test]
fn a_result_of_a_check_that_does_not_count_changes_nothing() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK, STANDBY_CHECK, ACTIVE_CHECK]));
    machine.want(1, Role::Standby);
    machine.check(0, "+");
    machine.check(1, "------");
    machine.put(Input::Check {
        index: 99,
        outcome: CheckOutcome::Pass,
    });
    assert_eq!(machine.report().health, Health::Healthy);
}

#[test]
fn a_gap_in_the_checks_starts_the_duration_again() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    machine.check(0, "+");
    machine.wait(3);
    machine.check(0, "+");
    assert_eq!(machine.report().health_for, Duration::from_secs(3));
    // The agent was stopped for a while; the first thing it hears is a check that passes.
    machine.now += Duration::from_secs(10);
    machine.check(0, "+");
    let report = machine.report();
    assert_eq!(
        (report.health, report.health_for, report.flaps),
        (Health::Healthy, Duration::ZERO, 0)
    );
}

#[test]
fn checks_that_fell_silent_make_health_unknown_by_the_deadline() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    machine.check(0, "+");
    machine.put(Input::SessionDown);
    let stale = machine.lifecycle.deadline().unwrap();
    assert_eq!(
        stale,
        machine.now + Duration::from_secs(4),
        "three intervals and the timeout"
    );
    machine.wait(4);
    assert_eq!(machine.report().health, Health::Unknown);
}

#[test]
fn flaps_are_counted_over_restarts_of_the_agent_and_anew_in_a_new_boot() {
    let spec = spec(&[BOOT_WORK, CHECK]);
    let mut machine = Machine::joined(&spec);
    machine.check(0, "+--+--");
    assert_eq!(machine.report().flaps, 2);
    machine.restart(&spec, "b1");
    assert_eq!(machine.report().flaps, 2);
    machine.check(0, "+--");
    assert_eq!(machine.report().flaps, 3);
    machine.restart(&spec, "b2");
    assert_eq!(machine.report().flaps, 0);
}

#[test]
fn sentences_of_failure_are_bounded() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    for _ in 0..2 {
        machine.put(Input::Check {
            index: 0,
            outcome: CheckOutcome::Fail("ä".repeat(1000)),
        });
    }
    let failing = machine.report().failing;
    assert!(failing[0].len() <= 256, "{}", failing[0].len());
}

#[test]
fn a_crash_between_two_looks_at_the_runner_is_a_flap() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    machine.put(Input::WorkloadStarts(1));
    machine.check(0, "+");
    assert_eq!(machine.report().health, Health::Healthy);
    machine.put(Input::WorkloadStarts(1));
    machine.put(Input::Workload(WorkloadState::Running));
    assert_eq!(machine.report().flaps, 0, "the same start");
    machine.wait(1);
    machine.put(Input::WorkloadStarts(2));
    machine.put(Input::Workload(WorkloadState::Running));
    let report = machine.report();
    assert_eq!((report.flaps, report.health), (1, Health::Unknown));
    assert_eq!(report.health_for, Duration::ZERO);
    machine.check(0, "+");
    assert_eq!(machine.report().health, Health::Healthy);
}

#[test]
fn a_workload_that_was_told_to_stop_and_start_between_two_looks_did_not_crash() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK]));
    machine.want(1, Role::Active);
    machine.put(Input::WorkloadStarts(1));
    machine.obeys = false;
    machine.want(2, Role::Standby);
    // A look before the runner did anything.
    machine.put(Input::WorkloadStarts(1));
    machine.put(Input::Workload(WorkloadState::Running));
    machine.want(3, Role::Active);
    machine.put(Input::WorkloadStarts(2));
    machine.put(Input::Workload(WorkloadState::Running));
    assert_eq!(machine.report().flaps, 0);
    machine.put(Input::WorkloadStarts(3));
    machine.put(Input::Workload(WorkloadState::Running));
    assert_eq!(machine.report().flaps, 1, "nobody told it to");
}
