//! The output of a machine, from where it was newest, and on as it grows.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use calvin_model::InstanceId;
use calvin_proto::{machine::MachineFiles, wire};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{OperatorParts, answer::shown, error::OperatorError, watch::Answers};

/// Bytes where the request names no number.
const BYTES: u64 = 64 * 1024;
/// Most bytes of what was before.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of one message; far below the limit of a reply.
const CHUNK: usize = 64 * 1024;
/// Messages on their way to a slow client; the file is not read further while they wait.
const CHUNKS: usize = 4;
/// Time between two looks at a file that has not grown.
const PAUSE: Duration = Duration::from_millis(250);

impl OperatorParts {
    pub(super) async fn console(
        &self,
        request: wire::ConsoleRequest,
    ) -> Result<Answers<wire::ConsoleChunk>, OperatorError> {
        let id: InstanceId = request.instance.parse().map_err(|error| {
            OperatorError::invalid(format!("instance {:?}: {error}", shown(&request.instance)))
        })?;
        let bytes = match request.bytes {
            0 => BYTES,
            bytes => bytes.min(BYTES_MAX),
        };
        let files = MachineFiles::new(self.config.data.join("machines").join(id.as_str()));
        // Opened before the newest is read: what comes in between is sent twice rather than lost.
        let tail = Tail::open(&files.console());
        let machines = std::sync::Arc::clone(&self.machines);
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
        let newest = tokio::task::spawn_blocking(move || machines.console(&id, limit)).await??;
        let (sender, chunks) = mpsc::channel(CHUNKS);
        tokio::spawn(async move {
            for chunk in newest.chunks(CHUNK) {
                if send(&sender, chunk).await.is_err() {
                    return;
                }
            }
            if let (true, Ok(tail)) = (request.follow, tail) {
                follow(tail, sender).await;
            }
        });
        Ok(Box::pin(ReceiverStream::new(chunks)))
    }
}

type Sender = mpsc::Sender<Result<wire::ConsoleChunk, tonic::Status>>;

/// Who asked has gone away.
struct Gone;

async fn send(sender: &Sender, bytes: &[u8]) -> Result<(), Gone> {
    let chunk = wire::ConsoleChunk {
        data: bytes.to_vec(),
    };
    sender.send(Ok(chunk)).await.map_err(|_| Gone)
}

/// Sends what comes, until the client or the machine is gone.
async fn follow(mut tail: Tail, sender: Sender) {
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let grown = tail.grown();
            (tail, grown)
        });
        let Ok((back, grown)) = read.await else {
            return;
        };
        tail = back;
        match grown {
            Ok(bytes) if bytes.is_empty() => {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = sender.closed() => return,
                }
            }
            Ok(bytes) => {
                if send(&sender, &bytes).await.is_err() {
                    return;
                }
            }
            // The machine was deleted, and its files with it.
            Err(_) => return,
        }
    }
}

/// A file that grows and is moved away when it is large.
struct Tail {
    path: PathBuf,
    file: File,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// What came since the last time, at most one chunk; empty when nothing did.
    fn grown(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.read()?;
        if !bytes.is_empty() {
            return Ok(bytes);
        }
        let now = std::fs::metadata(&self.path)?;
        if now.ino() != self.file.metadata()?.ino() {
            // Moved away: this one is read to its end, and the new one begins.
            let rest = self.read()?;
            if rest.is_empty() {
                self.file = File::open(&self.path)?;
            }
            return Ok(rest);
        }
        if now.len() < self.file.stream_position()? {
            self.file.seek(SeekFrom::Start(0))?;
        }
        Ok(Vec::new())
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; CHUNK];
        let length = self.file.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn what_grows_is_followed_over_a_move() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        fs::write(&path, "before").unwrap();
        let mut tail = Tail::open(&path).unwrap();
        assert!(tail.grown().unwrap().is_empty());
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert_eq!(tail.grown().unwrap(), b"one");
        file.write_all(b"two").unwrap();
        fs::rename(&path, dir.path().join("console.log.1")).unwrap();
        fs::write(&path, "three").unwrap();
        assert_eq!(tail.grown().unwrap(), b"two");
        assert!(tail.grown().unwrap().is_empty());
        assert_eq!(tail.grown().unwrap(), b"three");
        fs::remove_file(&path).unwrap();
        assert!(tail.grown().is_err());
    }
}
