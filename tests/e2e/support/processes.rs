//! The processes of one environment, as `/proc` shows them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use calvin_proto::machine::MACHINE_VARIABLE;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process of the environment.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// The word after the program: `serve`, `init`, `run`, `workload`.
    pub(crate) command: String,
    /// Of which instance it is.
    pub(crate) instance: Option<String>,
}

/// Every process with this home in its arguments or environment.
pub(crate) fn list(home: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("there is /proc");
    entries
        .flatten()
        .filter_map(|entry| look(&entry.path(), home))
        .collect()
}

fn look(folder: &Path, home: &Path) -> Option<Process> {
    let pid: i32 = folder.file_name()?.to_str()?.parse().ok()?;
    if u32::try_from(pid).ok()? == std::process::id() {
        return None;
    }
    let words = |file: &str| -> Vec<String> {
        let bytes = fs::read(folder.join(file)).unwrap_or_default();
        let parts = bytes
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty());
        parts
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect()
    };
    let arguments = words("cmdline");
    let environment = words("environ");
    let home = home.to_str()?;
    let machine = environment
        .iter()
        .find_map(|word| word.strip_prefix(MACHINE_VARIABLE)?.strip_prefix('='));
    let ours = arguments.iter().any(|word| word.contains(home))
        || machine.is_some_and(|machine| machine.contains(home));
    let state = fs::read_to_string(folder.join("stat")).ok()?;
    let zombie = state.rsplit(')').next()?.trim_start().starts_with('Z');
    if !ours || zombie {
        return None;
    }
    let named = || {
        arguments
            .iter()
            .skip_while(|word| *word != "--machine")
            .nth(1)
    };
    let machine = machine.or_else(|| named().map(String::as_str));
    let instance = machine.and_then(|folder| Path::new(folder).file_name()?.to_str());
    Some(Process {
        pid,
        command: arguments.get(1).cloned().unwrap_or_default(),
        instance: instance.map(str::to_owned),
    })
}

/// Process ids of this kind (`init`, `run`, `workload`) by instance, of one fleet.
pub(crate) fn of_fleet(home: &Path, fleet: &str, command: &str) -> BTreeMap<String, i32> {
    let prefix = format!("{fleet}-");
    list(home)
        .into_iter()
        .filter(|process| process.command == command)
        .filter_map(|process| Some((process.instance?, process.pid)))
        .filter(|(instance, _)| instance.starts_with(&prefix))
        .collect()
}

/// Sends a signal; a process that is gone has no need of it.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Kills everything of an environment, and waits until it is gone.
pub(crate) fn end_all(home: &Path) {
    let start = Instant::now();
    loop {
        let left = list(home);
        if left.is_empty() {
            return;
        }
        if start.elapsed() > Duration::from_secs(10) {
            eprintln!("would not end: {left:?}");
            return;
        }
        // First processes before the others, which they would start again.
        for process in left.iter().filter(|process| process.command == "init") {
            signal(process.pid, Signal::SIGKILL);
        }
        for process in &left {
            signal(process.pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
