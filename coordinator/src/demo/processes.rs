//! The demo's processes as `/proc` shows them: to count machines, to kill what an act kills, and
//! to be sure that nothing is left.
//!
//! What is ours is told by the demo's directory: the coordinator has it in its arguments, every
//! process of a machine in its environment. An editor that shows a file of the demo is not ours,
//! by its program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use calvin_proto::machine::MACHINE_VARIABLE;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

/// Time for killed processes to be gone: the kernel needs milliseconds, a loaded machine more.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks.
const END_POLL: Duration = Duration::from_millis(20);

/// A process of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) kind: Kind,
    /// Of which instance it is.
    pub(super) instance: Option<String>,
}

/// What a process of the demo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// First process of a machine.
    Init,
    /// Agent of a machine.
    Agent,
    /// Workload of a machine.
    Workload,
    /// The coordinator, and whatever else was started by it.
    Other,
}

/// Every process that belongs to the demo with this home, but the caller.
pub(super) fn list(home: &Path) -> Vec<Process> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| look(pid, home))
        .collect()
}

/// One process; `None` if it is not ours, or ended meanwhile.
fn look(pid: u32, home: &Path) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let program = fs::read_link(folder.join("exe")).ok()?;
    if !program.file_name()?.to_str()?.starts_with("calvin") {
        return None;
    }
    let words = |file: &str| -> Option<Vec<String>> {
        let bytes = fs::read(folder.join(file)).ok()?;
        let parts = bytes
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty());
        Some(
            parts
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect(),
        )
    };
    let arguments = words("cmdline")?;
    let environment = words("environ").unwrap_or_default();
    let machine = environment.iter().find_map(|variable| {
        let value = variable.strip_prefix(MACHINE_VARIABLE)?.strip_prefix('=')?;
        Some(Path::new(value))
    });
    let ours = arguments
        .iter()
        .any(|argument| Path::new(argument).starts_with(home))
        || machine.is_some_and(|machine| machine.starts_with(home));
    if !ours {
        return None;
    }
    let kind = match arguments.get(1).map(String::as_str) {
        Some("init") => Kind::Init,
        Some("run") => Kind::Agent,
        Some("workload") => Kind::Workload,
        Some(_) | None => Kind::Other,
    };
    let named = || {
        let mut words = arguments
            .iter()
            .skip_while(|argument| *argument != "--machine");
        words.nth(1).map(Path::new)
    };
    let instance = machine
        .or_else(named)
        .and_then(|machine| machine.file_name()?.to_str());
    Some(Process {
        pid: i32::try_from(pid).ok()?,
        kind,
        instance: instance.map(str::to_owned),
    })
}

/// Instances that have a machine, with how many first processes each has.
pub(super) fn machines(home: &Path) -> BTreeMap<String, usize> {
    let mut machines = BTreeMap::new();
    for process in list(home) {
        if let (Kind::Init, Some(instance)) = (process.kind, process.instance) {
            *machines.entry(instance).or_default() += 1;
        }
    }
    machines
}

/// The process of this kind of one instance.
pub(super) fn find(home: &Path, instance: &str, kind: Kind) -> Option<i32> {
    list(home)
        .into_iter()
        .find(|process| process.kind == kind && process.instance.as_deref() == Some(instance))
        .map(|process| process.pid)
}

/// Kills a machine as a power cut would: its first process, so that it restarts nothing, then all
/// that belonged to it.
pub(super) fn kill_machine(home: &Path, instance: &str) -> usize {
    let mut killed = BTreeSet::new();
    if let Some(pid) = find(home, instance, Kind::Init) {
        kill_one(pid);
        killed.insert(pid);
    }
    for process in list(home) {
        if process.instance.as_deref() == Some(instance) {
            kill_one(process.pid);
            killed.insert(process.pid);
        }
    }
    killed.len()
}

/// Kills one process, if it is still there.
pub(super) fn kill_one(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Kills everything of the demo. The number of processes that would not go.
pub(super) async fn end_all(home: &Path) -> usize {
    let start = Instant::now();
    loop {
        let left = list(home);
        if left.is_empty() || start.elapsed() > END_TIMEOUT {
            return left.len();
        }
        // First processes before the others: they would start again what they miss.
        for process in left.iter().filter(|process| process.kind == Kind::Init) {
            kill_one(process.pid);
        }
        for process in left.iter().filter(|process| process.kind != Kind::Init) {
            kill_one(process.pid);
        }
        sleep(END_POLL).await;
    }
}
