//! Descriptors: what init does when it has none left.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{
    IDLE,
    support::{DEADLINE, Machine, eventually},
};

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
