//! A backup of the environment, as a stream of its bytes.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use calvin_engine::chain;
use calvin_proto::wire::BackupChunk;
use tokio::{runtime::Handle, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{OperatorParts, watch::Answers};
use crate::{runtime::wall_ms_now, store::backup};

/// Bytes of one message; far below the limit of a reply.
const CHUNK: usize = 64 * 1024;
/// Messages on their way to the client.
const CHUNKS: usize = 8;
/// A client that takes nothing for so long is given up: while it is waited for, the store cannot
/// use the room of what has changed since.
const STALLED: Duration = Duration::from_secs(30);

impl OperatorParts {
    pub(super) fn create_backup(&self, who: String) -> Answers<BackupChunk> {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let database = Arc::clone(&self.database);
        let ca = self.store.with_file_name("ca");
        let identity = self.identity.clone();
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut out = Chunks {
                sender: sender.clone(),
                runtime: runtime.clone(),
                buffer: Vec::with_capacity(CHUNK),
            };
            let began = wall_ms_now();
            match backup::write(&database, &ca, &mut out) {
                Ok(()) => {
                    let text = "gave out a backup, with the keys of the CAs";
                    identity
                        .audit()
                        .done(identity.now(), &who, "backup_created", text);
                    tracing::info!(%who, ms = wall_ms_now().saturating_sub(began), "gave out a backup");
                }
                Err(error) => {
                    let text = chain(&error);
                    tracing::warn!(%who, error = %text, "a backup was not finished");
                    // Who asked may have gone away; this is the end in any case.
                    let status =
                        Status::unavailable(format!("the backup was not finished: {text}"));
                    let _ = runtime.block_on(timeout(STALLED, sender.send(Err(status))));
                }
            }
        });
        Box::pin(ReceiverStream::new(chunks))
    }
}

/// Writes to a client.
struct Chunks {
    sender: mpsc::Sender<Result<BackupChunk, Status>>,
    runtime: Handle,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.sender.send(Ok(BackupChunk { data }));
        match self.runtime.block_on(timeout(STALLED, sent)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "who asked for it has gone",
            )),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "who asked for it takes nothing",
            )),
        }
    }
}
