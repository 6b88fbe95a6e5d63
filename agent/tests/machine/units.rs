//! What runs beside the workload under a name.

use std::{fs, time::Duration};

use calvin_agent::workload::{Runner, UnitName, UnitState};
use calvin_model::{WorkloadState, image::StopSignal};
use calvin_proto::machine::ProcessId;
use rustix::process::Signal;

use crate::{
    IDLE,
    support::{DEADLINE, Machine, eventually, state, within, workload},
};

async fn unit(runner: &Runner, what: &str, good: impl Fn(&UnitState) -> bool) -> UnitState {
    let name = UnitName::consul();
    let seen = state(runner, what, |state| {
        state.units.get(&name).is_some_and(&good)
    })
    .await;
    seen.units[&name].clone()
}

fn runs(unit: &UnitState) -> bool {
    unit.state == WorkloadState::Running
}

#[tokio::test]
async fn a_unit_survives_its_agent_is_found_again_and_started_again_when_it_ends() {
    let mut machine = Machine::new(31, IDLE);
    let agent = machine.start().agent.unwrap();
    let runner = machine.runner();
    let name = UnitName::consul;
    let spec = workload(&machine, "echo begins; exec sleep 600");
    runner.start_unit(name(), spec.clone()).await.unwrap();
    let before = unit(&runner, "it runs", runs).await;
    let process = eventually("it is recorded", || {
        machine.record().units.get("consul").copied()
    })
    .await;
    assert_eq!(Some(process.pid), before.pid);
    assert_eq!(machine.record().workload, None);

    agent.signal(Signal::KILL).unwrap();
    eventually("another agent is started", || {
        machine.record().agent.filter(|next| *next != agent)
    })
    .await;
    let next = machine.runner();
    next.start_unit(name(), spec).await.unwrap();
    let after = unit(&next, "it runs", runs).await;
    assert_eq!((after.pid, after.starts), (before.pid, 1));
    let other = workload(&machine, "exec sleep 601");
    let error = next.start_unit(name(), other).await.unwrap_err();
    assert!(error.to_string().contains("another way"), "{error}");

    process.signal(Signal::KILL).unwrap();
    let again = unit(&next, "it runs again", |unit| {
        unit.starts == 2 && runs(unit)
    })
    .await;
    assert_ne!(again.pid, before.pid);
    let log = machine.files.unit_log("consul");
    let begun = || fs::read_to_string(&log).unwrap_or_default();
    eventually("its output is in a file", || {
        (begun() == "begins\nbegins\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_unit_that_is_stopped_and_started_in_another_way_runs_so_at_once() {
    let mut machine = Machine::new(32, IDLE);
    machine.start();
    let runner = machine.runner();
    let name = UnitName::consul;
    // Without a shell: one that is about to become another program can lose this signal.
    let mut first = workload(&machine, "");
    first.program = "sleep".into();
    first.arguments = vec!["600".into()];
    runner.start_unit(name(), first).await.unwrap();
    let before = unit(&runner, "it runs", runs).await;
    runner
        .stop_unit(name(), StopSignal::Int, DEADLINE)
        .await
        .unwrap();
    let second = workload(&machine, "exec sleep 601");
    runner.start_unit(name(), second).await.unwrap();
    let after = unit(&runner, "it runs", |unit| unit.starts == 2 && runs(unit)).await;
    assert_ne!(after.pid, before.pid);
}

#[tokio::test]
async fn a_unit_that_cannot_be_started_says_why_and_is_tried_again() {
    let mut machine = Machine::new(33, IDLE);
    machine.start();
    let runner = machine.runner();
    let mut spec = workload(&machine, "");
    spec.program = machine.files.root().join("missing");
    runner.start_unit(UnitName::consul(), spec).await.unwrap();
    let failed = unit(&runner, "a fault", |unit| unit.fault.is_some()).await;
    assert!(failed.fault.unwrap().contains("missing"));
    assert_eq!(failed.state, WorkloadState::Backoff);
    assert_eq!(failed.starts, 0);
}

#[tokio::test]
async fn a_machine_that_is_stopped_stops_its_units_as_they_want_it() {
    let mut machine = Machine::new(34, IDLE);
    let init = machine.start().init;
    let runner = machine.runner();
    let left = machine.files.root().join("left");
    // The shell waits for its child, so that it takes the signal at once.
    let script = format!(
        "trap 'echo left > {}; exit 0' TERM; sleep 600 & echo $! > {}; wait",
        left.display(),
        machine.files.root().join("child").display()
    );
    let spec = workload(&machine, &script);
    runner.start_unit(UnitName::consul(), spec).await.unwrap();
    let running = unit(&runner, "it runs", runs).await;
    let child = machine.files.root().join("child");
    crate::support::pid_in(&child).await;
    init.signal(Signal::TERM).unwrap();
    within("the machine ends", async {
        while machine.init().try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(left.exists(), "it left in good order");
    assert_eq!(ProcessId::of(running.pid.unwrap()), None);
}
