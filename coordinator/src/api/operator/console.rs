//! The output of a machine, from where it was newest, and on as it grows.

use std::time::{Duration, Instant};

use calvin_model::InstanceId;
use calvin_proto::wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{OperatorParts, answer::shown, error::OperatorError, watch::Answers};
use crate::{identity::Call, provider::ConsoleFollower, runtime::Desk};

/// Bytes where the request names no number.
const BYTES: u64 = 64 * 1024;
/// Most bytes of what was before.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of one message; far below the limit of a reply.
const CHUNK: usize = 64 * 1024;
/// Messages on their way to a slow client; the console is not read further while they wait.
const CHUNKS: usize = 4;
/// Time between two looks at whether the caller may still see it.
const JUDGE_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two looks at a console that has not grown.
const PAUSE: Duration = Duration::from_millis(250);

impl OperatorParts {
    pub(super) async fn console(
        &self,
        request: wire::ConsoleRequest,
        call: Call,
    ) -> Result<Answers<wire::ConsoleChunk>, OperatorError> {
        let id: InstanceId = request.instance.parse().map_err(|error| {
            OperatorError::invalid(format!("instance {:?}: {error}", shown(&request.instance)))
        })?;
        let bytes = match request.bytes {
            0 => BYTES,
            bytes => bytes.min(BYTES_MAX),
        };
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
        let machines = std::sync::Arc::clone(&self.machines);
        let instance = id.clone();
        let follower = tokio::task::spawn_blocking(move || machines.console(&instance, limit));
        let follower = follower.await??;
        let end = if request.follow {
            End::WithTheInstance(self.desk.clone(), id)
        } else {
            End::WhatIsThere
        };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        tokio::spawn(send_all(follower, sender, end, call));
        Ok(Box::pin(ReceiverStream::new(chunks)))
    }
}

/// When there is no more to wait for.
enum End {
    /// When all that is there was read.
    WhatIsThere,
    /// When the instance has no record any more.
    WithTheInstance(Desk, InstanceId),
}

impl End {
    fn reached(&self) -> bool {
        match self {
            Self::WhatIsThere => true,
            Self::WithTheInstance(desk, id) => {
                let view = desk.view();
                let mut fleets = view.fleets.values();
                !fleets.any(|fleet| fleet.instances.contains_key(id))
            }
        }
    }
}

type Sender = mpsc::Sender<Result<wire::ConsoleChunk, tonic::Status>>;

async fn send_all(mut follower: ConsoleFollower, sender: Sender, end: End, call: Call) {
    let mut judged = Instant::now();
    loop {
        if judged.elapsed() >= JUDGE_INTERVAL {
            judged = Instant::now();
            if let Err(status) = call.judge() {
                // Who asked may have gone away; this is the end in any case.
                let _ = sender.send(Err(status)).await;
                return;
            }
        }
        // Looked at before the read: what is written until the end is read too.
        let reached = end.reached();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = follower.read(CHUNK);
            (follower, bytes)
        });
        let Ok((back, bytes)) = read.await else {
            return;
        };
        follower = back;
        match bytes {
            Ok(data) if data.is_empty() && reached => return,
            Ok(data) if data.is_empty() => {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = sender.closed() => return,
                }
            }
            Ok(data) => {
                if sender.send(Ok(wire::ConsoleChunk { data })).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let message = format!("could not read on: {error}");
                // Who asked may have gone away; this is the end in any case.
                let _ = sender.send(Err(tonic::Status::unavailable(message))).await;
                return;
            }
        }
    }
}
