//! What a store says of itself: which version wrote it, where its file was made, and whether it is
//! behind the world.
//!
//! A file is known by its machine's id, its inode and, where the file system tells, the time at
//! which it was made. All three survive a restart, and a move on the same file system; none survives
//! a copy or a restored backup. Not even they tell a machine whose whole disk was set back to a
//! snapshot: that shows itself when agents know more than the store does.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use calvin_engine::ports::{Recovering, RecoveringChange};
use redb::{
    ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::{
    database::Database,
    directory::{Copies, OpenError},
    failure::StoreFailure,
    record::{self, FORMAT},
};
use crate::runtime::{rfc3339, wall_ms, wall_ms_now};

/// What the store says of itself.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
const VERSION: &str = "version";
const PLACE: &str = "place";
const RECOVERING: &str = "recovering";
const RECOVERING_RECORD: &str = "the record that the store recovers";

/// Where a Linux machine keeps its id, the usual place first.
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Which version wrote the store. Its own layout never changes, so that every version can read
/// this much of every store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) format: u32,
    pub(super) made_by: String,
}

/// Where the file was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    machine: Option<String>,
    inode: u64,
    /// When, milliseconds since 1970 UTC; unknown where the file system does not keep it.
    #[serde(default)]
    born_ms: Option<u64>,
}

/// Which version wrote a store, found without writing to it: opening it in earnest already changes
/// its file. `None` where there is none, or it was not closed in order, or cannot be read: then
/// opening it says what is wrong, and looks at the version again.
pub(super) fn look(file: &Path) -> Option<Version> {
    let database = ReadOnlyDatabase::open(file).ok()?;
    let version = read_about(&database.begin_read().ok()?, VERSION).ok()?;
    record::decode("the version record", &version?).ok()
}

