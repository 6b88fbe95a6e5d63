//! The open database, which opens itself again after a failed write.
//!
//! `redb` stops for good at its first failed write: what it holds in memory may no longer match
//! the disk. That is right, and a full disk is a normal state: once there is room again, the
//! coordinator must go on without a restart. So the failed instance is dropped and the file opened
//! again, which brings back exactly what was committed.
//!
//! An instance that failed is known by its file, which says so and does nothing more from then on:
//! `redb` itself tells it only at the next operation that needs the disk, somewhere in the middle
//! of somebody's transaction.
//!
//! `redb`'s own file lock would stand in the way of that (the failed instance holds it while a
//! transaction of it lives), so the file is opened through a backend without one. The lock on the
//! data directory keeps other processes away. The database holds a share of it: whoever may still
//! write, perhaps only waits for a disk that hangs, has the database, and so the directory.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{
    DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend, StorageError,
    TransactionError, WriteTransaction,
};

use super::directory::DirectoryLock;
#[cfg(test)]
use super::fault::StoreFault;

/// Memory for pages. A record of an instance is about 1 KiB, so this holds the whole state of the
/// 10,000 instances that the planner is measured with, and the newest of the history.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// The environment's database. Cheap to share; begins transactions as `redb::Database` does.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    open: Mutex<Instance>,
    /// The lock on the data directory, given up by the last who could write.
    _lock: Option<Arc<DirectoryLock>>,
    #[cfg(test)]
    fault: Arc<StoreFault>,
}

/// One instance of `redb`, and whether its file failed.
#[derive(Debug, Clone)]
struct Instance {
    database: Arc<redb::Database>,
    failed: Arc<AtomicBool>,
}

impl Database {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// It cannot be read or written, or is no database.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Self::open_with(path, None)
    }

    /// As `open`, in a data directory that stays locked for as long as the database is open.
    pub(super) fn open_locked(
        path: &Path,
        lock: Arc<DirectoryLock>,
    ) -> Result<Self, DatabaseError> {
        Self::open_with(path, Some(lock))
    }

    fn open_with(path: &Path, lock: Option<Arc<DirectoryLock>>) -> Result<Self, DatabaseError> {
        #[cfg(test)]
        let fault = Arc::<StoreFault>::default();
        let open = Instance::open(
            path,
            #[cfg(test)]
            &fault,
        )?;
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(open),
            _lock: lock,
            #[cfg(test)]
            fault,
        })
    }

    /// Begins to read what was committed last.
    ///
    /// # Errors
    /// The file cannot be read, or an earlier write failed and it still cannot be opened again.
    pub fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        #[cfg(test)]
        self.fault.wait_to_read();
        self.working()?.begin_read()
    }

    /// Begins the one write transaction that there can be at a time; waits for the one before.
    ///
    /// # Errors
    /// An earlier write failed and the file still cannot be opened again.
    pub fn begin_write(&self) -> Result<WriteTransaction, TransactionError> {
        self.working()?.begin_write()
    }

    /// What makes this database's writes fail or hang in tests.
    #[cfg(test)]
    pub(crate) fn fault(&self) -> &Arc<StoreFault> {
        &self.fault
    }

    /// An instance whose file has not failed.
    fn working(&self) -> Result<Arc<redb::Database>, StorageError> {
        // The value is replaced whole, so a panic elsewhere cannot have left it half-changed.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.failed.load(Ordering::Acquire) {
            let fresh = Instance::open(
                &self.path,
                #[cfg(test)]
                &self.fault,
            );
            *open = fresh.map_err(storage_error)?;
            let path = self.path.display();
            tracing::info!(%path, "opened the store again after a failure of its file");
        }
        Ok(Arc::clone(&open.database))
    }
}

impl Instance {
    fn open(path: &Path, #[cfg(test)] fault: &Arc<StoreFault>) -> Result<Self, DatabaseError> {
        let failed = Arc::<AtomicBool>::default();
        let backend = FileBackend {
            file: OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?,
            failed: Arc::clone(&failed),
            #[cfg(test)]
            fault: Arc::clone(fault),
        };
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)?;
        Ok(Self {
            database: Arc::new(database),
            failed,
        })
    }
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
    failed: Arc<AtomicBool>,
    #[cfg(test)]
    fault: Arc<StoreFault>,
}

impl FileBackend {
    /// Does `operation`, unless an earlier one failed. A second instance may be open by then, and
    /// this one must not write beside it.
    fn guarded<T>(&self, operation: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier operation on the file failed"));
        }
        let done = operation(&self.file);
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    fn change<T>(&self, operation: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        self.guarded(|file| {
            #[cfg(test)]
            self.fault.check()?;
            operation(file)
        })
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.guarded(|file| Ok(file.metadata()?.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.guarded(|file| file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.fault.wait();
        self.change(File::sync_data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|file| file.write_all_at(data, offset))
    }
}
