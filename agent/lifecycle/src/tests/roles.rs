//! Every way from one role to another.

use calvin_model::{Connections, ConsulReport};

use super::*;
use crate::WaitingFor;

fn hook_fails() -> HookOutcome {
    HookOutcome::Failed("ended with code 1".into())
}

#[test]
fn boot_work_starts_when_the_identity_is_sealed_and_waits_for_no_role() {
    let mut machine = Machine::new(&spec(&[BOOT_WORK]));
    machine.put(Input::Workload(WorkloadState::NotWanted));
    assert!(machine.log.is_empty());
    machine.put(Input::Enrolled);
    assert_eq!(machine.log, ["start"]);
}

#[test]
fn standby_active_draining_retired_in_order_with_every_hook() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    for (generation, role, applied_while_hook_runs) in [
        (1, Role::Standby, false),
        (2, Role::Active, false),
        (3, Role::Draining, true),
        (4, Role::Retired, false),
    ] {
        machine.want(generation, role);
        assert_eq!(machine.hooks.len(), 1, "{role}");
        assert_eq!(
            machine.applied() == generation,
            applied_while_hook_runs,
            "{role}"
        );
        machine.end_hook(HookOutcome::Done);
        assert_eq!(machine.applied(), generation, "{role}");
        assert_eq!(machine.report().role_applied, Some(role));
    }
    let log = ["start", "standby", "active", "drain", "retire", "stop"];
    assert_eq!(machine.log, log);
    assert!(
        machine.report().drain.unwrap().done,
        "how it drained is still told"
    );
}

#[test]
fn pulled_work_runs_only_while_active_and_is_gone_before_standby_counts() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK]));
    machine.want(1, Role::Standby);
    assert_eq!((machine.applied(), machine.runs), (1, false));
    machine.want(2, Role::Active);
    assert_eq!((machine.applied(), machine.runs), (2, true));
    // The runner takes its time to stop it.
    let outputs = machine.lifecycle.handle(
        machine.now,
        Input::Wanted {
            epoch: epoch(5, "aa"),
            wanted: wanted(3, Role::Standby),
        },
    );
    let Some(Output::Persist(record)) = outputs.first().cloned() else {
        panic!("{outputs:?}");
    };
    let revision = record.revision;
    let outputs = machine
        .lifecycle
        .handle(machine.now, Input::Committed { revision });
    assert!(outputs.contains(&Output::StopWorkload), "{outputs:?}");
    machine.put(Input::Workload(WorkloadState::Stopping));
    assert_eq!(machine.applied(), 2, "it may still finish what it pulled");
    machine.put(Input::Workload(WorkloadState::Stopped));
    assert_eq!(machine.applied(), 3);
}

#[test]
fn pulled_work_goes_on_while_draining_but_draining_never_starts_it() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK]));
    machine.want(1, Role::Active);
    machine.want(2, Role::Draining);
    assert!(machine.runs);
    machine.want(3, Role::Standby);
    assert!(!machine.runs);
    machine.want(4, Role::Draining);
    assert!(!machine.runs);
    assert_eq!(machine.log, ["start", "stop"]);
}

#[test]
fn a_failing_active_hook_keeps_it_from_being_active_and_runs_again() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK, HOOKS]));
    machine.want(1, Role::Active);
    machine.end_hook(hook_fails());
    assert_eq!((machine.applied(), machine.runs), (0, false));
    assert!(machine.report().failing[0].contains("hook active failed 1 times"));
    assert!(
        matches!(
            machine.lifecycle.waiting()[0].what,
            WaitingFor::HookAgain { .. }
        ),
        "{:?}",
        machine.lifecycle.waiting()
    );
    machine.wait(1);
    machine.end_hook(HookOutcome::Done);
    assert_eq!((machine.applied(), machine.runs), (1, true));
    assert!(machine.report().failing.is_empty());
}

#[test]
fn a_hook_that_is_to_run_again_waits_for_a_commit_without_a_busy_loop() {
    let mut machine = Machine::joined(&spec(&[HOOKS]));
    machine.want(1, Role::Active);
    machine.end_hook(hook_fails());
    machine.disk_works = false;
    machine.want(2, Role::Active);
    // The hook's pause is over, and it cannot run before the newer order is on disk.
    machine.wait(2);
    assert!(machine.hooks.is_empty());
    let deadline = machine.lifecycle.deadline().unwrap();
    assert!(deadline > machine.now, "{deadline:?}");
    machine.disk_works = true;
    machine.wait(1);
    assert_eq!(machine.hooks.len(), 1);
}

