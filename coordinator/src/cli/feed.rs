//! A stream of states that outlives a coordinator's restart: when the coordinator goes away it is
//! asked again, until it is back or has been away too long. Ctrl-C and `--timeout` end the
//! watching, never what is watched.

use std::{error::Error as _, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until, timeout},
};
use tonic::{Code, Response, Status, Streaming};

use super::{
    caller::{CALL_LIMIT, refusal},
    exit::Exit,
    failure::Failure,
};

/// How long a coordinator may be away before the watching is given up: a restart with a large
/// store takes seconds, a reboot of its machine about a minute.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// Pause between two attempts to reach it again. 1,000 watchers are 2,000 attempts a second for a
/// coordinator that starts: refused connections cost nothing, accepted ones end the repeating.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long one such attempt may take: meanwhile nobody is told for how long it is away.
const RETRY_LIMIT: Duration = Duration::from_secs(3);

/// How often a live view is drawn again when nothing comes: its spans count in seconds.
const TICK: Duration = Duration::from_secs(1);

/// What came next.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// A new state.
    Item(T),
    /// Nothing, for a moment: time to draw the spans anew.
    Tick,
    /// The coordinator does not answer, for so long already.
    Away(Duration),
    /// The coordinator ended the stream.
    Ended,
    /// Ctrl-C.
    Interrupted,
    /// `--timeout` passed.
    TimedOut,
}

/// The stream and what ends it.
pub(crate) struct Feed<T, F> {
    tried: String,
    open: F,
    stream: Option<Streaming<T>>,
    interrupt: Signal,
    deadline: Option<Instant>,
    away_since: Option<Instant>,
}

impl<T, F> Feed<T, F>
where
    F: AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
{
    /// A feed that `open` begins, and begins again after an interruption; `tried` says what is not
    /// done if it cannot.
    pub(crate) fn new(tried: &str, limit: Option<Duration>, open: F) -> Result<Self, Failure> {
        let interrupt = signal(SignalKind::interrupt()).map_err(|error| {
            Failure::new(Exit::Failed, "could not wait for Ctrl-C").because(error)
        })?;
        Ok(Self {
            tried: tried.to_owned(),
            open,
            stream: None,
            interrupt,
            deadline: limit.map(|limit| Instant::now() + limit),
            away_since: None,
        })
    }

    /// Waits for what comes next.
    pub(crate) async fn next(&mut self) -> Result<Step<T>, Failure> {
        let deadline = self.deadline;
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Ok(Step::Interrupted),
            () = over => Ok(Step::TimedOut),
            step = advance(&mut self.stream, &mut self.open, self.away_since) => {
                match step {
                    Ok(Step::Item(item)) => {
                        self.away_since = None;
                        Ok(Step::Item(item))
                    }
                    Ok(step) => Ok(step),
                    Err(status) if !is_away(&status) => Err(refusal(&self.tried, &status)),
                    Err(status) => self.away(&status),
                }
            }
        }
    }

    fn away(&mut self, status: &Status) -> Result<Step<T>, Failure> {
        self.stream = None;
        let since = *self.away_since.get_or_insert_with(Instant::now);
        if since.elapsed() > AWAY_MAX {
            return Err(
                Failure::new(Exit::CouldNotAsk, self.tried.clone()).reason(format!(
                    "the coordinator is away for {AWAY_MAX:?}: {}",
                    status.message()
                )),
            );
        }
        Ok(Step::Away(since.elapsed()))
    }
}

async fn advance<T, F>(
    stream: &mut Option<Streaming<T>>,
    open: &mut F,
    away_since: Option<Instant>,
) -> Result<Step<T>, Status>
where
    F: AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
{
    let opened = match stream {
        Some(stream) => stream,
        None => {
            let mut limit = CALL_LIMIT;
            if away_since.is_some() {
                tokio::time::sleep(RETRY_PAUSE).await;
                limit = RETRY_LIMIT;
            }
            let reply = timeout(limit, open())
                .await
                .map_err(|_| Status::unavailable("no answer"))??;
            stream.insert(reply.into_inner())
        }
    };
    match timeout(TICK, opened.message()).await {
        Err(_) => Ok(Step::Tick),
        Ok(Ok(Some(item))) => Ok(Step::Item(item)),
        Ok(Ok(None)) => {
            *stream = None;
            Ok(Step::Ended)
        }
        Ok(Err(status)) => Err(status),
    }
}

/// Whether the coordinator went away, rather than answered no. A status that the coordinator sent
/// has no source; one that the transport made has.
fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Internal => status.source().is_some(),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
