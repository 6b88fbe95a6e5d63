//! What machines wrote: of one that is there, the newest of its console; of one that was deleted,
//! what was kept, because the question why comes after the rollout went back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use calvin_model::InstanceId;
use calvin_proto::machine::{MachineFiles, write_atomic};

use super::{
    super::{ConsoleError, ConsoleFollower, console::tail},
    directories::{Directories, DirectoryError, failed, make_private},
};

/// Kept of each log of a deleted machine: some hundred lines.
const KEPT_BYTES: usize = 64 * 1024;
/// Logs kept: two of each of 100 machines, 12.8 MB at most.
const KEPT_MAX: usize = 200;

impl Directories {
    fn gone(&self) -> PathBuf {
        self.root().join(".gone")
    }

    /// A machine's console, from its newest `bytes_max` bytes on.
    pub(super) fn console(
        &self,
        instance: &InstanceId,
        bytes_max: usize,
    ) -> Result<ConsoleFollower, ConsoleError> {
        let kept = self.gone().join(format!("{instance}.log"));
        let path = if self.is_ours(instance).unwrap_or(false) {
            self.files(instance).console()
        } else if kept.exists() {
            kept
        } else {
            return Err(ConsoleError::NoMachine {
                instance: instance.clone(),
                kept: self.gone(),
            });
        };
        ConsoleFollower::open(&path, bytes_max)
            .map_err(|source| ConsoleError::Read { path, source })
    }

    /// Keeps the newest output of a machine that is about to be removed.
    pub(super) fn keep_output(
        &self,
        instance: &InstanceId,
        files: &MachineFiles,
    ) -> Result<(), DirectoryError> {
        let gone = self.gone();
        make_private(&gone)?;
        for (log, name) in [
            (files.console(), format!("{instance}.log")),
            (files.agent_log(), format!("{instance}.agent.log")),
        ] {
            let newest = tail(&log, KEPT_BYTES).map_err(failed("read", &log))?;
            let kept = gone.join(name);
            write_atomic(&kept, &newest, 0o600).map_err(failed("write", &kept))?;
        }
        forget_oldest(&gone).map_err(failed("clean up", &gone))
    }
}

fn forget_oldest(gone: &Path) -> io::Result<()> {
    let mut logs: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(gone)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Another worker was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        logs.push((metadata.modified()?, entry.path()));
    }
    logs.sort();
    let excess = logs.len().saturating_sub(KEPT_MAX);
    for (_, log) in logs.into_iter().take(excess) {
        match fs::remove_file(log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn workers_that_forget_at_the_same_time_do_not_disturb_each_other() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..KEPT_MAX * 3 {
            File::create(root.path().join(format!("{number}.log"))).unwrap();
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| forget_oldest(root.path())))
                .collect();
            for worker in workers {
                worker.join().unwrap().unwrap();
            }
        });
        assert!(fs::read_dir(root.path()).unwrap().count() <= KEPT_MAX);
    }

    #[test]
    fn only_the_newest_logs_are_kept() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..KEPT_MAX + 3 {
            let path = root.path().join(format!("{number}.log"));
            let age = std::time::Duration::from_secs(1_000_000 + number as u64);
            let file = File::create(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + age).unwrap();
        }
        forget_oldest(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), KEPT_MAX);
        assert!(!root.path().join("2.log").exists());
        assert!(root.path().join("3.log").exists());
    }
}
