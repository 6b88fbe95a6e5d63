//! What machines wrote: of one that is there, the newest of its console; of one that was deleted,
//! what was kept, because the question why comes after the rollout went back.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::SystemTime,
};

use calvin_model::InstanceId;
use calvin_proto::machine::{MachineFiles, write_atomic};

use super::{
    super::ConsoleError,
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

    /// The newest `bytes_max` bytes of a machine's console.
    pub(super) fn console(
        &self,
        instance: &InstanceId,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ConsoleError> {
        let read = |path: &Path| {
            tail(path, bytes_max).map_err(|source| ConsoleError::Read {
                path: path.to_owned(),
                source,
            })
        };
        if self.is_ours(instance).unwrap_or(false) {
            return read(&self.files(instance).console());
        }
        let kept = self.gone().join(format!("{instance}.log"));
        if kept.exists() {
            return read(&kept);
        }
        Err(ConsoleError::NoMachine {
            instance: instance.clone(),
        })
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

/// The newest bytes of a log and of the part before it (`.1`).
fn tail(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut newest = end_of(path, bytes_max)?;
    let room = bytes_max - newest.len();
    if room > 0 {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        let mut all = end_of(Path::new(&older), room)?;
        all.append(&mut newest);
        return Ok(all);
    }
    Ok(newest)
}

fn end_of(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max as u64)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn forget_oldest(gone: &Path) -> io::Result<()> {
    let mut logs: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(gone)? {
        let entry = entry?;
        logs.push((entry.metadata()?.modified()?, entry.path()));
    }
    logs.sort();
    let excess = logs.len().saturating_sub(KEPT_MAX);
    for (_, log) in logs.into_iter().take(excess) {
        match fs::remove_file(log) {
            // Another worker was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_reaches_into_the_older_part_only_as_far_as_there_is_room() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("console.log");
        assert_eq!(tail(&log, 10).unwrap(), b"");
        fs::write(root.path().join("console.log.1"), "older").unwrap();
        fs::write(&log, "newer").unwrap();
        assert_eq!(tail(&log, 3).unwrap(), b"wer");
        assert_eq!(tail(&log, 7).unwrap(), b"ernewer");
        assert_eq!(tail(&log, 100).unwrap(), b"oldernewer");
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
