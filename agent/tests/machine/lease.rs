//! Work that needs a lease: it runs under one, and ends with it, whoever is away or stands still.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use calvin_agent::{
    clock::boottime,
    workload::{Runner, RunnerState, protocol::LEASE_OVER},
};
use calvin_consul::exclusive::LEASE;
use calvin_model::{WorkloadState, image::StopSignal};
use calvin_proto::machine::{InitRecord, ProcessId};
use rustix::process::Signal;
use tokio::time::timeout;

use crate::{
    IDLE,
    support::{DEADLINE, Machine, eventually, pid_in, running, state, within, workload},
};

/// How soon after the end of its lease all work must be gone.
const SOON: Duration = Duration::from_millis(200);
const SHORT: Duration = Duration::from_millis(700);

/// A machine that has to run work that does not stop when it is told to, with a child that does not
/// either, and without a lease yet.
struct Stubborn {
    machine: Machine,
    record: InitRecord,
    runner: Runner,
    child: PathBuf,
}

/// Its workload and the child, and until when they may run.
struct Leased {
    all: [ProcessId; 2],
    until: Duration,
}

impl Stubborn {
    async fn start(number: u8) -> Self {
        Self::start_on(Machine::new(number, IDLE)).await
    }

    async fn start_on(mut machine: Machine) -> Self {
        let record = machine.start();
        let runner = machine.runner();
        let child = machine.files.root().join("child");
        let script = format!(
            "trap '' TERM INT HUP; \
             sh -c 'trap \"\" TERM INT HUP; while :; do sleep 600; done' & \
             echo $! > {0}.new; mv {0}.new {0}; wait; wait; wait",
            child.display()
        );
        let mut spec = workload(&machine, &script);
        spec.needs_lease = true;
        runner.start(spec).await.unwrap();
        Self {
            machine,
            record,
            runner,
            child,
        }
    }

    /// Lets it run for so long, and waits until it does.
    async fn lease(&self, lasts: Duration) -> Leased {
        // It is told in whole milliseconds, and may be over before a fraction more is.
        let until_ms = (boottime() + lasts).as_millis().try_into().unwrap();
        let until = Duration::from_millis(until_ms);
        self.runner.lease(until).await.unwrap();
        let runs = running(&self.runner).await;
        let child = pid_in(&self.child).await;
        Leased {
            all: [process(runs.pid.unwrap()), process(child)],
            until,
        }
    }

    /// What the runner says once it has heard all that it was told.
    async fn newest(&self) -> RunnerState {
        self.runner.query().await.unwrap();
        self.runner.state().borrow().clone().unwrap()
    }
}

