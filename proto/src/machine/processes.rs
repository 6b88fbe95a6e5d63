//! Processes, known for good, and the processes of one machine.
//!
//! A pid alone is reused; with its start time it names one process of one boot of the host. The
//! processes of a machine are found in four ways, because each alone can be escaped by accident:
//! the recorded ones, the members of init's session, those whose environment names the machine's
//! directory, and the descendants of all these.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::{InitRecord, MACHINE_VARIABLE};

/// An environment as large as Linux lets one be at the default stack size (a quarter of 8 MB).
const ENVIRONMENT_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Pause between two looks while killed processes end. They need a few scheduler ticks.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// One process of this boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    /// Its start time, in clock ticks since the host's boot (`proc_pid_stat(5)`, field 22).
    pub start: u64,
}

impl ProcessId {
    /// The process that has `pid` now; `None` when there is none, or only its exit code is left.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        stat.lives.then_some(Self {
            pid,
            start: stat.start,
        })
    }

    /// This process.
    ///
    /// # Errors
    /// Where `/proc` is not what it should be.
    pub fn own() -> io::Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).ok_or_else(|| io::Error::other("/proc has no entry for this process"))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to this process and to no other that got its pid meanwhile. One that is
    /// gone is no error.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        // The descriptor holds on to whatever has the pid now; only then is it compared.
        let result = pidfd_open(pid, PidfdFlags::empty()).and_then(|process| {
            if self.is_alive() {
                pidfd_send_signal(&process, signal)
            } else {
                Ok(())
            }
        });
        match result {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The host's boot, random for each.
///
/// # Errors
/// Where `/proc` is not what it should be.
pub fn host_boot() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Some processes of a machine did not end.
#[derive(Debug, thiserror::Error)]
#[error("{} processes of {} are still there, such as pid {pid}", count, directory.display())]
pub struct StillThere {
    /// The machine.
    pub directory: PathBuf,
    /// How many.
    pub count: usize,
    /// One of them.
    pub pid: i32,
}

/// Kills all processes of the machine in `directory`, and looks until none is left. This process
/// is spared.
///
/// # Errors
/// When some are still there after `timeout`.
pub fn kill_all(
    directory: &Path,
    record: Option<&InitRecord>,
    timeout: Duration,
) -> Result<(), StillThere> {
    let deadline = Instant::now() + timeout;
    // Whatever was once known to belong here still does after its parents, whose descendant it
    // was, are gone.
    let mut known = BTreeSet::new();
    loop {
        known.extend(find(directory, record));
        known.retain(|process: &ProcessId| process.is_alive());
        let Some(first) = known.first() else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(StillThere {
                directory: directory.to_owned(),
                count: known.len(),
                pid: first.pid,
            });
        }
        // Init first, so that it starts nothing in place of what ends.
        let init = record.map(|record| record.init);
        for process in init
            .iter()
            .filter(|init| known.contains(init))
            .chain(&known)
        {
            // What cannot be killed is found again by the next look, and named at the deadline.
            let _ = process.signal(Signal::KILL);
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// Finds all processes of the machine in `directory` but this one.
#[must_use]
pub fn find(directory: &Path, record: Option<&InitRecord>) -> Vec<ProcessId> {
    let table = table();
    // After another boot of the host the recorded pids are other processes.
    let record = record.filter(|record| host_boot().is_ok_and(|boot| boot == record.host_boot));
    let mark = mark(MACHINE_VARIABLE, directory.as_os_str().as_bytes());
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut found: BTreeSet<i32> = table
        .iter()
        .filter(|(pid, stat)| belongs(**pid, stat, &table, record) || carries(**pid, &mark))
        .map(|(pid, _)| *pid)
        .filter(|pid| *pid != own)
        .collect();
    loop {
        let children: Vec<i32> = table
            .iter()
            .filter(|(pid, stat)| {
                **pid != own && !found.contains(pid) && found.contains(&stat.parent)
            })
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            break;
        }
        found.extend(children);
    }
    found
        .into_iter()
        .filter_map(|pid| {
            let stat = table.get(&pid)?;
            stat.lives.then_some(ProcessId {
                pid,
                start: stat.start,
            })
        })
        .collect()
}

fn belongs(
    pid: i32,
    stat: &Stat,
    table: &BTreeMap<i32, Stat>,
    record: Option<&InitRecord>,
) -> bool {
    let Some(record) = record else {
        return false;
    };
    let process = ProcessId {
        pid,
        start: stat.start,
    };
    let recorded = [Some(record.init), record.agent, record.workload];
    let mut units = record.units.values();
    if recorded.contains(&Some(process)) || units.any(|unit| *unit == process) {
        return true;
    }
    // A session's number is not given to a new process while the session has members. So if
    // another process has it now, the session that has this number is not init's.
    let same_leader = table
        .get(&record.init.pid)
        .is_none_or(|leader| leader.start == record.init.start);
    stat.session == record.init.pid && same_leader
}

/// Finds the processes that were started with `variable` set to `value`.
#[must_use]
pub fn find_marked(variable: &str, value: &str) -> Vec<ProcessId> {
    let mark = mark(variable, value.as_bytes());
    table()
        .into_iter()
        .filter(|(pid, stat)| stat.lives && carries(*pid, &mark))
        .map(|(pid, stat)| ProcessId {
            pid,
            start: stat.start,
        })
        .collect()
}

/// What an environment with this variable holds.
fn mark(variable: &str, value: &[u8]) -> Vec<u8> {
    let mut mark = format!("{variable}=").into_bytes();
    mark.extend_from_slice(value);
    mark
}

/// Whether the environment with which a process was started holds the mark. One that we may not
/// read belongs to another user, and is not ours.
fn carries(pid: i32, mark: &[u8]) -> bool {
    let mut environment = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/environ")).and_then(|file| {
        file.take(ENVIRONMENT_BYTES_MAX)
            .read_to_end(&mut environment)
    });
    read.is_ok()
        && environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark)
}

