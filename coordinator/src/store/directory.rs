//! The data directory: taken by one coordinator at a time, never a copy of another's.
//!
//! Two coordinators on one state would both make and delete machines. The lock keeps a second one
//! away on this machine; the file's own identity (machine id and inode, recorded when it was
//! made) keeps away a copy or a restored backup, whose numbers may lie behind those that agents
//! have seen.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    about::{introduce, look, refuse_newer},
    database::Database,
    record::{FORMAT, RecordError},
};

/// A data directory that this process has taken. When it and its database are dropped, another
/// may take it.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Holds the lock, together with the database.
    pub(super) lock: Arc<DirectoryLock>,
}

/// What becomes of a store that is a copy or a restored backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// It is not opened.
    Refused,
    /// It is opened, and nothing is decided from it until a person approves what is found. A store
    /// that is no copy recovers then, too: whoever says so knows more than its file tells.
    Adopted,
}

/// Why a data directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made, read or written.
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
    /// Another coordinator uses it.
    #[error(
        "the data directory {} is in use by another coordinator, process {holder}: stop that one first, or give this one a data directory of its own",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other's process id, or `unknown`.
        holder: String,
    },
    /// The database cannot be opened.
    #[error("could not open the store {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer version made it.
    #[error(
        "the store {} was made by {made_by} in format {found}; this is {this}, which knows format {FORMAT}: start that version or a newer one, or use another data directory",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Which version made it.
        made_by: String,
        /// Its format.
        found: u32,
        /// This version.
        this: String,
    },
    /// It is a copy.
    #[error(
        "the store {} is a copy or a restored backup ({difference}): what it knows may lie behind what agents were told since, so deciding from it could delete the wrong machines. If the original still runs, or could start, use that one: of the two only one may run. If it is gone for good: calvin serve --adopt, which decides nothing until a person has approved what it finds",
        path.display()
    )]
    Copy {
        /// The file.
        path: PathBuf,
        /// How that is known.
        difference: String,
    },
    /// What the store says of itself cannot be read.
    #[error("could not read what the store {} says of itself", path.display())]
    About {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: RecordError,
    },
}

impl DataDirectory {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's sockets, readable by their owner only.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// The database's file.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        make_directory(path)?;
        let lock_path = path.join("lock");
        let io_error = |source| OpenError::Io {
            doing: "open the lock file",
            path: lock_path.clone(),
            source,
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error)?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io_error(error.into()));
            }
            let mut holder = String::new();
            let known = lock.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            return Err(OpenError::InUse {
                path: path.to_owned(),
                holder: if known {
                    holder.trim().to_owned()
                } else {
                    "unknown".to_owned()
                },
            });
        }
        // Who holds it is for the message above only; on a full disk the lock holds all the same.
        if let Err(error) = write_holder(&mut lock) {
            tracing::warn!(%error, path = %lock_path.display(), "could not write the process id into the lock file");
        }
        let taken = Self {
            path: path.to_owned(),
            lock: Arc::new(DirectoryLock(lock)),
        };
        make_directory(&taken.run())?;
        Ok(taken)
    }
}

/// The lock on a data directory, given up by the last who has a share of it.
#[derive(Debug)]
pub(super) struct DirectoryLock(pub(super) File);

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread starts just now has it open
        // too, until it runs its program. It is given up with this process in any case.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Takes the data directory `path` for this process, makes it if it is not there, and opens its
/// store.
///
/// # Errors
/// The directory is another's, or cannot be used; the store is newer, or a copy that is not to be
/// adopted.
pub fn open(path: &Path, copies: Copies) -> Result<(DataDirectory, Arc<Database>), OpenError> {
    let directory = DataDirectory::take(path)?;
    let file = directory.store();
    if let Some(version) = look(&file) {
        refuse_newer(&file, version)?;
    }
    let lock = Arc::clone(&directory.lock);
    let database = Database::open_locked(&file, lock).map_err(|error| OpenError::Database {
        path: file.clone(),
        source: Box::new(error),
    })?;
    introduce(&file, &database, copies)?;
    Ok((directory, Arc::new(database)))
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| OpenError::Io {
            doing: "make the directory",
            path: path.to_owned(),
            source,
        })
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    write!(lock, "{}", std::process::id())
}
