//! The data directory: taken by one coordinator at a time, never a copy of another's.
//!
//! Two coordinators on one state would both make and delete machines. The lock keeps a second one
//! away on this machine; the file's own identity (machine id and inode, recorded when it was
//! made) keeps away a copy or a restored backup, whose numbers may lie behind those that agents
//! have seen.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _, TableDefinition};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    database::Database,
    failure::StoreFailure,
    record::{self, FORMAT, RecordError},
};

/// What the store says of itself.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
const VERSION: &str = "version";
const PLACE: &str = "place";

/// Where a Linux machine keeps its id, the usual place first.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// A data directory that this process has taken. When it and its database are dropped, another
/// may take it.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Holds the lock, together with the database.
    pub(super) lock: Arc<DirectoryLock>,
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
        "the store {} is a copy or a restored backup ({difference}): what it knows may lie behind what agents were told since, so deciding from it could delete the wrong machines. Start with the original file; taking over a copy (--adopt) is not in this version yet",
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

/// Which version wrote the store. Its own layout never changes, so that every version can read
/// this much of every store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    format: u32,
    made_by: String,
}

/// Where the file was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    machine: Option<String>,
    inode: u64,
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

    fn take(path: &Path) -> Result<Self, OpenError> {
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
/// The directory is another's, or cannot be used; the store is newer, or a copy.
pub fn open(path: &Path) -> Result<(DataDirectory, Arc<Database>), OpenError> {
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
    introduce(&file, &database)?;
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

/// Which version wrote a store, found without writing to it: opening it in earnest already changes
/// its file. `None` where there is none, or it was not closed in order, or cannot be read: then
/// opening it says what is wrong, and looks at the version again.
fn look(file: &Path) -> Option<Version> {
    let database = ReadOnlyDatabase::open(file).ok()?;
    let (version, _) = read_about(&database.begin_read().ok()?).ok()?;
    record::decode("the version record", &version?).ok()
}

fn refuse_newer(file: &Path, version: Version) -> Result<(), OpenError> {
    if version.format <= FORMAT {
        return Ok(());
    }
    Err(OpenError::NewerVersion {
        path: file.to_owned(),
        made_by: version.made_by,
        found: version.format,
        this: this_version().made_by,
    })
}

fn this_version() -> Version {
    Version {
        format: FORMAT,
        made_by: format!("calvin {}", env!("CARGO_PKG_VERSION")),
    }
}

/// Checks what the store says of itself, and lets a new one say it.
fn introduce(file: &Path, database: &Database) -> Result<(), OpenError> {
    let this = this_version();
    let place = Place {
        machine: machine_id(),
        inode: fs::metadata(file)
            .map_err(|source| OpenError::Io {
                doing: "look at",
                path: file.to_owned(),
                source,
            })?
            .ino(),
    };
    let about = |source| OpenError::About {
        path: file.to_owned(),
        source,
    };
    let read = database
        .begin_read()
        .map_err(|error| failed(file, error.into()))?;
    let (version, recorded) = read_about(&read).map_err(|error| failed(file, error))?;
    if let Some(bytes) = &version {
        let found = record::decode("the version record", bytes).map_err(about)?;
        refuse_newer(file, found)?;
    }
    if let Some(bytes) = &recorded {
        let made: Place = record::decode("the place record", bytes).map_err(about)?;
        if let Some(difference) = difference(&made, &place) {
            return Err(OpenError::Copy {
                path: file.to_owned(),
                difference,
            });
        }
    }
    let version_bytes = record::encode("the version record", &this).map_err(about)?;
    let place_bytes = record::encode("the place record", &place).map_err(about)?;
    if version.as_ref() == Some(&version_bytes) && recorded.is_some() {
        return Ok(());
    }
    write_about(database, &version_bytes, &place_bytes).map_err(|error| failed(file, error))
}

fn failed(file: &Path, error: StoreFailure) -> OpenError {
    OpenError::Database {
        path: file.to_owned(),
        source: Box::new(error),
    }
}

type About = (Option<Vec<u8>>, Option<Vec<u8>>);

fn read_about(read: &ReadTransaction) -> Result<About, StoreFailure> {
    let table = match read.open_table(ABOUT) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, None)),
        other => other?,
    };
    let bytes = |key| -> Result<Option<Vec<u8>>, StoreFailure> {
        Ok(table.get(key)?.map(|found| found.value().to_vec()))
    };
    Ok((bytes(VERSION)?, bytes(PLACE)?))
}

fn write_about(database: &Database, version: &[u8], place: &[u8]) -> Result<(), StoreFailure> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(ABOUT)?;
        table.insert(VERSION, version)?;
        table.insert(PLACE, place)?;
    }
    write.commit()?;
    Ok(())
}

/// How `here` differs from where the store was made. A machine without an id is known by the
/// inode alone.
fn difference(made: &Place, here: &Place) -> Option<String> {
    if let (Some(made), Some(here)) = (&made.machine, &here.machine)
        && made != here
    {
        return Some(format!(
            "it was made on the machine {made}, this one is {here}"
        ));
    }
    (made.inode != here.inode).then(|| {
        format!(
            "it was made as the file with inode {}, this one has {}",
            made.inode, here.inode
        )
    })
}

fn machine_id() -> Option<String> {
    MACHINE_ID_FILES
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}
