//! The digest of an image directory: the same content has the same digest on every machine.
//!
//! SHA-256 over a header and one record for each entry below the directory, in the byte order of
//! their paths relative to it:
//!
//! ```text
//! calvin-image-v1\n
//! kind      1 byte: d directory, f file, x executable file, l symbolic link
//! length    8 bytes, big endian: of the path
//! path      with / between its parts
//! length    8 bytes, big endian: of the content (0 for a directory)
//! content   of the file, or the link's target as it is written
//! ```
//!
//! Owner, times and the other mode bits are left out: a copy with `cp`, `tar` or `git` keeps the
//! digest. A file is executable when its owner may execute it. Links are hashed as they are, never
//! followed. What is none of these (a socket, a device) is refused, because it cannot be copied.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use calvin_model::Digest;
use ring::digest::{Context, SHA256};

/// Entries of one image. A root file system has about 100,000; an image directory that holds
/// more was most likely given by mistake (`/`, a home directory).
const ENTRIES_MAX: usize = 100_000;
/// Read at once. Large enough that the hash, not the system call, takes the time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a directory has no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// Something below it cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither directory, file nor symbolic link.
    #[error("{} is neither a directory, a file nor a symbolic link", path.display())]
    Special {
        /// Which entry.
        path: PathBuf,
    },
    /// It has more entries than an image can sensibly have.
    #[error("{} has more than {ENTRIES_MAX} entries: is it the right directory?", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
    /// A file grew or shrank while it was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
}

/// What a look at the metadata alone shows of a directory: equal fingerprints mean that nothing
/// was written since, because no program can set a file's change time. It spares a coordinator
/// that makes a hundred machines a hundred hashes of the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Looks at everything below `directory`, without reading any file.
    ///
    /// # Errors
    /// As [`digest_of`].
    pub fn of(directory: &Path) -> Result<Self, DigestError> {
        let mut hash = Context::new(&SHA256);
        for entry in entries(directory)? {
            let metadata = &entry.metadata;
            hash.update(entry.relative.as_os_str().as_bytes());
            for number in [metadata.dev(), metadata.ino(), metadata.size()] {
                hash.update(&number.to_be_bytes());
            }
            for number in [metadata.ctime(), metadata.ctime_nsec()] {
                hash.update(&number.to_be_bytes());
            }
        }
        Ok(Self(finish(hash)))
    }
}

/// Computes the digest of everything below `directory`.
///
/// # Errors
/// What cannot be read, is no file, or changes meanwhile.
pub fn digest_of(directory: &Path) -> Result<Digest, DigestError> {
    let mut hash = Context::new(&SHA256);
    hash.update(b"calvin-image-v1\n");
    for entry in entries(directory)? {
        add_entry(&mut hash, directory, &entry)?;
    }
    Ok(Digest::from_sha256(finish(hash)))
}

struct Entry {
    relative: PathBuf,
    metadata: fs::Metadata,
}

/// Everything below `directory`, in the byte order of the relative paths.
fn entries(directory: &Path) -> Result<Vec<Entry>, DigestError> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(parent) = pending.pop() {
        let path = directory.join(&parent);
        let failed = |source| DigestError::Read {
            path: path.clone(),
            source,
        };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(|source| DigestError::Read {
                path: entry.path(),
                source,
            })?;
            let relative = parent.join(entry.file_name());
            if metadata.is_dir() {
                pending.push(relative.clone());
            }
            found.push(Entry { relative, metadata });
            if found.len() > ENTRIES_MAX {
                return Err(DigestError::TooMany {
                    path: directory.to_owned(),
                });
            }
        }
    }
    found.sort_by(|a, b| {
        let bytes = |entry: &Entry| entry.relative.as_os_str().as_bytes().to_vec();
        bytes(a).cmp(&bytes(b))
    });
    Ok(found)
}

fn add_entry(hash: &mut Context, directory: &Path, entry: &Entry) -> Result<(), DigestError> {
    let path = directory.join(&entry.relative);
    let kind = entry.metadata.file_type();
    if kind.is_dir() {
        add_head(hash, b'd', &entry.relative, 0);
        return Ok(());
    }
    if kind.is_symlink() {
        let target = fs::read_link(&path).map_err(|source| DigestError::Read {
            path: path.clone(),
            source,
        })?;
        let target = target.as_os_str().as_bytes();
        add_head(hash, b'l', &entry.relative, target.len() as u64);
        hash.update(target);
        return Ok(());
    }
    if !kind.is_file() {
        return Err(DigestError::Special { path });
    }
    let executable = entry.metadata.permissions().mode() & 0o100 != 0;
    let kind = if executable { b'x' } else { b'f' };
    add_head(hash, kind, &entry.relative, entry.metadata.len());
    add_content(hash, &path, entry.metadata.len())
}

fn add_head(hash: &mut Context, kind: u8, relative: &Path, content_bytes: u64) {
    let relative = relative.as_os_str().as_bytes();
    hash.update(&[kind]);
    hash.update(&(relative.len() as u64).to_be_bytes());
    hash.update(relative);
    hash.update(&content_bytes.to_be_bytes());
}

fn add_content(hash: &mut Context, path: &Path, expected_bytes: u64) -> Result<(), DigestError> {
    let failed = |source| DigestError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut read_bytes: u64 = 0;
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        hash.update(&chunk[..count]);
        read_bytes += count as u64;
    }
    // The length stands before the content: another one would make two images look like one.
    if read_bytes != expected_bytes {
        return Err(DigestError::Changed {
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn finish(hash: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}
