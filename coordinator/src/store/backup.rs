//! Backups: everything that an environment needs to be restored, in one file.
//!
//! A backup is text, one JSON object a line: a header, each record of the store as it is kept, the
//! history with its hashes, the keys of the CAs, and at the end a digest of all of it, without which
//! it is no backup. It is taken in one read transaction, so it is the store at one moment, while
//! the coordinator goes on.
//!
//! It holds the CA's private keys: whoever can read it can be anybody in the environment. It is born
//! with mode 0600 and belongs where secrets are kept.

mod lines;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod write;

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{directory::OpenError, failure::StoreFailure, record::RecordError};

pub use lines::Header;
pub use read::{BackedUpFleet, Summary, verify};
pub use restore::restore;
pub use write::{offline, write};

/// The format of backups that this version writes and reads.
pub const BACKUP_FORMAT: u32 = 1;

/// Bytes of one line: the record of a fleet of 10,000 instances is about 10 MiB, and a line of it
/// has its quotation marks escaped.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a backup is no good, or could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The output ended.
    #[error("could not write the backup")]
    Write(#[source] io::Error),
    /// The input ended.
    #[error("could not read the backup")]
    Read(#[source] io::Error),
    /// The store.
    #[error("could not read or write the store")]
    Store(#[from] StoreFailure),
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is something else.
    #[error("this is no backup of calvin: {problem}")]
    NoBackup {
        /// How that is known.
        problem: String,
    },
    /// A newer version made it.
    #[error(
        "the backup has format {found}, made by {made_by}; this version knows format {BACKUP_FORMAT}: use that version or a newer one"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// Who made it.
        made_by: String,
    },
    /// It was cut off.
    #[error("the backup is cut off after line {lines}: its end, with the digest, is missing")]
    CutOff {
        /// How many lines there are.
        lines: u64,
    },
    /// It was changed.
    #[error("the backup is damaged: its digest is {found}, it ends with {expected}")]
    Damaged {
        /// What its lines give.
        found: String,
        /// What its last line says.
        expected: String,
    },
    /// A line is wrong.
    #[error("the backup is damaged in line {number}: {problem}")]
    Line {
        /// Which line, from 1.
        number: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A record is damaged, or of a newer version.
    #[error("line {number} of the backup")]
    Record {
        /// Which line, from 1.
        number: u64,
        /// What is wrong.
        #[source]
        source: RecordError,
    },
    /// The history's chain is broken.
    #[error(
        "the history in the backup is broken at its line {number}: it or an earlier one was changed"
    )]
    History {
        /// The first line that does not fit.
        number: u64,
    },
    /// The store has a table that backups do not know.
    #[error(
        "the store has the table {table}, which this version cannot back up: use the version that made it"
    )]
    UnknownTable {
        /// Its name.
        table: String,
    },
    /// There is a store already.
    #[error(
        "{} is not empty, it holds {}: a backup is restored where there is no store; move these away and keep them until all is well, or name another directory",
        path.display(),
        found.join(", ")
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        found: Vec<String>,
    },
    /// There is no store.
    #[error("{} holds no store", path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
}

/// What is in a table, by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// Records as JSON.
    Records,
    /// Numbers.
    Numbers,
    /// The history.
    History,
}

/// Every table of a store. One that is missing here stops a backup, so that none is ever left out
/// in silence.
const TABLES: [(&str, Kind); 8] = [
    ("about", Kind::Records),
    ("state", Kind::Records),
    ("fleets", Kind::Records),
    ("gone_fleets", Kind::Numbers),
    ("history", Kind::History),
    ("identity_instances", Kind::Records),
    ("identity_operators", Kind::Records),
    ("images", Kind::Records),
];

fn kind_of(table: &str) -> Option<Kind> {
    let mut tables = TABLES.iter();
    tables
        .find(|(name, _)| *name == table)
        .map(|(_, kind)| *kind)
}

/// Whether a file of this name belongs to the CAs: nothing else is taken from a backup, whose names
/// may be a stranger's.
fn is_ca_file(name: &str) -> bool {
    if name == "token.key" {
        return true;
    }
    let number = name.strip_prefix("ca-").and_then(|rest| {
        rest.strip_suffix(".pem")
            .or_else(|| rest.strip_suffix(".key"))
    });
    number.is_some_and(|number| {
        (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A CA's certificate may be read by all, its keys by nobody else.
fn mode_of(name: &str) -> u32 {
    if name.ends_with(".pem") { 0o644 } else { 0o600 }
}
