//! Claims of loopback addresses. Several coordinators may run on one host and use the same
//! network; a lock of the kernel on a file named after the address keeps two machines from
//! getting the same one, and is gone with the last process that holds it.
//!
//! The files stay: removing one would let two processes lock two files of the same name.

use std::{
    fs::{self, File},
    io,
    net::IpAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// For all users of the host, like a directory for temporary files.
const SHARED: &str = "/run/calvin/addresses";
/// Everybody may add files, nobody may remove another's.
const SHARED_MODE: u32 = 0o1777;

/// A claimed address; given up when it is dropped, whoever else has the file open. One that was
/// handed on by [`AddressLock::into_file`] is given up when the last copy of the file is closed.
#[derive(Debug)]
pub struct AddressLock {
    /// `None` once it is handed on.
    file: Option<File>,
}

impl AddressLock {
    /// Claims `address`; `None` when another process has it.
    ///
    /// # Errors
    /// Where the file cannot be made, opened or locked.
    pub fn try_take(directory: &Path, address: IpAddr) -> io::Result<Option<Self>> {
        let path = Self::path(directory, address);
        let file = match File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
        {
            Ok(file) => file,
            // Another user's file. Reading is enough to lock it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => File::open(&path)?,
            Err(error) => return Err(error),
        };
        Self::lock(file)
    }

    /// Takes over a claim that came with an open file: a provider claims the address and hands the
    /// file to the machine's first process, so that there is no moment without a claim. `None` when
    /// `file` is not the lock file of `address`, or another process has the claim.
    ///
    /// # Errors
    /// Where the kernel refuses for another reason.
    pub fn adopt(directory: &Path, address: IpAddr, file: File) -> io::Result<Option<Self>> {
        let Ok(expected) = fs::metadata(Self::path(directory, address)) else {
            return Ok(None);
        };
        let found = file.metadata()?;
        if (found.dev(), found.ino()) != (expected.dev(), expected.ino()) {
            return Ok(None);
        }
        Self::lock(file)
    }

    /// The open file that holds the claim, to be handed to another process.
    #[must_use]
    pub fn into_file(mut self) -> File {
        #[expect(
            clippy::expect_used,
            reason = "only this takes it, and it takes the claim too"
        )]
        self.file.take().expect("a claim has its file")
    }

    /// Locking again what the same open file has locked succeeds.
    fn lock(file: File) -> io::Result<Option<Self>> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file: Some(file) })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn path(directory: &Path, address: IpAddr) -> PathBuf {
        directory.join(address.to_string())
    }
}

/// The directory of the locks: `chosen`, or the host's, or where that cannot be used the user's
/// own. It is made if it is not there.
///
/// # Errors
/// Where none can be made.
pub fn address_lock_directory(chosen: Option<&Path>) -> io::Result<PathBuf> {
    if let Some(chosen) = chosen {
        fs::create_dir_all(chosen)?;
        return Ok(chosen.to_owned());
    }
    let shared = PathBuf::from(SHARED);
    if shared.is_dir() {
        return Ok(shared);
    }
    if fs::create_dir_all(&shared).is_ok() {
        fs::set_permissions(&shared, fs::Permissions::from_mode(SHARED_MODE))?;
        return Ok(shared);
    }
    own_directory()
}

fn own_directory() -> io::Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let base = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(base) => PathBuf::from(base),
        None => std::env::temp_dir().join(format!("calvin-{user}")),
    };
    let directory = base.join("calvin/addresses");
    fs::create_dir_all(&directory)?;
    // Under a directory for everybody somebody else may have been first.
    let owner = fs::metadata(&directory)?.uid();
    if owner != user {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to user {owner}", directory.display()),
        ));
    }
    Ok(directory)
}

impl Drop for AddressLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Closing the file is not enough: a child that another thread starts just now has it
            // open too, until it runs its program. A claim that stays for that long does no harm.
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_holder_until_the_last_copy_of_its_file_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let address: IpAddr = "127.9.0.1".parse().unwrap();
        let take = || AddressLock::try_take(directory.path(), address).unwrap();
        let first = take().unwrap();
        assert!(take().is_none());
        let file = first.into_file();
        let handed_on = file.try_clone().unwrap();
        drop(file);
        assert!(take().is_none(), "a copy still holds it");
        let adopt = |file| AddressLock::adopt(directory.path(), address, file).unwrap();
        let adopted = adopt(handed_on).unwrap();
        let unlocked = File::open(directory.path().join("127.9.0.1")).unwrap();
        assert!(adopt(unlocked).is_none(), "the file alone is no claim");
        assert!(adopt(File::open("/dev/null").unwrap()).is_none());
        drop(adopted);
        assert!(take().is_some());
    }

    #[test]
    fn a_claim_that_was_not_handed_on_ends_also_while_a_child_begins() {
        let directory = tempfile::tempdir().unwrap();
        let address: IpAddr = "127.9.0.1".parse().unwrap();
        let take = || AddressLock::try_take(directory.path(), address).unwrap();
        let claim = take().unwrap();
        // What a child has between fork and exec, started by another thread at this very moment.
        let childs = claim.file.as_ref().unwrap().try_clone().unwrap();
        drop(claim);
        assert!(take().is_some());
        drop(childs);
    }

    #[test]
    fn addresses_are_claimed_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let take = |text: &str| {
            let address = text.parse().unwrap();
            AddressLock::try_take(directory.path(), address).unwrap()
        };
        let (one, two) = (take("127.9.0.1"), take("127.9.0.2"));
        assert!(one.is_some() && two.is_some());
    }
}
