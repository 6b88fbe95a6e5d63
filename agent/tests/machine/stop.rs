//! A machine that is stopped: its services leave Consul before its workload ends, if that goes quickly.

use std::time::{Duration, Instant};

use calvin_agent::workload::{Runner, UnitName};
use calvin_model::WorkloadState;
use calvin_proto::machine::ProcessId;
use rustix::process::Signal;

use crate::{
    IDLE,
    support::{Machine, eventually, running, state, within, workload},
};

/// What a stop waits for an agent at most.
const LIMIT: Duration = Duration::from_secs(5);
/// What a stop that waits for nobody takes at most on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

struct Stage {
    machine: Machine,
    runner: Runner,
    workload: ProcessId,
}

impl Stage {
    /// A machine with a workload and what passes for a Consul client.
    async fn with_client(number: u8) -> Self {
        let stage = Self::without_client(number).await;
        let client = workload(&stage.machine, "exec sleep 600");
        let name = UnitName::consul();
        let started = stage.runner.start_unit(name.clone(), client);
        started.await.unwrap();
        state(&stage.runner, "the client runs", |state| {
            let unit = state.units.get(&name);
            unit.is_some_and(|unit| unit.state == WorkloadState::Running)
        })
        .await;
        stage
    }

    async fn without_client(number: u8) -> Self {
        let mut machine = Machine::new(number, IDLE);
        machine.start();
        let runner = machine.runner();
        let spec = workload(&machine, "exec sleep 600");
        runner.start(spec).await.unwrap();
        let pid = running(&runner).await.pid.unwrap();
        Self {
            machine,
            runner,
            workload: ProcessId::of(pid).unwrap(),
        }
    }

    fn signal(&self) {
        self.machine.record().init.signal(Signal::TERM).unwrap();
    }

    async fn says_that_it_stops(&self) {
        state(&self.runner, "it says so", |state| state.stopping).await;
    }

    /// Waits until the workload is gone, and then for the machine's end.
    async fn ends(&mut self, began: Instant) -> Duration {
        let workload = self.workload;
        let took = eventually("the workload is gone", || {
            (!workload.is_alive()).then(|| began.elapsed())
        })
        .await;
        within("the machine ends", async {
            while self.machine.init().try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        took
    }
}

#[tokio::test]
async fn a_stop_says_so_first_and_goes_on_when_nobody_finds_the_services() {
    let mut stage = Stage::with_client(51).await;
    assert!(!running(&stage.runner).await.stopping);
    // Said too early it counts for nothing.
    stage.runner.not_found().await.unwrap();
    let began = Instant::now();
    stage.signal();
    stage.says_that_it_stops().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(stage.workload.is_alive(), "it serves still");
    stage.runner.not_found().await.unwrap();
    let took = stage.ends(began).await;
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn an_agent_that_is_silent_or_dies_delays_a_stop_no_longer_than_the_limit() {
    let silent = async {
        let mut stage = Stage::with_client(52).await;
        let began = Instant::now();
        stage.signal();
        stage.ends(began).await
    };
    let dies = async {
        let mut stage = Stage::with_client(53).await;
        let agent = stage.machine.record().agent.unwrap();
        let began = Instant::now();
        stage.signal();
        stage.says_that_it_stops().await;
        stage.runner = Runner::connect("/nowhere").0;
        agent.signal(Signal::KILL).unwrap();
        stage.ends(began).await
    };
    let (silent, dies) = tokio::join!(silent, dies);
    for took in [silent, dies] {
        assert!((LIMIT..LIMIT + AT_ONCE).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn a_stop_that_nobody_can_help_or_that_is_told_twice_waits_for_nobody() {
    let mut without = Stage::without_client(54).await;
    let began = Instant::now();
    without.signal();
    without.ends(began).await;
    let took = began.elapsed();
    assert!(took < AT_ONCE, "without a client: {took:?}");

    let mut twice = Stage::with_client(55).await;
    let began = Instant::now();
    twice.signal();
    twice.says_that_it_stops().await;
    twice.signal();
    twice.ends(began).await;
    let took = began.elapsed();
    assert!(took < AT_ONCE, "told twice: {took:?}");
}
