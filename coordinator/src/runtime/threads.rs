//! The threads of a server, and their end.

use std::{io, time::Duration};

use tokio::runtime::Builder;

/// Time for what still runs when the work has ended. A thread that waits for a disk which hangs ends
/// when the disk does, or with the process: that is told to end, and must.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Does `work` on threads of its own, as many as there are cores. Returns when it has ended, at most
/// two seconds later, whatever it left behind.
///
/// # Errors
/// The system gives no threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(END_TIMEOUT);
    Ok(done)
}
