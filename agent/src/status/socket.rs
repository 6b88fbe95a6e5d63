//! The socket's two ends. No request is needed: who connects gets one line. So nothing has to be
//! parsed from whoever may open the socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::UnixListener,
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::StatusView;
use crate::local_socket;

/// Connections at one time: people and their scripts.
const CONNECTIONS_MAX: usize = 8;
/// Time for one of them: the agent answers between two events, and a line is one write.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest line: 64 checks with reasons of below 1 KiB, and the rest.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// Pause after an error of the socket.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Somebody wants the picture.
pub type StatusRequest = oneshot::Sender<StatusView>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No agent listens there.
    #[error("no agent answers on {}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It answered what cannot be understood.
    #[error("the agent's answer on {} cannot be understood", path.display())]
    Answer {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Asks the agent that listens on `path`.
///
/// # Errors
/// Where none does, or it is of another version.
pub fn ask(path: &Path) -> Result<StatusView, StatusError> {
    let read = || -> io::Result<String> {
        let stream = local_socket::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
        Ok(line)
    };
    let line = read().map_err(|source| StatusError::Connect {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&line).map_err(|source| StatusError::Answer {
        path: path.to_owned(),
        source,
    })
}

/// Answers on `path` until it is dropped. Each picture is asked for from `requests`.
pub async fn serve(path: PathBuf, requests: mpsc::Sender<StatusRequest>) {
    let listener = loop {
        match listen(&path) {
            Ok(listener) => break listener,
            Err(error) => {
                warn!(%error, path = %path.display(), "could not listen for status");
                sleep(ANSWER_TIMEOUT).await;
            }
        }
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed: an error cannot come.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    let answer = answer(&mut stream, &requests);
                    if let Ok(Err(error)) = timeout(ANSWER_TIMEOUT, answer).await {
                        debug!(%error, "could not answer");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "could not accept");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = local_socket::bind(path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn answer(
    stream: &mut tokio::net::UnixStream,
    requests: &mpsc::Sender<StatusRequest>,
) -> io::Result<()> {
    let (request, answered) = oneshot::channel();
    let ending = || io::Error::other("the agent is ending");
    requests.send(request).await.map_err(|_| ending())?;
    let view = answered.await.map_err(|_| ending())?;
    let mut line = serde_json::to_vec(&view)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}