#[test]
fn work_that_was_stopped_on_the_way_to_standby_is_not_started_to_drain() {
    let mut machine = Machine::joined(&spec(&[PULLED_WORK, HOOKS]));
    machine.want(1, Role::Active);
    machine.end_hook(HookOutcome::Done);
    machine.want(2, Role::Standby);
    machine.want(3, Role::Draining);
    machine.end_hook(hook_fails());
    assert_eq!((machine.applied(), machine.runs), (3, false));
    assert_eq!(machine.log, ["active", "start", "stop", "standby", "drain"]);
}

#[test]
fn a_failing_retire_hook_does_not_keep_a_machine_for_ever() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    machine.want(1, Role::Retired);
    for _ in 0..3 {
        assert!(machine.runs, "its hook may still need it");
        machine.end_hook(hook_fails());
        machine.wait(30);
    }
    assert_eq!((machine.applied(), machine.runs), (1, false));
}

#[test]
fn a_machine_is_retired_when_it_has_left_consul_and_no_later_than_five_seconds_after_its_work() {
    let joined = || {
        let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
        machine.put(Input::Consul(Some(ConsulReport::default())));
        machine.want(1, Role::Retired);
        assert!(!machine.lifecycle.has_ended(), "its hook may need Consul");
        machine.end_hook(HookOutcome::Done);
        assert!(machine.lifecycle.has_ended());
        assert_eq!(machine.applied(), 0);
        machine
    };
    let mut leaves = joined();
    leaves.wait(3);
    let waits = leaves.lifecycle.waiting();
    let left = Duration::from_secs(2);
    let leave = |waiting: &crate::Waiting| waiting.what == WaitingFor::ConsulLeft { left };
    assert!(waits.iter().any(leave), "{waits:?}");
    leaves.put(Input::Consul(None));
    assert_eq!(leaves.applied(), 1);

    let mut cannot = joined();
    let due = cannot.lifecycle.deadline().unwrap() - cannot.now;
    assert!(due <= Duration::from_secs(5), "{due:?}");
    cannot.wait(4);
    assert_eq!(cannot.applied(), 0);
    cannot.wait(1);
    assert_eq!(cannot.applied(), 1);
    assert_eq!(cannot.lifecycle.waiting(), []);
}

#[test]
fn the_newest_role_is_applied_after_the_hook_that_runs() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    machine.want(1, Role::Standby);
    machine.end_hook(HookOutcome::Done);
    machine.want(2, Role::Active);
    machine.want(3, Role::Draining);
    machine.want(4, Role::Standby);
    assert_eq!(machine.hooks.len(), 1, "the active hook is not cut short");
    machine.end_hook(HookOutcome::Done);
    // Half a transition is undone, also back to the role that is still applied.
    assert_eq!(machine.hooks, [(machine.hooks[0].0, HookKind::Standby)]);
    assert_eq!(machine.applied(), 1);
    machine.end_hook(HookOutcome::Done);
    assert_eq!(machine.applied(), 4);
}

#[test]
fn a_newer_number_of_the_same_role_runs_no_hook() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    machine.want(1, Role::Standby);
    machine.want(2, Role::Standby);
    machine.end_hook(HookOutcome::Done);
    machine.want(3, Role::Standby);
    assert_eq!(machine.applied(), 3);
    assert_eq!(machine.log, ["start", "standby"]);
}

#[test]
fn the_end_of_an_older_hook_run_is_not_taken_for_the_newer() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    machine.want(1, Role::Active);
    let (old, _) = machine.hooks[0];
    machine.end_hook(hook_fails());
    machine.wait(1);
    machine.put(Input::HookEnded {
        run: old,
        outcome: HookOutcome::Done,
    });
    assert_eq!(machine.applied(), 0);
}

#[test]
fn going_back_to_work_ends_the_drain_hook() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    machine.want(1, Role::Draining);
    machine.want(2, Role::Active);
    assert_eq!(machine.log, ["start", "drain", "cancel", "active"]);
    machine.end_hook(HookOutcome::Done);
    assert_eq!(machine.applied(), 2);
    assert_eq!(machine.report().drain, None);
}

#[test]
fn a_drain_hook_that_fails_runs_again_until_the_deadline_and_then_the_coordinator_decides() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, HOOKS]));
    machine.want(1, Role::Draining);
    machine.end_hook(hook_fails());
    machine.wait(1);
    assert_eq!(machine.log, ["start", "drain", "drain"]);
    machine.wait(59);
    assert_eq!(machine.log.last().unwrap(), "cancel");
    let drain = machine.report().drain.unwrap();
    assert_eq!((drain.done, drain.time_left), (false, Duration::ZERO));
    assert!(
        machine
            .lifecycle
            .waiting()
            .iter()
            .any(|waiting| waiting.what == WaitingFor::DrainDecision)
    );
    assert!(
        machine.runs,
        "what becomes of it is not the agent's decision"
    );
}

