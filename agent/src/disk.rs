//! Small files that must survive a power cut: written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Owner reads and writes.
const PRIVATE_FILE: u32 = 0o600;
/// Owner lists and enters.
const PRIVATE_DIR: u32 = 0o700;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than anything that is written there.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It could not be written; the old content is still there.
    #[error("could not write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was replaced, and a power cut may still bring the old content back.
    #[error("wrote {}, but its directory could not be synced", path.display())]
    Unsynced {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds what this version does not understand.
    #[error("{} cannot be understood", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Makes a directory that only its owner may enter, with its parents, unless it is there.
///
/// # Errors
/// Where the file system refuses.
pub fn make_private_dir(path: &Path) -> Result<(), DiskError> {
    let write = |source| DiskError::Write {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR)
        .create(path)
        .map_err(write)
}

/// Replaces a file as one step: readers see the old content or the new, also after a power cut.
/// The file is born with mode 0600; nobody else can open it between two calls.
///
/// # Errors
/// Nothing was replaced; or, as [`DiskError::Unsynced`], it was, and is not sure to last. In both
/// cases it is not on disk as whoever asked for it needs it, and asking again is harmless.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    replace(path, content, File::sync_all)
}

fn replace(
    path: &Path,
    content: &[u8],
    sync_directory: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), DiskError> {
    let write = |source| DiskError::Write {
        path: path.to_owned(),
        source,
    };
    // Opened first: without a descriptor for it nothing is replaced.
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput.into());
    let directory = parent.and_then(File::open).map_err(write)?;
    rename_new(path, content).map_err(write)?;
    // The rename itself is durable only with its directory.
    sync_directory(&directory).map_err(|source| DiskError::Unsynced {
        path: path.to_owned(),
        source,
    })
}

/// Writes a new file beside the old one, and gives it its name.
fn rename_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new_path = path.as_os_str().to_owned();
    new_path.push(".new");
    let new_path = PathBuf::from(new_path);
    // What a crash left behind may have another mode; a new file is born with ours.
    match fs::remove_file(&new_path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(&new_path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new_path, path));
    if written.is_err() {
        // Half a file is of no use, and takes room where there may be none left.
        let _ = fs::remove_file(&new_path);
    }
    written
}

/// Removes a file, unless it is gone already.
///
/// # Errors
/// It is still there.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DiskError::Write {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a file of at most `limit` bytes; `None` if there is none.
///
/// # Errors
/// Where it cannot be read, or is larger.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let read = |source| DiskError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    let mut content = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(read)?;
    if content.len() as u64 > limit {
        return Err(DiskError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        // What a crash may leave behind.
        fs::write(dir.path().join("record.json.new"), "half").unwrap();
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap().unwrap(), b"two");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE_FILE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_synced_leaves_the_new_content_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        write_private(&path, b"one").unwrap();
        let broken = |_: &File| Err(io::ErrorKind::QuotaExceeded.into());
        let error = replace(&path, b"two", broken).unwrap_err();
        assert!(matches!(error, DiskError::Unsynced { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_content_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        // A directory is not replaced by a file.
        fs::create_dir(&path).unwrap();
        let error = write_private(&path, b"secret").unwrap_err();
        assert!(matches!(error, DiskError::Write { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_file_is_none_and_a_large_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        assert!(read_bounded(&path, 10).unwrap().is_none());
        write_private(&path, b"four").unwrap();
        let error = read_bounded(&path, 3).unwrap_err();
        assert!(
            matches!(error, DiskError::TooLarge { limit: 3, .. }),
            "{error}"
        );
    }
}