/// What is needed of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    lives: bool,
    parent: i32,
    session: i32,
    start: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold any byte.
        let end = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            lives: !matches!(field(3)?, "Z" | "X" | "x"),
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
        })
    }
}

fn table() -> BTreeMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, Stat::read(pid)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper(machine: &Path) -> Child {
        // A child that forgets its environment, below one that carries it.
        Command::new("/bin/sh")
            .args(["-c", "env -i /bin/sh -c 'echo $$; exec sleep 600' & wait"])
            .env(MACHINE_VARIABLE, machine)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn first_line(child: &mut Child) -> String {
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).unwrap();
        line.trim().to_owned()
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"7 (a) R 1) S 1 7 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(
            Stat::parse(line),
            Some(Stat {
                lives: true,
                parent: 1,
                session: 9,
                start: 4242
            })
        );
        assert_eq!(Stat::parse(b"7 (a"), None);
        assert_eq!(Stat::parse(b"7 (a) S 1"), None);
    }

    #[test]
    fn a_child_that_forgot_its_environment_is_killed_with_its_parent() {
        let root = tempfile::tempdir().unwrap();
        let mut parent = sleeper(root.path());
        let child = ProcessId::of(first_line(&mut parent).parse().unwrap()).unwrap();
        assert!(find(root.path(), None).contains(&child));
        kill_all(root.path(), None, Duration::from_secs(10)).unwrap();
        assert!(!child.is_alive());
        assert!(!parent.wait().unwrap().success());
    }

    #[test]
    fn a_machine_whose_name_begins_like_another_is_spared() {
        let root = tempfile::tempdir().unwrap();
        let (one, ten) = (root.path().join("web-1"), root.path().join("web-10"));
        let mut other = sleeper(&ten);
        let child = ProcessId::of(first_line(&mut other).parse().unwrap()).unwrap();
        kill_all(&one, None, Duration::from_secs(10)).unwrap();
        assert!(child.is_alive());
        kill_all(&ten, None, Duration::from_secs(10)).unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_process_with_the_pid_but_another_start_time_is_not_signalled() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let earlier = ProcessId {
            start: process.start - 1,
            ..process
        };
        assert!(!earlier.is_alive());
        earlier.signal(Signal::KILL).unwrap();
        assert!(process.is_alive());
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
