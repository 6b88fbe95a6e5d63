//! The audit: one JSON line in `audit.log` for each refusal and each act of an admin.
//!
//! Bounded, because strangers can make it grow: four full files are kept beside the one that is
//! written. Every line goes to the coordinator's own log as well, for whoever collects that. One
//! address that is refused again and again is counted instead of written.

mod flood;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use self::flood::{Flood, Unwritten};
use super::{Refusal, wall_ms};

/// A full file: 40,000 lines of 200 bytes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Full files that are kept: with the one that is written, 40 MiB and 200,000 lines.
const FILES: u32 = 4;
/// Longest text of one line: what a stranger sends ends up in it.
const TEXT_BYTES: usize = 512;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Milliseconds since 1970 UTC.
    pub wall_ms: u64,
    /// `refused` or `done`.
    pub outcome: String,
    /// A word that stays the same: why it was refused, or what was done.
    pub what: String,
    /// Who, as far as it is known.
    pub who: String,
    /// From which address; empty over the socket.
    pub from: String,
    /// One sentence.
    pub text: String,
}

/// Why the audit cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("could not write the audit {}", path.display())]
pub struct AuditError {
    /// The file.
    path: PathBuf,
    /// Why not.
    #[source]
    source: io::Error,
}

/// The audit of one environment.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file_bytes: u64,
    open: Mutex<Open>,
    flood: Mutex<Flood>,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

impl Audit {
    /// Opens `audit.log` in the data directory.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn open(data: &Path) -> Result<Self, AuditError> {
        Self::with_files_of(FILE_BYTES, data)
    }

    fn with_files_of(file_bytes: u64, data: &Path) -> Result<Self, AuditError> {
        let path = data.join("audit.log");
        let open = open(&path).map_err(|source| AuditError {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            file_bytes,
            open: Mutex::new(open),
            flood: Mutex::new(Flood::default()),
        })
    }

    /// Records that somebody was turned away.
    pub fn refused(&self, at: SystemTime, who: &str, from: &str, refusal: &Refusal) {
        let at = wall_ms(at);
        // By address without its port: each connection has another.
        let address = from.rsplit_once(':').map_or(from, |(address, _)| address);
        let (write, unwritten) = self.flood().count(at, refusal.word(), address);
        self.rest(at, unwritten);
        if write {
            self.record(&AuditEntry {
                wall_ms: at,
                outcome: "refused".to_owned(),
                what: refusal.word().to_owned(),
                who: cut(who),
                from: cut(from),
                text: cut(&refusal.to_string()),
            });
        }
    }

    /// Writes what was only counted so far.
    pub fn settle(&self, at: SystemTime) {
        let unwritten = self.flood().take();
        self.rest(wall_ms(at), unwritten);
    }

    fn rest(&self, wall_ms: u64, unwritten: Vec<Unwritten>) {
        for Unwritten {
            what,
            address,
            count,
        } in unwritten
        {
            self.record(&AuditEntry {
                wall_ms,
                outcome: "refused".to_owned(),
                what,
                who: "many".to_owned(),
                from: address,
                text: format!("{count} more of the same were counted and not written"),
            });
        }
    }

    fn flood(&self) -> MutexGuard<'_, Flood> {
        // Each count is whole at each step.
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what an admin, or an instance with the coordinator's consent, did.
    pub fn done(&self, at: SystemTime, who: &str, what: &'static str, text: &str) {
        self.record(&AuditEntry {
            wall_ms: wall_ms(at),
            outcome: "done".to_owned(),
            what: what.to_owned(),
            who: cut(who),
            from: String::new(),
            text: cut(text),
        });
    }

    /// A line that cannot be written is not lost: it stands in the coordinator's log, and the
    /// refusal stands whether it is written or not.
    fn record(&self, entry: &AuditEntry) {
        let AuditEntry {
            outcome,
            what,
            who,
            from,
            text,
            ..
        } = entry;
        tracing::info!(target: "calvin::audit", outcome, what, who, from, "{text}");
        if let Err(error) = self.append(entry) {
            tracing::error!(%error, path = %self.path.display(), "could not write the audit");
        }
    }

    fn append(&self, entry: &AuditEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut current = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if current.bytes + length > self.file_bytes {
            for number in (1..FILES).rev() {
                rename(&self.numbered(number), &self.numbered(number + 1))?;
            }
            rename(&self.path, &self.numbered(1))?;
            *current = open(&self.path)?;
        }
        // One write: a crash leaves a whole line or none but for a full disk.
        current.file.write_all(&line)?;
        current.bytes += length;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(format!(".{number}"));
        path.into()
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open { file, bytes })
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_bounded_and_every_line_can_be_read() {
        const SMALL: u64 = 64 * 1024;
        let data = tempfile::tempdir().unwrap();
        let audit = Audit::with_files_of(SMALL, data.path()).unwrap();
        for _ in 0..1000 {
            audit.done(SystemTime::now(), "ada", "ca_rotated", &"ä\n".repeat(4096));
        }
        let files: Vec<_> = fs::read_dir(data.path()).unwrap().collect();
        assert_eq!(files.len(), 5);
        for file in files {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(u64::try_from(text.len()).unwrap() <= SMALL);
            for line in text.lines() {
                let entry: AuditEntry = serde_json::from_str(line).unwrap();
                assert_eq!(
                    (entry.what.as_str(), entry.outcome.as_str()),
                    ("ca_rotated", "done")
                );
            }
        }
    }

    #[test]
    fn a_stranger_who_knocks_for_ever_leaves_some_lines_and_a_count() {
        let data = tempfile::tempdir().unwrap();
        let audit = Audit::open(data.path()).unwrap();
        let refusal = Refusal::Handshake {
            reason: "the other side does not speak TLS".to_owned(),
        };
        for port in 0..10_000 {
            let from = format!("192.0.2.1:{port}");
            audit.refused(SystemTime::UNIX_EPOCH, "nobody", &from, &refusal);
        }
        audit.settle(SystemTime::UNIX_EPOCH);
        let text = fs::read_to_string(data.path().join("audit.log")).unwrap();
        assert_eq!(text.lines().count(), 61);
        let last: AuditEntry = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(last.text.starts_with("9940 more"), "{last:?}");
        assert_eq!(last.from, "192.0.2.1");
    }
}