#[test]
fn without_a_drain_hook_it_is_done_when_no_connection_came_for_a_while() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    let open = |count| {
        Input::Connections(Some(Connections {
            count,
            peers: Vec::new(),
        }))
    };
    machine.put(open(0));
    machine.want(1, Role::Draining);
    machine.wait(2);
    assert!(
        !machine.report().drain.unwrap().done,
        "nobody looked since it drains"
    );
    machine.put(open(2));
    machine.wait(2);
    machine.put(open(0));
    assert!(
        !machine.report().drain.unwrap().done,
        "a client may be between two requests"
    );
    assert_eq!(
        machine.lifecycle.deadline().unwrap(),
        machine.now + Duration::from_secs(1)
    );
    machine.wait(1);
    let drain = machine.report().drain.unwrap();
    assert_eq!((drain.done, drain.connections), (true, Some(0)));
    machine.put(open(1));
    assert!(!machine.report().drain.unwrap().done, "one came back");
}

#[test]
fn where_connections_cannot_be_counted_only_the_deadline_ends_a_drain() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    machine.want(1, Role::Draining);
    machine.put(Input::Connections(None));
    machine.wait(59);
    let drain = machine.report().drain.unwrap();
    assert_eq!((drain.done, drain.connections), (false, None));
}

#[test]
fn a_newer_drain_order_moves_the_deadline() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    machine.want(1, Role::Draining);
    machine.wait(50);
    machine.want(2, Role::Draining);
    assert_eq!(
        machine.report().drain.unwrap().time_left,
        Duration::from_secs(60)
    );
}

#[test]
fn a_restarted_agent_finds_its_role_and_runs_no_hook_again() {
    let spec = spec(&[PULLED_WORK, HOOKS]);
    let mut machine = Machine::joined(&spec);
    machine.want(1, Role::Active);
    machine.end_hook(HookOutcome::Done);
    machine.restart(&spec, "b1");
    assert_eq!((machine.applied(), machine.runs), (1, true));
    assert!(machine.hooks.is_empty());
}

#[test]
fn a_later_boot_goes_back_to_its_last_role_without_any_server() {
    let spec = spec(&[PULLED_WORK, HOOKS]);
    let mut machine = Machine::joined(&spec);
    machine.want(1, Role::Active);
    machine.end_hook(HookOutcome::Done);
    machine.log.clear();
    machine.restart(&spec, "b2");
    assert_eq!(machine.applied(), 0, "nothing is applied in this boot yet");
    machine.end_hook(HookOutcome::Done);
    assert_eq!(machine.log, ["active", "start"]);
    assert_eq!((machine.applied(), machine.runs), (1, true));
}

#[test]
fn a_later_boot_of_a_retired_machine_starts_nothing() {
    let spec = spec(&[BOOT_WORK]);
    let mut machine = Machine::joined(&spec);
    machine.want(1, Role::Retired);
    machine.log.clear();
    machine.restart(&spec, "b2");
    assert_eq!(machine.applied(), 1);
    assert!(machine.log.is_empty(), "{:?}", machine.log);
}

#[test]
fn a_drain_goes_on_after_a_restart_of_the_agent() {
    let spec = spec(&[BOOT_WORK, HOOKS]);
    let mut machine = Machine::joined(&spec);
    machine.want(1, Role::Draining);
    machine.restart(&spec, "b1");
    assert_eq!(machine.hooks.len(), 1);
    machine.end_hook(HookOutcome::Done);
    assert!(machine.report().drain.unwrap().done);
}

#[test]
fn a_runner_that_lost_what_it_was_told_is_told_again() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK]));
    assert_eq!(machine.log, ["start"]);
    machine.put(Input::Workload(WorkloadState::NotWanted));
    assert_eq!(machine.log, ["start", "start"]);
}

#[test]
fn a_lost_session_changes_nothing_on_the_machine() {
    let mut machine = Machine::joined(&spec(&[BOOT_WORK, CHECK]));
    machine.want(1, Role::Active);
    let log = machine.log.clone();
    machine.put(Input::SessionDown);
    for _ in 0..100 {
        machine.check(0, "+");
        machine.wait(1);
    }
    assert_eq!(machine.log, log);
    assert_eq!(machine.report().health, calvin_model::Health::Healthy);
}
