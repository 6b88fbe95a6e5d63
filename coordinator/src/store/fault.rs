//! Makes the file of one database fail or hang, in tests.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// A disk that hangs goes on by itself after this time: a test that fails because all threads of a
/// runtime wait for the disk is to fail, not to hang itself.
const HANG_MAX: Duration = Duration::from_secs(20);

/// What is wrong with the disk of one database.
#[derive(Debug, Default)]
pub(crate) struct StoreFault {
    full: AtomicBool,
    hang: Mutex<Hang>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Hang {
    on: bool,
    /// Who only reads waits, too.
    reads: bool,
    waiting: usize,
}

/// A disk that hangs until this is dropped.
#[derive(Debug)]
pub(crate) struct Hung(Arc<StoreFault>);

impl Drop for Hung {
    fn drop(&mut self) {
        let mut hang = self.0.hang();
        (hang.on, hang.reads) = (false, false);
        drop(hang);
        self.0.released.notify_all();
    }
}

impl Hung {
    /// Whether somebody waits for the disk.
    pub(crate) fn holds_somebody(&self) -> bool {
        self.holds() > 0
    }

    /// How many wait for the disk.
    pub(crate) fn holds(&self) -> usize {
        self.0.hang().waiting
    }
}

impl StoreFault {
    /// Every write fails, as on a full disk, or no more.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// What is to be durable is not, and does not fail either, as on a disk that went away.
    pub(crate) fn hang_now(self: &Arc<Self>) -> Hung {
        self.hang().on = true;
        Hung(Arc::clone(self))
    }

    /// As `hang_now`, and nothing can be read.
    pub(crate) fn hang_reads_now(self: &Arc<Self>) -> Hung {
        self.hang().reads = true;
        self.hang_now()
    }

    /// Before anything is read.
    pub(super) fn wait_to_read(&self) {
        if self.hang().reads {
            self.wait();
        }
    }

    /// Before each change of the file.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Before the file is made durable.
    pub(super) fn wait(&self) {
        let mut hang = self.hang();
        hang.waiting += 1;
        let (mut hang, _) = self
            .released
            .wait_timeout_while(hang, HANG_MAX, |hang| hang.on)
            .unwrap_or_else(PoisonError::into_inner);
        hang.waiting -= 1;
    }

    fn hang(&self) -> MutexGuard<'_, Hang> {
        self.hang.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
