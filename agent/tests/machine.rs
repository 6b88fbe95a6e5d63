//! Machines with real processes: `calvin-agent init` with scripts as agent and workload.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests, and what they share"
)]

#[path = "machine/descriptors.rs"]
mod descriptors;
#[path = "machine/lease.rs"]
mod lease;
#[path = "machine/stop.rs"]
mod stop;
#[path = "machine/support.rs"]
mod support;
#[path = "machine/units.rs"]
mod units;

use std::{
    fs,
    io::{Read, Write},
    net::UdpSocket,
    os::unix::net::UnixStream,
    process::Stdio,
    time::Duration,
};

use calvin_agent::workload::End;
use calvin_model::{WorkloadState, image::StopSignal};
use calvin_proto::machine::{AddressLock, ProcessId};
use rustix::process::Signal;
use support::{DEADLINE, Machine, eventually, pid_in, running, state, within, workload};

const IDLE: &str = "exec sleep 600";

#[tokio::test]
async fn a_workload_survives_its_agent_and_the_next_agent_takes_it_over() {
    let mut machine = Machine::new(1, IDLE);
    let agent = machine.start().agent.unwrap();
    let runner = machine.runner();
    let spec = workload(&machine, "exec sleep 600");
    runner.start(spec.clone()).await.unwrap();
    let before = running(&runner).await;

    agent.signal(Signal::KILL).unwrap();
    let next = eventually("another agent is started", || {
        machine.record().agent.filter(|next| *next != agent)
    })
    .await;
    assert!(next.is_alive());

    let next_runner = machine.runner();
    next_runner.start(spec).await.unwrap();
    let after = running(&next_runner).await;
    assert_eq!(after.pid, before.pid);
    assert_eq!((after.starts, after.boot), (1, before.boot));
}

#[tokio::test]
async fn a_running_workload_is_not_ended_by_another_start() {
    let mut machine = Machine::new(2, IDLE);
    machine.start();
    let runner = machine.runner();
    runner
        .start(workload(&machine, "exec sleep 600"))
        .await
        .unwrap();
    let before = running(&runner).await;
    let error = runner.start(workload(&machine, "exec sleep 601")).await;
    assert!(error.unwrap_err().to_string().contains("stop it first"));
    assert_eq!(running(&runner).await.pid, before.pid);
}

