//! Restores a backup: all of it, or nothing.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufRead},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use calvin_engine::ports::Recovering;
use calvin_proto::machine::write_atomic;
use redb::{TableDefinition, WriteTransaction};

use super::{
    super::{DataDirectory, Database, about, failure::StoreFailure, history},
    BackupError, Summary,
    lines::Line,
    mode_of,
    read::each,
};
use crate::runtime::rfc3339;

/// What may lie in the directory: the machines of the process provider, which live on without their
/// store, and what a coordinator makes anew.
const MAY_BE_THERE: [&str; 3] = ["machines", "run", "lock"];
/// Where it is put together. What an earlier try left of it is removed.
const RESTORING: &str = ".restoring";
/// The store's file.
const STORE: &str = "store.redb";
/// The directory of the CAs.
const CA: &str = "ca";

/// Restores the backup `input` into the directory `data`, in which there is no store. What is
/// restored starts only with `--adopt`.
///
/// # Errors
/// The backup is no good, a coordinator uses the directory, or there is a store. Then there is
/// none of it in the directory.
pub fn restore(input: impl BufRead, data: &Path) -> Result<Summary, BackupError> {
    let making = data.join(RESTORING);
    let half_moved = is_half_moved(data, &making);
    refuse_used(data, half_moved)?;
    let directory = DataDirectory::take(data)?;
    if half_moved == HalfMoved::Yes {
        // Back to where it is removed from, with the rest of that try.
        let (from, to) = (data.join(STORE), making.join(STORE));
        fs::rename(&from, &to).map_err(failed("move", &from))?;
        sync(data)?;
    }
    remove(&making)?;
    make(&making)?;
    let made = put_together(input, &making);
    let summary = match made {
        Ok(summary) => summary,
        Err(error) => {
            // Why it failed matters more than what is left of it.
            let _ = fs::remove_dir_all(&making);
            return Err(error);
        }
    };
    // The store first: one without its CAs is refused at the start, and CAs without a store would
    // begin a new environment.
    for name in [STORE, CA] {
        let (from, to) = (making.join(name), data.join(name));
        fs::rename(&from, &to).map_err(failed("move", &from))?;
        sync(data)?;
    }
    remove(&making)?;
    drop(directory);
    Ok(summary)
}

fn put_together(input: impl BufRead, making: &Path) -> Result<Summary, BackupError> {
    let ca = making.join(CA);
    make(&ca)?;
    let file = making.join(STORE);
    let database = Database::open(&file).map_err(|error| super::OpenError::Database {
        path: file.clone(),
        source: Box::new(error),
    })?;
    let write = database
        .begin_write()
        .map_err(|error| BackupError::Store(error.into()))?;
    let summary = each(input, |line| put(&write, &ca, line))?;
    let recovering = Recovering {
        reason: format!(
            "it was restored from a backup of {}",
            rfc3339(summary.header.wall_ms)
        ),
        since_wall_ms: summary.header.wall_ms,
    };
    about::mark_restored(&write, &recovering)?;
    write.commit().map_err(StoreFailure::from)?;
    drop(database);
    sync(&ca)?;
    sync(making)?;
    Ok(summary)
}

fn put(write: &WriteTransaction, ca: &Path, line: &Line) -> Result<(), BackupError> {
    match line {
        Line::Record { table, key, value } => {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            let mut table = write.open_table(definition).map_err(StoreFailure::from)?;
            table
                .insert(key.as_str(), value.as_bytes())
                .map_err(StoreFailure::from)?;
        }
        Line::Number { table, key, value } => {
            let definition: TableDefinition<'_, &str, u64> = TableDefinition::new(table);
            let mut table = write.open_table(definition).map_err(StoreFailure::from)?;
            table
                .insert(key.as_str(), value)
                .map_err(StoreFailure::from)?;
        }
        // Its hash follows from the lines, and was compared.
        Line::History { number, line, .. } => history::put(write, *number, line.as_bytes())?,
        Line::File { name, content } => {
            let path = ca.join(name);
            write_atomic(&path, content.as_bytes(), mode_of(name))
                .map_err(failed("write", &path))?;
        }
        // Never given: it is checked where lines are read.
        Line::End { .. } => {}
    }
    Ok(())
}

/// Whether an earlier restore died between its two moves: its store is in its place, and its CAs are
/// not. Nothing can have started from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HalfMoved {
    Yes,
    No,
}

fn is_half_moved(data: &Path, making: &Path) -> HalfMoved {
    let store = data.join(STORE);
    let moved = store.is_file() && !making.join(STORE).exists();
    let waits = making.join(CA).is_dir() && !data.join(CA).exists();
    if moved && waits && about::is_untouched_restore(&store) {
        HalfMoved::Yes
    } else {
        HalfMoved::No
    }
}

/// Refuses a directory with anything that a store belongs to.
fn refuse_used(data: &Path, half_moved: HalfMoved) -> Result<(), BackupError> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("list", data)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", data))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let of_that = half_moved == HalfMoved::Yes && name == STORE;
        if !of_that && name != RESTORING && !MAY_BE_THERE.contains(&name.as_str()) {
            found.push(name);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    // A coordinator that runs is the first thing to say.
    drop(DataDirectory::take(data)?);
    found.sort();
    Err(BackupError::NotEmpty {
        path: data.to_owned(),
        found,
    })
}

fn make(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(failed("make", path))
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(directory: &Path) -> Result<(), BackupError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("write", directory))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| BackupError::Io {
        doing,
        path,
        source,
    }
}
