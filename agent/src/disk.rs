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
/// Nothing was replaced.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    replace(path, content).map_err(|source| DiskError::Write {
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new_name = name.to_owned();
    new_name.push(".new");
    let new_path = parent.join(new_name);
    // What a crash left behind may have another mode; a new file is born with ours.
    match fs::remove_file(&new_path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(&new_path)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new_path, path)?;
    // The rename itself is durable only with its directory.
    File::open(parent)?.sync_all()
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
