//! What a coordinator may say, and what changes nothing.

use calvin_model::{CatalogueRole, ConsulReport, NamesVersion};

use super::*;
use crate::{Refusal, Waiting, WaitingFor};

fn refusals(outputs: &[Output]) -> Vec<&Refusal> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Refused(refusal) | Output::EndSession(refusal) => Some(refusal),
            Output::Persist(_)
            | Output::StartWorkload
            | Output::StopWorkload
            | Output::RunHook { .. }
            | Output::CancelHook(_)
            | Output::RunChecks(_)
            | Output::Report(_) => None,
        })
        .collect()
}

#[test]
fn an_older_generation_and_another_content_of_the_same_are_refused() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    machine.want(7, Role::Active);
    assert_eq!(machine.applied(), 7);
    for (generation, role) in [(6, Role::Retired), (7, Role::Standby), (0, Role::Retired)] {
        let outputs = machine.put(Input::Wanted {
            epoch: epoch(5, "aa"),
            wanted: wanted(generation, role),
        });
        assert_eq!(refusals(&outputs).len(), 1, "{generation} {role}");
        assert_eq!(machine.report().role_applied, Some(Role::Active));
    }
    assert!(
        machine.report().refused.is_some(),
        "the coordinator hears of it"
    );
}

#[test]
fn an_older_epoch_and_the_same_of_another_run_end_the_session_also_after_a_restart() {
    let spec = spec(&[BOOT_WORK]);
    let mut machine = Machine::joined(&spec);
    machine.want(1, Role::Standby);
    machine.restart(&spec, "b1");
    for spoken in [epoch(4, "aa"), epoch(5, "bb")] {
        let outputs = machine.put(Input::SessionUp {
            epoch: spoken.clone(),
            report_interval: Duration::from_secs(5),
            clock_offset_ms: 0,
        });
        assert!(
            matches!(outputs.as_slice(), [Output::EndSession(Refusal::Epoch(_))]),
            "{spoken}: {outputs:?}"
        );
        let outputs = machine.put(Input::Wanted {
            epoch: spoken,
            wanted: wanted(2, Role::Retired),
        });
        assert_eq!(refusals(&outputs), [&Refusal::NoSession]);
    }
    machine.session(6);
    assert_eq!(machine.lifecycle.seen().0, Some(&epoch(6, "aa")));
}

#[test]
fn within_a_session_another_coordinators_word_is_refused_and_reported() {
    let mut machine = Machine::joined(&spec(&[]));
    let outputs = machine.put(Input::Wanted {
        epoch: epoch(9, "cc"),
        wanted: wanted(1, Role::Active),
    });
    assert!(matches!(
        refusals(&outputs).as_slice(),
        [Refusal::OtherSpeaker { .. }]
    ));
    let last = machine.reports.last().unwrap();
    assert!(
        last.refused.as_ref().unwrap().contains("epoch 9"),
        "{last:?}"
    );
}

#[test]
fn a_drain_without_order_and_an_order_without_drain_are_refused() {
    let mut machine = Machine::joined(&spec(&[]));
    for mut bad in [wanted(1, Role::Draining), wanted(1, Role::Active)] {
        bad.drain = match bad.drain {
            Some(_) => None,
            None => wanted(1, Role::Draining).drain,
        };
        let outputs = machine.put(Input::Wanted {
            epoch: epoch(5, "aa"),
            wanted: bad,
        });
        assert!(matches!(
            refusals(&outputs).as_slice(),
            [Refusal::DrainOrder { .. }]
        ));
    }
}

#[test]
fn nothing_is_done_or_answered_before_it_is_on_disk() {
    let mut machine = Machine::new(&spec(&[PULLED_WORK, HOOKS]));
    machine.put(Input::Workload(WorkloadState::NotWanted));
    machine.put(Input::Enrolled);
    machine.disk_works = false;
    machine.session(5);
    assert!(machine.reports.is_empty(), "the epoch is not on disk");
    machine.want(1, Role::Active);
    machine.wait(60);
    assert!(machine.log.is_empty(), "{:?}", machine.log);
    machine.disk_works = true;
    machine.wait(1);
    assert_eq!(machine.log, ["active"]);
    assert!(!machine.reports.is_empty());
}