#[tokio::test]
async fn a_workload_that_ends_is_started_again_with_its_group_ended() {
    let mut machine = Machine::new(3, IDLE);
    machine.start();
    let runner = machine.runner();
    let child = machine.files.root().join("child");
    // Written by the first start only: a later one may be stopped in the middle of it.
    let script = format!(
        "sleep 600 & [ -e {0} ] || echo $! > {0}; exit 3",
        child.display()
    );
    runner.start(workload(&machine, &script)).await.unwrap();
    let seen = state(&runner, "three starts", |state| state.starts >= 3).await;
    assert_eq!(seen.last_end, Some(End::Exited(3)));
    runner.stop(StopSignal::Term, DEADLINE).await.unwrap();
    state(&runner, "it is stopped", |state| {
        state.workload == WorkloadState::Stopped
    })
    .await;
    let child = pid_in(&child).await;
    eventually("the child is gone", || {
        ProcessId::of(child).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_workload_that_ignores_its_stop_signal_is_killed_with_its_children() {
    let mut machine = Machine::new(4, IDLE);
    machine.start();
    let runner = machine.runner();
    let child = machine.files.root().join("child");
    let script = format!(
        "trap '' TERM; sleep 600 & echo $! > {}; wait; wait",
        child.display()
    );
    runner.start(workload(&machine, &script)).await.unwrap();
    let child = pid_in(&child).await;
    let timeout = Duration::from_millis(100);
    runner.stop(StopSignal::Term, timeout).await.unwrap();
    let stopped = state(&runner, "it is stopped", |state| {
        state.workload == WorkloadState::Stopped
    })
    .await;
    assert_eq!(stopped.last_end, Some(End::Signalled(9)));
    eventually("the child is gone", || {
        ProcessId::of(child).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_workload_that_cannot_be_started_says_why_and_is_tried_again() {
    let mut machine = Machine::new(5, IDLE);
    machine.start();
    let runner = machine.runner();
    let mut spec = workload(&machine, "");
    let program = machine.files.root().join("server");
    spec.program = program.clone();
    spec.arguments.clear();
    runner.start(spec).await.unwrap();
    let seen = state(&runner, "it says why", |state| state.fault.is_some()).await;
    assert!(seen.fault.unwrap().contains("server"));
    fs::write(
        machine.files.root().join("new"),
        "#!/bin/sh\nexec sleep 600\n",
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(machine.files.root().join("new"), mode).unwrap();
    fs::rename(machine.files.root().join("new"), program).unwrap();
    assert_eq!(running(&runner).await.fault, None);
}

#[tokio::test]
async fn a_burst_of_output_stalls_nothing_while_the_agent_is_killed() {
    const LINES: u64 = 1_000_000;
    let mut machine = Machine::new(6, IDLE);
    let agent = machine.start().agent.unwrap();
    let runner = machine.runner();
    let done = machine.files.root().join("done");
    // 53 bytes a line.
    let script = format!(
        "seq -f 'line %012.0f of a burst that nobody can keep up' {LINES}; echo $$ > {}; exec sleep 600",
        done.display()
    );
    runner.start(workload(&machine, &script)).await.unwrap();
    agent.signal(Signal::KILL).unwrap();
    let writer = pid_in(&done).await;
    assert_eq!(running(&runner).await.pid, Some(writer));

    let expected = LINES * 53;
    let counts = within("all of it is read", async {
        loop {
            runner.query().await.unwrap();
            let counts = runner.state().borrow().clone().unwrap().console;
            if counts.read >= expected {
                return counts;
            }
        }
    })
    .await;
    assert_eq!(counts.read, expected);
    assert_eq!(counts.failed, 0);
    assert_eq!(counts.kept + counts.overwritten, expected);
    let newest = fs::read_to_string(machine.files.console()).unwrap();
    let older = fs::read_to_string(machine.files.root().join("console.log.1")).unwrap();
    assert_eq!(counts.kept, (newest.len() + older.len()) as u64);
    assert!(counts.kept <= 8 * 1024 * 1024);
    // What is kept is the end, without a gap.
    let numbers: Vec<u64> = older
        .lines()
        .chain(newest.lines())
        .map(|line| line[5..17].parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&LINES));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[tokio::test]
async fn each_agent_gets_the_sockets_and_a_look_up_in_between_is_not_lost() {
    let script = "echo $LISTEN_PID $$ $LISTEN_FDS $CALVIN_BOOT_ID; \
                  readlink /proc/$$/fd/3 /proc/$$/fd/4; exec sleep 600";
    let mut machine = Machine::new(7, script);
    let record = machine.start();
    let report = |machine: &Machine, times: usize| {
        let log = machine.agent_log();
        let socket = log.lines().filter(|line| line.starts_with("socket:"));
        (socket.count() == 2 * times).then_some(log)
    };
    let log = eventually("the agent reports", || report(&machine, 1)).await;
    let pid = record.agent.unwrap().pid;
    let expected = format!("{pid} {pid} 2 {}", record.boot);
    assert!(log.contains(&expected), "{log}");

    record.agent.unwrap().signal(Signal::KILL).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(machine.dns()).unwrap();
    client.send(b"look-up").unwrap();
    eventually("the next agent reports", || report(&machine, 2)).await;
    // Refused would be told by the next call on the socket.
    client.send(b"look-up").unwrap();
    std::net::TcpStream::connect(machine.dns()).unwrap();
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let mut machine = Machine::new(8, IDLE);
    machine.start();
    let runner = machine.runner();
    runner
        .start(workload(&machine, "exec sleep 600"))
        .await
        .unwrap();
    let before = running(&runner).await;
    let garbage: [Vec<u8>; 5] = [
        b"\x00\xff\xfe\n".to_vec(),
        b"{}\n{}\n".to_vec(),
        b"{\"id\":-1,\"order\":\"query\"}\n".to_vec(),
        b"{\"id\":1,\"order\":{\"explode\":{}}}\n".to_vec(),
        vec![b'['; 2 * 1024 * 1024],
    ];
    for bytes in garbage {
        let mut stream = UnixStream::connect(machine.files.init_socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The other end may close it before all is written.
        let _ = stream.write_all(&bytes);
        let mut rest = Vec::new();
        // Closed, with or without what we sent being read to its end.
        let _ = stream.read_to_end(&mut rest);
        runner.query().await.unwrap();
    }
    assert_eq!(running(&runner).await.pid, before.pid);
    assert!(machine.agent_log().contains("closed a connection"));
}

#[tokio::test]
async fn a_connection_that_never_reads_holds_nothing_up() {
    let mut machine = Machine::new(9, IDLE);
    machine.start();
    let runner = machine.runner();
    let mut deaf = UnixStream::connect(machine.files.init_socket()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let query = b"{\"id\":1,\"order\":\"query\"}\n".repeat(100);
    for _ in 0..500 {
        if deaf.write_all(&query).is_err() {
            break;
        }
    }
    runner
        .start(workload(&machine, "exec sleep 600"))
        .await
        .unwrap();
    running(&runner).await;
}

#[tokio::test]
async fn the_machine_stops_its_workload_then_its_agent() {
    let mut machine = Machine::new(10, "trap 'exit 0' TERM; while :; do sleep 0.01; done");
    let record = machine.start();
    let runner = machine.runner();
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    runner.start(workload(&machine, script)).await.unwrap();
    running(&runner).await;
    eventually("the workload is up", || {
        let console = fs::read_to_string(machine.files.console()).ok()?;
        console.contains("up\n").then_some(())
    })
    .await;
    record.init.signal(Signal::TERM).unwrap();
    let status = machine.init().wait().unwrap();
    assert!(status.success(), "{}", machine.agent_log());
    assert!(!record.agent.unwrap().is_alive());
    let console = fs::read_to_string(machine.files.console()).unwrap();
    assert!(console.ends_with("bye\n"), "{console}");
    let log = machine.agent_log();
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(place("the workload, pid") < place("the agent, pid"));
    assert!(!machine.files.init_socket().exists());
}

#[tokio::test]
async fn a_new_init_ends_what_a_killed_one_left() {
    let mut machine = Machine::new(11, IDLE);
    let first = machine.start();
    let runner = machine.runner();
    runner
        .start(workload(&machine, "setsid sleep 600 & wait"))
        .await
        .unwrap();
    let pid = running(&runner).await.pid.unwrap();
    let workload_process = ProcessId::of(pid).unwrap();
    first.init.signal(Signal::KILL).unwrap();
    machine.init().wait().unwrap();
    let agent = first.agent.unwrap();
    eventually("the agent ends with init", || {
        (!agent.is_alive()).then_some(())
    })
    .await;
    assert!(workload_process.is_alive(), "the workload does not");

    let second = machine.start();
    assert!(!workload_process.is_alive());
    assert_ne!(second.boot, first.boot);
    let left = calvin_proto::machine::processes::find(machine.files.root(), Some(&second));
    let expected = [second.init, second.agent.unwrap()];
    assert!(
        left.iter().all(|process| expected.contains(process)),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_second_init_of_a_machine_and_a_second_machine_of_an_address_are_refused() {
    let mut machine = Machine::new(12, IDLE);
    machine.start();
    let output = machine.command().stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("is claimed by another machine"), "{error}");
    assert!(machine.init().try_wait().unwrap().is_none());
    assert!(machine.record().agent.unwrap().is_alive());
}

#[tokio::test]
async fn a_claim_that_the_provider_made_is_taken_over() {
    let mut machine = Machine::new(13, IDLE);
    let address = machine.address.parse().unwrap();
    let take = |machine: &Machine| AddressLock::try_take(&machine.locks(), address).unwrap();
    let claim = take(&machine).unwrap().into_file();
    let record = machine.start_with(Stdio::from(claim));
    assert!(take(&machine).is_none());
    record.init.signal(Signal::KILL).unwrap();
    machine.init().wait().unwrap();
    eventually("the claim ends with init", || take(&machine)).await;
}

#[tokio::test]
async fn what_a_killed_agent_ran_is_ended() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("check");
    // As the agent starts a check: in a group of its own, with its own pid as the mark.
    let script = format!(
        "CALVIN_COMMAND_OF=$$ setsid sh -c 'echo $$ > {}; exec sleep 600' & exec sleep 600",
        file.display()
    );
    let mut machine = Machine::new(14, &script);
    let record = machine.start();
    let check = ProcessId::of(pid_in(&file).await).unwrap();
    record.agent.unwrap().signal(Signal::KILL).unwrap();
    eventually("the check is ended", || (!check.is_alive()).then_some(())).await;
}

#[tokio::test]
async fn a_workload_that_a_real_time_signal_ends_is_seen_to_end() {
    let mut machine = Machine::new(17, IDLE);
    machine.start();
    let runner = machine.runner();
    let script = workload(&machine, "kill -35 $$; exec sleep 600");
    runner.start(script).await.unwrap();
    let seen = state(&runner, "it is started again", |state| state.starts >= 2).await;
    assert_eq!(seen.last_end, Some(End::Signalled(35)));
}
