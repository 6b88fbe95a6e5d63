//! Descriptors: how many there may be, and what init does when it has none left.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{
    IDLE,
    support::{DEADLINE, Machine, eventually, workload},
};

/// The soft limit of a process.
fn soft_limit(pid: i32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap()
}

/// Sets the soft limit of a process, and gives back what it was.
fn limit(pid: i32, soft: u64) -> u64 {
    let process = Pid::from_raw(pid);
    let unchanged = rustix::process::getrlimit(Resource::Nofile);
    let limits = Rlimit {
        current: Some(soft),
        ..unchanged
    };
    let before = prlimit(process, Resource::Nofile, limits).unwrap();
    before.current.unwrap()
}

/// The number that the next descriptor of a process would get.
fn next_descriptor(pid: i32) -> u64 {
    let open: BTreeSet<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    (0..).find(|number| !open.contains(number)).unwrap()
}

/// User and system time of a process, in clock ticks (`proc_pid_stat(5)`, fields 14 and 15).
fn cpu_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_ascii_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn init_may_open_what_the_host_allows_and_what_it_starts_as_many_as_before() {
    let mut machine = Machine::new(16, "echo agent $(ulimit -Sn); exec sleep 600");
    let init = machine.start_with_soft_limit(200).init.pid;
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    assert_eq!(Some(soft_limit(init)), hard);
    let runner = machine.runner();
    let says = workload(&machine, "echo workload $(ulimit -Sn); exec sleep 600");
    runner.start(says).await.unwrap();
    eventually("agent and workload say theirs", || {
        let console = fs::read_to_string(machine.files.console()).unwrap_or_default();
        let said = [
            machine.agent_log().contains("agent 200\n"),
            console == "workload 200\n",
        ];
        (said == [true, true]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_init_without_descriptors_says_so_and_waits_until_there_are_some() {
    let mut machine = Machine::new(15, IDLE);
    let init = machine.start().init.pid;
    let before = limit(init, next_descriptor(init));
    let ticks = cpu_ticks(init);
    let waiting = UnixStream::connect(machine.files.init_socket()).unwrap();
    eventually("it says so", || {
        let log = machine.agent_log();
        log.contains("could not take a connection").then_some(())
    })
    .await;
    limit(init, before);
    waiting.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut greeting = String::new();
    BufReader::new(waiting).read_line(&mut greeting).unwrap();
    assert!(greeting.contains("\"state\""), "{greeting}");
    // A loop that does not wait takes a hundred ticks a second.
    let used = cpu_ticks(init) - ticks;
    assert!(used < 20, "{used} ticks");
    let log = machine.agent_log();
    assert_eq!(log.matches("could not take").count(), 1, "{log}");
}