impl Leased {
    /// Waits until all is gone: soon after the end of the lease, and not before.
    async fn ends(&self) {
        let late = gone(&self.all).await.checked_sub(self.until);
        assert!(late.unwrap() < SOON, "{late:?} after the end");
    }
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

#[tokio::test]
async fn work_starts_with_a_lease_ends_with_it_and_starts_again_with_the_next() {
    let stubborn = Stubborn::start(41).await;
    let runner = &stubborn.runner;
    let waits = stubborn.newest().await;
    assert_eq!(
        (waits.workload, waits.starts, waits.lease_left_ms),
        (WorkloadState::Starting, 0, Some(0))
    );

    let leased = stubborn.lease(SHORT).await;
    // One that comes late takes nothing back.
    runner.lease(boottime()).await.unwrap();
    runner.lease(Duration::ZERO).await.unwrap();
    leased.ends().await;
    let seen = state(runner, "it waits for a lease", |state| {
        state.workload == WorkloadState::Backoff
    })
    .await;
    assert_eq!(seen.fault.as_deref(), Some(LEASE_OVER));
    assert_eq!((seen.starts, seen.restart_in_ms), (1, None));

    fs::remove_file(&stubborn.child).unwrap();
    stubborn.lease(LEASE).await;
    let again = stubborn.newest().await;
    assert_eq!((again.starts, again.fault), (2, None));
    assert!(again.lease_left_ms.unwrap() > 0);
}

#[tokio::test]
async fn an_absurd_lease_is_refused_and_starts_nothing() {
    let stubborn = Stubborn::start(42).await;
    for absurd in [
        Duration::MAX,
        Duration::from_millis(u64::MAX),
        boottime() + LEASE * 2,
    ] {
        let refused = stubborn.runner.lease(absurd).await.unwrap_err().to_string();
        assert!(refused.contains("at most"), "{refused}");
    }
    assert_eq!(stubborn.newest().await.starts, 0);
}

#[tokio::test]
async fn the_lease_ends_the_work_of_a_dead_agent_and_of_one_that_stands_still() {
    for (number, signal) in [(43, Signal::KILL), (44, Signal::STOP)] {
        let stubborn = Stubborn::start(number).await;
        let agent = stubborn.record.agent.unwrap();
        let leased = stubborn.lease(SHORT).await;
        drop(stubborn.runner);
        agent.signal(signal).unwrap();
        leased.ends().await;
        eventually("it is written down", || {
            let log = stubborn.machine.agent_log();
            log.contains(LEASE_OVER).then_some(())
        })
        .await;
        agent.signal(Signal::CONT).ok();
    }
}

#[tokio::test]
async fn the_lease_ends_the_work_while_the_runner_waits_for_its_disk() {
    let flood = "until [ -e flood ]; do sleep 0.05; done; yes; exec sleep 600";
    let machine = Machine::new(48, &format!("cd \"$CALVIN_MACHINE\"; {flood}"));
    // A log that takes what a pipe holds, and then nothing until somebody reads.
    let log = machine.files.agent_log();
    let made = Command::new("mkfifo").arg(&log).status().unwrap();
    assert!(made.success());
    let mut reader = File::options().read(true).write(true).open(&log).unwrap();
    let stubborn = Stubborn::start_on(machine).await;
    let leased = stubborn.lease(SHORT * 4).await;
    let runner = &stubborn.runner;
    fs::write(stubborn.machine.files.root().join("flood"), "").unwrap();
    let waits = async { while timeout(SHORT, runner.query()).await.is_ok() {} };
    within("the runner waits for its disk", waits).await;
    assert!(boottime() < leased.until, "it waited in time");

    leased.ends().await;
    let answered = timeout(SHORT, runner.query()).await;
    assert!(answered.is_err(), "it waits still");

    // The disk answers again: the runner sees what was done, and work is started with the next lease.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let seen = state(runner, "it waits for a lease", |state| {
        state.workload == WorkloadState::Backoff
    })
    .await;
    assert_eq!(seen.fault.as_deref(), Some(LEASE_OVER));
    runner.lease(boottime() + LEASE).await.unwrap();
    assert_eq!(running(runner).await.starts, 2);
}

#[tokio::test]
async fn work_that_is_told_to_stop_gets_no_time_beyond_its_lease() {
    let stubborn = Stubborn::start(45).await;
    let leased = stubborn.lease(SHORT).await;
    let runner = &stubborn.runner;
    runner.stop(StopSignal::Term, DEADLINE).await.unwrap();
    leased.ends().await;
    state(runner, "it is stopped", |state| {
        state.workload == WorkloadState::Stopped
    })
    .await;
    runner.lease(boottime() + LEASE).await.unwrap();
    assert_eq!(stubborn.newest().await.starts, 1);
}

#[tokio::test]
async fn a_runner_that_stood_still_beyond_the_lease_ends_the_work_first() {
    let stubborn = Stubborn::start(46).await;
    let init = stubborn.record.init;
    let Leased { all, .. } = stubborn.lease(SHORT).await;
    init.signal(Signal::STOP).unwrap();
    tokio::time::sleep(SHORT * 2).await;
    assert!(
        all.iter().all(|process| process.is_alive()),
        "nobody could end it"
    );
    // An agent goes on giving orders meanwhile.
    let others = stubborn.runner.clone();
    let order = tokio::spawn(async move { others.lease(boottime() + LEASE).await });
    let began = Instant::now();
    init.signal(Signal::CONT).unwrap();
    gone(&all).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    order.await.unwrap().unwrap();
    let again = state(&stubborn.runner, "it runs again", |state| {
        state.starts == 2 && state.workload == WorkloadState::Running
    })
    .await;
    assert_ne!(process(again.pid.unwrap()), all[0]);
}

#[tokio::test]
async fn work_with_a_lease_ends_with_its_runner() {
    let stubborn = Stubborn::start(47).await;
    let Leased { all: [own, _], .. } = stubborn.lease(LEASE).await;
    stubborn.record.init.signal(Signal::KILL).unwrap();
    gone(&[own]).await;
}