pub(super) fn refuse_newer(file: &Path, version: Version) -> Result<(), OpenError> {
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
pub(super) fn introduce(file: &Path, database: &Database, copies: Copies) -> Result<(), OpenError> {
    let mut here = Place::of(file)?;
    let about = |source| OpenError::About {
        path: file.to_owned(),
        source,
    };
    let read = database
        .begin_read()
        .map_err(|error| failed(file, error.into()))?;
    let read = |key| read_about(&read, key).map_err(|error| failed(file, error));
    let version = read(VERSION)?;
    if let Some(bytes) = &version {
        let found = record::decode("the version record", bytes).map_err(about)?;
        refuse_newer(file, found)?;
    }
    let made: Option<Place> = match read(PLACE)? {
        Some(bytes) => Some(record::decode("the place record", &bytes).map_err(about)?),
        None => None,
    };
    let known: Option<Recovering> = match read(RECOVERING)? {
        Some(bytes) => Some(record::decode(RECOVERING_RECORD, &bytes).map_err(about)?),
        None => None,
    };
    let difference = made.as_ref().and_then(|made| {
        let restored = known.as_ref().filter(|_| made.is_nowhere());
        match restored {
            Some(known) => Some(known.reason.clone()),
            None => made.difference(&here),
        }
    });
    let recovering = match (copies, difference) {
        (Copies::Refused, Some(difference)) => {
            return Err(OpenError::Copy {
                path: file.to_owned(),
                difference,
            });
        }
        (Copies::Refused, None) => {
            // What this machine does not tell now is not forgotten.
            here.machine = here
                .machine
                .or(made.as_ref().and_then(|made| made.machine.clone()));
            here.born_ms = here.born_ms.or(made.as_ref().and_then(|made| made.born_ms));
            None
        }
        (Copies::Adopted, difference) => Some(adopted(known, made.as_ref(), difference)),
    };
    if here.machine.is_none() {
        tracing::warn!(
            "this machine has no id in /etc/machine-id: a copy of the store is told by its file alone"
        );
    }
    let version_bytes = record::encode("the version record", &this_version()).map_err(about)?;
    let same = version.as_ref() == Some(&version_bytes) && made.as_ref() == Some(&here);
    if same && recovering.is_none() {
        return Ok(());
    }
    let place_bytes = record::encode("the place record", &here).map_err(about)?;
    let recovering = recovering
        .map(|recovering| record::encode(RECOVERING_RECORD, &recovering))
        .transpose()
        .map_err(about)?;
    // All at once: a store that has its new place and does not know that it recovers would decide.
    write_about(
        database,
        &version_bytes,
        &place_bytes,
        recovering.as_deref(),
    )
    .map_err(|error| failed(file, error))
}

/// Why a store recovers that is adopted. What it says of that itself already, that it was restored
/// for instance, is not forgotten.
fn adopted(
    known: Option<Recovering>,
    made: Option<&Place>,
    difference: Option<String>,
) -> Recovering {
    let Some(known) = known else {
        return Recovering {
            reason: match difference {
                Some(difference) => format!("its store was adopted: {difference}"),
                None => "it was told so with --adopt".to_owned(),
            },
            since_wall_ms: wall_ms_now(),
        };
    };
    match difference.filter(|_| made.is_some_and(|made| !made.is_nowhere())) {
        Some(difference) if !known.reason.contains(&difference) => Recovering {
            reason: format!("{}; then its store was adopted: {difference}", known.reason),
            ..known
        },
        Some(_) | None => known,
    }
}

/// Whether the store in `file` was made of a backup and never started since.
pub(super) fn is_untouched_restore(file: &Path) -> bool {
    let place = || -> Option<Place> {
        let database = ReadOnlyDatabase::open(file).ok()?;
        let bytes = read_about(&database.begin_read().ok()?, PLACE).ok()??;
        record::decode("the place record", &bytes).ok()
    };
    place().is_some_and(|place| place.is_nowhere())
}

/// Whether the store recovers.
pub(super) fn recovering(read: &ReadTransaction) -> Result<Option<Recovering>, StoreFailure> {
    let bytes = read_about(read, RECOVERING)?;
    let decoded = bytes.map(|bytes| record::decode(RECOVERING_RECORD, &bytes));
    Ok(decoded.transpose()?)
}

/// Notes within `write` that recovering begins or ends.
pub(super) fn note_recovering(
    write: &WriteTransaction,
    change: &RecoveringChange,
) -> Result<(), StoreFailure> {
    let mut table = write.open_table(ABOUT)?;
    match change.after() {
        Some(recovering) => {
            let bytes = record::encode(RECOVERING_RECORD, &recovering)?;
            table.insert(RECOVERING, bytes.as_slice())?;
        }
        None => {
            table.remove(RECOVERING)?;
        }
    }
    Ok(())
}

/// Marks a store that is made of a backup: nothing is decided from it, and until it is adopted it
/// does not even start. Not left to its file: a file system may give the same inode again.
pub(super) fn mark_restored(
    write: &WriteTransaction,
    recovering: &Recovering,
) -> Result<(), StoreFailure> {
    let place = record::encode("the place record", &Place::nowhere())?;
    let recovering = record::encode(RECOVERING_RECORD, recovering)?;
    let mut table = write.open_table(ABOUT)?;
    table.insert(PLACE, place.as_slice())?;
    table.insert(RECOVERING, recovering.as_slice())?;
    Ok(())
}

/// Checks one of the records of this table.
pub(super) fn check(key: &str, bytes: &[u8]) -> Result<(), record::RecordError> {
    match key {
        VERSION => {
            let version: Version = record::decode("the version record", bytes)?;
            if version.format > FORMAT {
                return Err(record::RecordError::Newer {
                    what: format!("the store of {}", version.made_by),
                    found: version.format,
                });
            }
        }
        PLACE => {
            let _: Place = record::decode("the place record", bytes)?;
        }
        RECOVERING => {
            let _: Recovering = record::decode(RECOVERING_RECORD, bytes)?;
        }
        other => {
            let what = format!("the record {other} of about");
            let _: serde_json::Value = record::decode(&what, bytes)?;
        }
    }
    Ok(())
}

fn failed(file: &Path, error: StoreFailure) -> OpenError {
    OpenError::Database {
        path: file.to_owned(),
        source: Box::new(error),
    }
}

fn read_about(read: &ReadTransaction, key: &str) -> Result<Option<Vec<u8>>, StoreFailure> {
    let table = match read.open_table(ABOUT) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    Ok(table.get(key)?.map(|found| found.value().to_vec()))
}

fn write_about(
    database: &Database,
    version: &[u8],
    place: &[u8],
    recovering: Option<&[u8]>,
) -> Result<(), StoreFailure> {
    let write = database.begin_write()?;
    {
        let mut table = write.open_table(ABOUT)?;
        table.insert(VERSION, version)?;
        table.insert(PLACE, place)?;
        if let Some(recovering) = recovering {
            table.insert(RECOVERING, recovering)?;
        }
    }
    write.commit()?;
    Ok(())
}

impl Place {
    /// Of a store that is made of a backup, until it is adopted. No file has inode 0.
    fn nowhere() -> Self {
        Self {
            machine: None,
            inode: 0,
            born_ms: None,
        }
    }

    fn is_nowhere(&self) -> bool {
        *self == Self::nowhere()
    }

    /// Where `file` is now.
    fn of(file: &Path) -> Result<Self, OpenError> {
        let metadata = fs::metadata(file).map_err(|source| OpenError::Io {
            doing: "look at",
            path: file.to_owned(),
            source,
        })?;
        Ok(Self {
            machine: machine_id(),
            inode: metadata.ino(),
            born_ms: metadata.created().ok().map(wall_ms),
        })
    }

    /// How `here` differs from where the store was made. What one of the two does not know counts
    /// for nothing.
    fn difference(&self, here: &Self) -> Option<String> {
        if let (Some(made), Some(here)) = (&self.machine, &here.machine)
            && made != here
        {
            return Some(format!(
                "it was made on the machine {made}, this one is {here}"
            ));
        }
        if self.inode != here.inode {
            return Some(format!(
                "it was made as the file with inode {}, this one has {}",
                self.inode, here.inode
            ));
        }
        match (self.born_ms, here.born_ms) {
            (Some(made), Some(here)) if made != here => Some(format!(
                "its file was made at {}, this one at {}",
                rfc3339(made),
                rfc3339(here)
            )),
            (Some(_) | None, Some(_) | None) => None,
        }
    }
}

fn machine_id() -> Option<String> {
    MACHINE_ID_FILES
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}
