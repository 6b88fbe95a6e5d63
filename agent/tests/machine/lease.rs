//! Work that needs a lease: it runs under one, and ends with it, whoever is away or stands still.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use calvin_agent::{
    clock::boottime,
    workload::{Runner, RunnerState, WorkloadSpec, protocol::LEASE_OVER},
};
use calvin_consul::exclusive::LEASE;
use calvin_model::{WorkloadState, image::StopSignal};
use calvin_proto::machine::ProcessId;
use rustix::process::Signal;
use tokio::time::timeout;

use crate::{
    IDLE,
    support::{DEADLINE, Machine, eventually, pid_in, running, state, within, workload},
};

/// How soon after the end of its lease all work must be gone.
const SOON: Duration = Duration::from_millis(200);
const SHORT: Duration = Duration::from_millis(700);

/// Work that does not stop when it is told to, with a child that does not either.
fn stubborn(machine: &Machine) -> (WorkloadSpec, PathBuf) {
    let child = machine.files.root().join("child");
    let script = format!(
        "trap '' TERM INT HUP; sh -c 'trap \"\" TERM INT HUP; while :; do sleep 600; done' & \
         echo $! > {0}.new; mv {0}.new {0}; wait; wait; wait",
        child.display()
    );
    let mut spec = workload(machine, &script);
    spec.needs_lease = true;
    (spec, child)
}

/// This moment and so much, in whole milliseconds, as a lease is ordered.
fn in_time(ahead: Duration) -> Duration {
    let at = boottime() + ahead;
    Duration::from_millis(u64::try_from(at.as_millis()).unwrap())
}

fn process(pid: i32) -> ProcessId {
    ProcessId::of(pid).unwrap()
}

/// Waits until none of them is there, and says when that was.
async fn gone(processes: &[ProcessId]) -> Duration {
    eventually("all work is gone", || {
        let alive = processes.iter().any(|process| process.is_alive());
        (!alive).then(boottime)
    })
    .await
}

async fn waits_for_lease(runner: &Runner) -> RunnerState {
    state(runner, "it waits for a lease", |state| {
        state.workload == WorkloadState::Backoff
    })
    .await
}

#[tokio::test]
async fn work_starts_with_a_lease_ends_with_it_and_starts_again_with_the_next() {
    let mut machine = Machine::new(41, IDLE);
    machine.start();
    let runner = machine.runner();
    let (spec, child) = stubborn(&machine);
    runner.start(spec.clone()).await.unwrap();
    runner.query().await.unwrap();
    let waits = runner.state().borrow().clone().unwrap();
    assert_eq!(
        (waits.workload, waits.starts, waits.lease_left_ms),
        (WorkloadState::Starting, 0, Some(0))
    );

    let until = in_time(SHORT);
    runner.lease(until).await.unwrap();
    let runs = running(&runner).await;
    let all = [process(runs.pid.unwrap()), process(pid_in(&child).await)];
    // One that comes late takes nothing back.
    runner.lease(boottime()).await.unwrap();
    runner.lease(Duration::ZERO).await.unwrap();
    let late = gone(&all).await.checked_sub(until);
    assert!(late.unwrap() < SOON, "{late:?} after the end");
    let seen = waits_for_lease(&runner).await;
    assert_eq!(seen.fault.as_deref(), Some(LEASE_OVER));
    assert_eq!((seen.starts, seen.restart_in_ms), (1, None));

    fs::remove_file(&child).unwrap();
    runner.lease(boottime() + LEASE).await.unwrap();
    let again = running(&runner).await;
    assert_eq!((again.starts, again.fault), (2, None));
    assert!(again.lease_left_ms.unwrap() > 0);
    pid_in(&child).await;
}

#[tokio::test]
async fn an_absurd_lease_is_refused_and_starts_nothing() {
    let mut machine = Machine::new(42, IDLE);
    machine.start();
    let runner = machine.runner();
    let (spec, _) = stubborn(&machine);
    runner.start(spec).await.unwrap();
    for absurd in [
        Duration::MAX,
        Duration::from_millis(u64::MAX),
        boottime() + LEASE * 2,
    ] {
        let refused = runner.lease(absurd).await.unwrap_err().to_string();
        assert!(refused.contains("at most"), "{refused}");
    }
    runner.query().await.unwrap();
    assert_eq!(runner.state().borrow().as_ref().unwrap().starts, 0);
}

#[tokio::test]
async fn the_lease_ends_the_work_of_a_dead_agent_and_of_one_that_stands_still() {
    for (number, signal) in [(43, Signal::KILL), (44, Signal::STOP)] {
        let mut machine = Machine::new(number, IDLE);
        let agent = machine.start().agent.unwrap();
        let (spec, child) = stubborn(&machine);
        let runner = machine.runner();
        runner.start(spec).await.unwrap();
        let until = in_time(SHORT);
        runner.lease(until).await.unwrap();
        let runs = running(&runner).await;
        let all = [process(runs.pid.unwrap()), process(pid_in(&child).await)];
        drop(runner);
        agent.signal(signal).unwrap();
        let late = gone(&all).await.checked_sub(until);
        assert!(late.unwrap() < SOON, "{signal:?}: {late:?} after the end");
        eventually("it is written down", || {
            machine.agent_log().contains(LEASE_OVER).then_some(())
        })
        .await;
        agent.signal(Signal::CONT).ok();
    }
}

