//! The open database, which opens itself again after a failed write.
//!
//! `redb` stops for good at its first failed write: what it holds in memory may no longer match
//! the disk. That is right, and a full disk is a normal state: once there is room again, the
//! coordinator must go on without a restart. So the failed instance is dropped and the file opened
//! again, which brings back exactly what was committed.
//!
//! `redb`'s own file lock would stand in the way of that (the failed instance holds it while a
//! transaction of it lives), so the file is opened through a backend without one. The lock on the
//! data directory, held for the life of the process, keeps other processes away.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use redb::{
    DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend, StorageError,
    TransactionError, WriteTransaction,
};

#[cfg(test)]
use super::tests::StoreFault;

/// Memory for pages. A record of an instance is about 1 KiB, so this holds the whole state of the
/// 10,000 instances that the planner is measured with, and the newest of the history.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// The environment's database. Cheap to share; begins transactions as `redb::Database` does.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    open: Mutex<Arc<redb::Database>>,
    #[cfg(test)]
    fault: Arc<StoreFault>,
}

impl Database {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// It cannot be read or written, or is no database.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        #[cfg(test)]
        let fault = Arc::<StoreFault>::default();
        let backend = FileBackend::open(
            path,
            #[cfg(test)]
            &fault,
        )?;
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(Arc::new(instance(backend)?)),
            #[cfg(test)]
            fault,
        })
    }

    /// Begins to read what was committed last.
    ///
    /// # Errors
    /// The file cannot be read, or an earlier write failed and it still cannot be opened again.
    pub fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        self.retry_once(|database| database.begin_read())
    }

    /// Begins the one write transaction that there can be at a time; waits for the one before.
    ///
    /// # Errors
    /// An earlier write failed and the file still cannot be opened again.
    pub fn begin_write(&self) -> Result<WriteTransaction, TransactionError> {
        self.retry_once(redb::Database::begin_write)
    }

    /// What makes this database's writes fail in tests.
    #[cfg(test)]
    pub(super) fn fault(&self) -> &StoreFault {
        &self.fault
    }

    fn retry_once<T>(
        &self,
        begin: impl Fn(&redb::Database) -> Result<T, TransactionError>,
    ) -> Result<T, TransactionError> {
        let database = Arc::clone(&self.lock());
        match begin(&database) {
            Err(TransactionError::Storage(
                StorageError::PreviousIo | StorageError::DatabaseClosed,
            )) => begin(self.reopen(&database)?.as_ref()),
            other => other,
        }
    }

    /// Replaces `failed`, unless somebody else has done so already.
    fn reopen(&self, failed: &Arc<redb::Database>) -> Result<Arc<redb::Database>, StorageError> {
        let mut open = self.lock();
        if Arc::ptr_eq(&open, failed) {
            let backend = FileBackend::open(
                &self.path,
                #[cfg(test)]
                &self.fault,
            )?;
            let fresh = instance(backend).map_err(storage_error)?;
            tracing::info!(path = %self.path.display(), "opened the store again after a failed write");
            *open = Arc::new(fresh);
        }
        Ok(Arc::clone(&open))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<redb::Database>> {
        // The value is replaced whole, so a panic elsewhere cannot have left it half-changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn instance(backend: FileBackend) -> Result<redb::Database, DatabaseError> {
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
}

fn storage_error(error: DatabaseError) -> StorageError {
    if let DatabaseError::Storage(error) = error {
        return error;
    }
    StorageError::Io(io::Error::other(error))
}

/// The file itself, without a lock of its own.
#[derive(Debug)]
struct FileBackend {
    file: File,
    #[cfg(test)]
    fault: Arc<StoreFault>,
}

impl FileBackend {
    fn open(path: &Path, #[cfg(test)] fault: &Arc<StoreFault>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file,
            #[cfg(test)]
            fault: Arc::clone(fault),
        })
    }

    #[cfg(test)]
    fn may_write(&self) -> io::Result<()> {
        self.fault.check()
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, reason = "tests make it fail")]
    #[expect(clippy::unused_self, reason = "tests make it fail")]
    fn may_write(&self) -> io::Result<()> {
        Ok(())
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.may_write()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.may_write()?;
        self.file.write_all_at(data, offset)
    }
}
