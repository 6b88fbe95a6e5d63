//! What a member of a quorum says of its voters, and when it stops to say it.

use calvin_model::QuorumReport;

use super::*;
use crate::QuorumOutcome;

const QUORUM: &str = "[quorum]\nexec = [\"q\"]\ninterval = \"5s\"\ntimeout = \"2s\"\n";

fn said(voters: u32) -> Input {
    Input::Quorum(QuorumOutcome::Said(QuorumReport {
        voters,
        needed: 2,
        leader: false,
        caught_up: true,
        age: Duration::ZERO,
    }))
}

#[test]
fn what_the_command_said_is_reported_at_once_with_its_age() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, QUORUM]));
    assert_eq!(machine.report().quorum, None);
    let before = machine.reports.len();
    machine.put(said(3));
    assert_eq!(machine.reports.len(), before + 1);
    machine.wait(3);
    let quorum = machine.report().quorum.unwrap();
    assert_eq!((quorum.voters, quorum.age), (3, Duration::from_secs(3)));
    // The same word again is nothing to report by itself.
    let before = machine.reports.len();
    machine.put(said(3));
    assert_eq!(machine.reports.len(), before);
    machine.put(said(2));
    assert_eq!(machine.reports.len(), before + 1);
}

#[test]
fn a_failed_run_takes_back_what_was_known_and_says_why() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, QUORUM]));
    machine.put(said(3));
    machine.put(Input::Quorum(QuorumOutcome::Failed("no leader".into())));
    let report = machine.reports.last().unwrap();
    assert_eq!(report.quorum, None);
    let says = report
        .failing
        .iter()
        .any(|text| text == "quorum: no leader");
    assert!(says, "{:?}", report.failing);
    machine.put(said(3));
    assert_eq!(machine.report().failing, Vec::<String>::new());
}

#[test]
fn a_command_that_does_not_come_back_is_not_believed_for_ever() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, QUORUM]));
    machine.put(said(3));
    machine.wait(16);
    assert!(machine.report().quorum.is_some());
    assert_eq!(
        machine.lifecycle.quorum_stale_at(),
        Some(machine.now + Duration::from_secs(1))
    );
    machine.wait(1);
    assert_eq!(machine.reports.last().unwrap().quorum, None);
}

#[test]
fn what_voters_there_are_makes_nobody_unhealthy() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, QUORUM]));
    machine.want(1, Role::Active);
    let before = machine.report().health;
    machine.put(Input::Quorum(QuorumOutcome::Failed("no leader".into())));
    assert_eq!(machine.report().health, before);
}
