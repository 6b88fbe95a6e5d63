//! Ends the machines of an environment that was only there to try things in.
//!
//! It is done when the engine and the provider have ended and before the data directory is let go:
//! nobody makes a machine in place of one that ends here, and no other coordinator finds half of
//! them. The store still knows them, so the next run finds them stopped and makes others.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use calvin_proto::machine::{
    InitRecord, MachineFiles,
    processes::{find, kill_all},
};
use rustix::process::Signal;

/// Time for machines to stop in good order: with Consul they leave it before their work ends, and after.
/// Somebody waits at a terminal: what takes longer is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for killed processes to be gone: milliseconds, unless one hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two looks at what still runs.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What becomes of the machines when their coordinator ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// They go on, and the next run finds them.
    MachinesGoOn,
    /// They end with it.
    MachinesEnd,
}

/// Ends every machine in this directory; waits until all of its processes are gone, and says in the
/// log which are not.
pub(super) fn end_all(directory: &Path) {
    let machines = match machines(directory) {
        Ok(machines) => machines,
        Err(error) => {
            tracing::error!(%error, path = %directory.display(), "could not look for machines to end");
            return;
        }
    };
    tracing::info!(machines = machines.len(), "ending the machines");
    for (_, record) in &machines {
        let Some(record) = record else { continue };
        if let Err(error) = record.init.signal(Signal::TERM) {
            tracing::debug!(%error, pid = record.init.pid, "a machine could not be asked to end");
        }
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    let runs = |(files, record): &(MachineFiles, Option<InitRecord>)| {
        !find(files.root(), record.as_ref()).is_empty()
    };
    while machines.iter().any(runs) && Instant::now() < deadline {
        thread::sleep(LOOK_PAUSE);
    }
    for (files, record) in &machines {
        if let Err(error) = kill_all(files.root(), record.as_ref(), KILL_TIMEOUT) {
            tracing::error!(%error, "a machine would not end");
        }
    }
}

/// Every machine's files, and what its first process wrote down.
fn machines(directory: &Path) -> io::Result<Vec<(MachineFiles, Option<InitRecord>)>> {
    let mut machines = Vec::new();
    for entry in fs::read_dir(directory)? {
        // What begins with a dot is no machine: half made, half deleted, or kept output.
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let files = MachineFiles::new(entry.path());
        // Without a record its processes are found by the mark in their environment alone.
        let record = InitRecord::read(&files).ok().flatten();
        machines.push((files, record));
    }
    Ok(machines)
}