#[test]
fn a_commit_that_was_not_confirmed_is_asked_for_again() {
    let mut machine = Machine::new(&spec(&[]));
    machine.disk_works = false;
    machine.session(5);
    let deadline = machine.lifecycle.deadline().unwrap();
    let outputs = machine.lifecycle.handle(deadline, Input::Tick);
    assert!(
        matches!(outputs.as_slice(), [Output::Persist(_)]),
        "{outputs:?}"
    );
}

#[test]
fn reports_come_at_each_change_and_each_interval_and_their_sequence_survives_a_restart() {
    let spec = spec(&[BOOT_WORK, CHECK]);
    let mut machine = Machine::joined(&spec);
    machine.want(1, Role::Standby);
    let quiet = machine.reports.len();
    machine.put(Input::Tick);
    machine.check(0, "");
    assert_eq!(machine.reports.len(), quiet, "nothing changed");
    machine.check(0, "+");
    assert_eq!(machine.reports.len(), quiet + 1, "health changed");
    machine.wait(3);
    machine.check(0, "+");
    assert_eq!(machine.reports.len(), quiet + 1);
    machine.wait(2);
    assert_eq!(machine.reports.len(), quiet + 2, "the interval is over");
    machine.now += Duration::from_micros(1000);
    machine.restart(&spec, "b1");
    machine.session(5);
    let sequences: Vec<u64> = machine
        .reports
        .iter()
        .map(|report| report.sequence)
        .collect();
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
}

#[test]
fn without_a_session_nothing_is_reported_and_a_new_one_hears_all() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    machine.put(Input::SessionDown);
    let before = machine.reports.len();
    machine.put(Input::Workload(WorkloadState::Backoff));
    machine.wait(60);
    assert_eq!(machine.reports.len(), before);
    machine.session(5);
    assert_eq!(machine.reports.len(), before + 1);
}

#[test]
fn a_record_of_a_newer_version_is_refused() {
    let mut record = AgentRecord::new("b1".parse().unwrap());
    record.format += 1;
    assert!(record.check().is_err());
}

#[test]
fn names_that_are_served_and_not_on_disk_are_told_until_they_are() {
    let mut machine = Machine::joined(&spec(&[]));
    let version = NamesVersion {
        epoch: 5,
        number: 3,
    };
    machine.put(Input::Names(version));
    machine.put(Input::NamesUnsaved(Some("full".repeat(100))));
    machine.wait(1);
    let told = machine.reports.last().unwrap();
    assert_eq!(told.names, Some(version), "acknowledged all the same");
    assert_eq!(told.names_unsaved.as_ref().unwrap().len(), 256);
    machine.put(Input::NamesUnsaved(Some("no room".into())));
    let waiting = machine.lifecycle.waiting();
    let on_disk = waiting
        .iter()
        .find(|waiting| matches!(&waiting.what, WaitingFor::NamesOnDisk { reason } if reason == "no room"));
    assert_eq!(on_disk.unwrap().since, Duration::from_secs(1));
    machine.put(Input::NamesUnsaved(None));
    assert_eq!(machine.reports.last().unwrap().names_unsaved, None);
}

#[test]
fn how_it_is_registered_is_told_at_each_change_and_what_is_wrong_is_waited_for() {
    let mut machine = Machine::joined(&spec(&[]));
    let fault = |fault: Option<&str>| ConsulReport {
        registered: Some(CatalogueRole::Standby),
        fault: fault.map(str::to_owned),
    };
    machine.put(Input::Consul(Some(fault(Some("no leader")))));
    machine.wait(3);
    machine.put(Input::Consul(Some(fault(Some(&"x".repeat(300))))));
    let told = machine.reports.last().unwrap().consul.clone().unwrap();
    assert_eq!(told.fault.unwrap().len(), 256);
    let waiting = machine.lifecycle.waiting();
    let consul = |waiting: &&Waiting| matches!(waiting.what, WaitingFor::Consul { .. });
    let since = waiting.iter().find(consul).unwrap().since;
    assert_eq!(since, Duration::from_secs(3), "whatever the reason is");
    machine.put(Input::Consul(Some(fault(None))));
    assert_eq!(machine.reports.last().unwrap().consul, Some(fault(None)));
    assert!(machine.lifecycle.waiting().iter().find(consul).is_none());
}
