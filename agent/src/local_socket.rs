//! Unix sockets in directories of any depth. The kernel takes a socket's path of at most 107
//! bytes (`sun_path` of unix(7)); a machine's directory may lie deeper. So the directory is opened
//! and the socket is named through it, which is short at any depth.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// A socket's short name; good for as long as the directory is held open.
struct Short {
    path: PathBuf,
    _dir: File,
}

fn shorten(path: &Path) -> io::Result<Short> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = File::open(parent)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    Ok(Short { path, _dir: dir })
}

/// Listens on `path`. What a dead predecessor left there is removed; one that still listens is
/// left alone.
///
/// # Errors
/// `AddrInUse` when somebody listens there; else what the file system refuses.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let short = shorten(path)?;
    match UnixStream::connect(&short.path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&short.path)?;
        }
        Err(error) => return Err(error),
    }
    UnixListener::bind(&short.path)
}

/// Connects to `path`.
///
/// # Errors
/// What the kernel says: nobody listens, no rights.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(shorten(path)?.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_works_at_any_depth_and_a_dead_one_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("agent.sock");
        let first = bind(&path).unwrap();
        connect(&path).unwrap();
        let taken = bind(&path).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(connect(&path).is_err());
        let _second = bind(&path).unwrap();
        connect(&path).unwrap();
    }
}
