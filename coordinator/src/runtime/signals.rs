//! The signals that a coordinator listens to.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::error::ServeError;

/// Comes when the process is told to end: SIGTERM or SIGINT. Must be called inside a runtime; from
/// then on neither ends the process by itself.
///
/// # Errors
/// The system refuses a handler.
pub fn told_to_end() -> Result<impl Future<Output = ()> + Send + 'static, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A file that may not grow (a limit of the process) is to fail a write, as a full disk does, and
/// not to end the coordinator: by default SIGXFSZ kills.
pub(super) fn survive_file_limits() -> Result<(), ServeError> {
    // The handler stays for the life of the process; nobody waits for the signal itself.
    drop(signal(SignalKind::from_raw(Signal::SIGXFSZ as i32)).map_err(refused)?);
    Ok(())
}

fn refused(source: io::Error) -> ServeError {
    ServeError::System {
        what: "a signal handler",
        source,
    }
}