#[tokio::test]
async fn the_lease_ends_the_work_while_the_runner_waits_for_its_disk() {
    let flood = "until [ -e flood ]; do sleep 0.05; done; yes; exec sleep 600";
    let mut machine = Machine::new(48, &format!("cd \"$CALVIN_MACHINE\"; {flood}"));
    // A log that takes what a pipe holds, and then nothing until somebody reads.
    let log = machine.files.agent_log();
    let made = Command::new("mkfifo").arg(&log).status().unwrap();
    assert!(made.success());
    let mut reader = File::options().read(true).write(true).open(&log).unwrap();
    machine.start();
    let runner = machine.runner();
    let (spec, child) = stubborn(&machine);
    runner.start(spec).await.unwrap();
    let until = in_time(SHORT * 4);
    runner.lease(until).await.unwrap();
    let runs = running(&runner).await;
    let all = [process(runs.pid.unwrap()), process(pid_in(&child).await)];
    fs::write(machine.files.root().join("flood"), "").unwrap();
    let waits = async { while timeout(SHORT, runner.query()).await.is_ok() {} };
    within("the runner waits for its disk", waits).await;
    assert!(boottime() < until, "it waited in time");

    let late = gone(&all).await.checked_sub(until);
    assert!(late.unwrap() < SOON, "{late:?} after the end");
    let answered = timeout(SHORT, runner.query()).await;
    assert!(answered.is_err(), "it waits still");

    // The disk answers again: the runner sees what was done, and work is started with the next lease.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let seen = waits_for_lease(&runner).await;
    assert_eq!(seen.fault.as_deref(), Some(LEASE_OVER));
    runner.lease(boottime() + LEASE).await.unwrap();
    assert_eq!(running(&runner).await.starts, 2);
}

#[tokio::test]
async fn work_that_is_told_to_stop_gets_no_time_beyond_its_lease() {
    let mut machine = Machine::new(45, IDLE);
    machine.start();
    let runner = machine.runner();
    let (spec, child) = stubborn(&machine);
    runner.start(spec).await.unwrap();
    let until = in_time(SHORT);
    runner.lease(until).await.unwrap();
    let runs = running(&runner).await;
    let all = [process(runs.pid.unwrap()), process(pid_in(&child).await)];
    runner.stop(StopSignal::Term, DEADLINE).await.unwrap();
    let late = gone(&all).await.checked_sub(until);
    assert!(late.unwrap() < SOON, "{late:?} after the end");
    state(&runner, "it is stopped", |state| {
        state.workload == WorkloadState::Stopped
    })
    .await;
    runner.lease(boottime() + LEASE).await.unwrap();
    runner.query().await.unwrap();
    assert_eq!(runner.state().borrow().as_ref().unwrap().starts, 1);
}

#[tokio::test]
async fn a_runner_that_stood_still_beyond_the_lease_ends_the_work_first() {
    let mut machine = Machine::new(46, IDLE);
    let init = machine.start().init;
    let runner = machine.runner();
    let (spec, child) = stubborn(&machine);
    runner.start(spec).await.unwrap();
    let until = in_time(SHORT);
    runner.lease(until).await.unwrap();
    let runs = running(&runner).await;
    let all = [process(runs.pid.unwrap()), process(pid_in(&child).await)];
    init.signal(Signal::STOP).unwrap();
    tokio::time::sleep(SHORT * 2).await;
    assert!(
        all.iter().all(|process| process.is_alive()),
        "nobody could end it"
    );
    // An agent goes on giving orders meanwhile.
    let others = runner.clone();
    let order = tokio::spawn(async move { others.lease(boottime() + LEASE).await });
    let began = Instant::now();
    init.signal(Signal::CONT).unwrap();
    gone(&all).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    order.await.unwrap().unwrap();
    let again = state(&runner, "it runs again", |state| {
        state.starts == 2 && state.workload == WorkloadState::Running
    })
    .await;
    assert_ne!(again.pid, runs.pid);
}

#[tokio::test]
async fn work_with_a_lease_ends_with_its_runner() {
    let mut machine = Machine::new(47, IDLE);
    let init = machine.start().init;
    let runner = machine.runner();
    let (spec, _) = stubborn(&machine);
    runner.start(spec).await.unwrap();
    runner.lease(boottime() + LEASE).await.unwrap();
    let runs = running(&runner).await;
    let own = process(runs.pid.unwrap());
    init.signal(Signal::KILL).unwrap();
    gone(&[own]).await;
}
