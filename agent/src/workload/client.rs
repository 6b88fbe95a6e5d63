//! The agent's connection to its runner: made again whenever it breaks, with what was not answered
//! asked again, which is harmless because the same order again changes nothing.

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, time::Duration};

use calvin_model::image::StopSignal;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};
use tracing::{debug, warn};

use super::{
    UnitName, WorkloadSpec,
    protocol::{LINE_BYTES_MAX, Message, Order, Request, RunnerState},
};
use crate::local_socket;

/// Orders that wait for the connection. The agent has one thing at a time that it wants.
const ORDERS_MAX: usize = 16;
/// First pause before connecting again. Runner and agent are on one machine.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
/// Longest pause.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The runner says why.
    #[error("the runner refused to {what}: {reason}")]
    Refused {
        /// What was ordered.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The connection's task has ended: the agent is shutting down.
    #[error("the connection to the runner is closed")]
    Closed,
}

/// A handle to the runner. Cheap to clone. Its calls wait for as long as the runner is away; one that
/// is dropped before it was sent never will be.
#[derive(Debug, Clone)]
pub struct Runner {
    orders: mpsc::Sender<Pending>,
    state: watch::Receiver<Option<RunnerState>>,
}

/// The other end of a [`Runner`], to be run as a task.
#[derive(Debug)]
pub struct RunnerConnection {
    path: PathBuf,
    orders: mpsc::Receiver<Pending>,
    state: watch::Sender<Option<RunnerState>>,
    unanswered: Option<(u64, Pending)>,
    last_id: u64,
}

#[derive(Debug)]
struct Pending {
    order: Order,
    answer: oneshot::Sender<Option<String>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("could not connect to it")]
    Connect(#[source] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("the connection failed")]
    Failed(#[source] LinesCodecError),
    #[error("it sent what is no message")]
    Message(#[source] serde_json::Error),
}

/// Whether to go on.
enum Session {
    /// Nobody holds the handle any more.
    Over,
}

impl Runner {
    /// A handle to the runner that listens on `path`, and the connection that the caller runs.
    #[must_use]
    pub fn connect(path: impl Into<PathBuf>) -> (Self, RunnerConnection) {
        let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
        let (state, state_seen) = watch::channel(None);
        let connection = RunnerConnection {
            path: path.into(),
            orders,
            state,
            unanswered: None,
            last_id: 0,
        };
        let runner = Self {
            orders: orders_in,
            state: state_seen,
        };
        (runner, connection)
    }

    /// Wants the workload to run. Returns when the runner has taken that; whether it runs shows in
    /// the state. One that runs already as `spec` says is left alone.
    ///
    /// # Errors
    /// When it runs already in another way.
    pub async fn start(&self, spec: WorkloadSpec) -> Result<(), RunnerError> {
        self.order("start the workload", Order::Start(Box::new(spec)))
            .await
    }

    /// Wants the workload not to run: asks it with `signal`, and kills its process group after
    /// `timeout`. Returns when the runner has taken that.
    ///
    /// # Errors
    /// When the connection's task has ended.
    pub async fn stop(&self, signal: StopSignal, timeout: Duration) -> Result<(), RunnerError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.order("stop the workload", Order::Stop { signal, timeout_ms })
            .await
    }

    /// Lets work that needs a lease run until `until`, as [`crate::clock::boottime`] counts.
    ///
    /// # Errors
    /// When that is further ahead than any lease lasts.
    pub async fn lease(&self, until: Duration) -> Result<(), RunnerError> {
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.order("lease the work", Order::Lease { until_ms })
            .await
    }

    /// Wants the unit of this name to run beside the workload, as [`Self::start`].
    ///
    /// # Errors
    /// When it runs already in another way.
    pub async fn start_unit(&self, name: UnitName, spec: WorkloadSpec) -> Result<(), RunnerError> {
        let spec = Box::new(spec);
        self.order("start a unit", Order::StartUnit { name, spec })
            .await
    }

    /// Wants the unit of this name not to run, as [`Self::stop`].
    ///
    /// # Errors
    /// When the connection's task has ended.
    pub async fn stop_unit(
        &self,
        name: UnitName,
        signal: StopSignal,
        timeout: Duration,
    ) -> Result<(), RunnerError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let order = Order::StopUnit {
            name,
            signal,
            timeout_ms,
        };
        self.order("stop a unit", order).await
    }

    /// Says to a runner that stops its machine that nobody finds the services of that any more.
    ///
    /// # Errors
    /// When the connection's task has ended.
    pub async fn not_found(&self) -> Result<(), RunnerError> {
        self.order("go on with the stop", Order::NotFound).await
    }

    /// Asks for the state, with the newest counts of the output; it comes through [`Self::state`].
    ///
    /// # Errors
    /// When the connection's task has ended.
    pub async fn query(&self) -> Result<(), RunnerError> {
        self.order("show the workload", Order::Query).await
    }

    /// The newest state; `None` while there is no connection.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<Option<RunnerState>> {
        self.state.clone()
    }

    async fn order(&self, what: &'static str, order: Order) -> Result<(), RunnerError> {
        let (answer, answered) = oneshot::channel();
        let pending = Pending { order, answer };
        let sent = self.orders.send(pending).await;
        sent.map_err(|_| RunnerError::Closed)?;
        match answered.await {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(RunnerError::Refused { what, reason }),
            Err(_) => Err(RunnerError::Closed),
        }
    }
}

impl RunnerConnection {
    /// Keeps the connection until every [`Runner`] is dropped.
    pub async fn run(mut self) {
        let mut pause = RECONNECT_MIN;
        loop {
            match self.session(&mut pause).await {
                Ok(Session::Over) => return,
                Err(Broken::Connect(error)) if error.kind() == io::ErrorKind::NotFound => {
                    debug!(path = %self.path.display(), "no runner listens yet");
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(path = %self.path.display(), cause, "runner: {error}");
                }
            }
            self.state.send_replace(None);
            // Dropping every handle ends the wait too.
            let jittered = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            pause = (pause * 2).min(RECONNECT_MAX);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.state.closed() => return,
            }
        }
    }

    async fn session(&mut self, pause: &mut Duration) -> Result<Session, Broken> {
        let stream = local_socket::connect(&self.path).map_err(Broken::Connect)?;
        stream.set_nonblocking(true).map_err(Broken::Connect)?;
        let stream = UnixStream::from_std(stream).map_err(Broken::Connect)?;
        let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
        let mut lines = Framed::new(stream, codec);
        // An order that nobody waits for any more has given way to a newer one.
        self.unanswered
            .take_if(|(_, pending)| pending.answer.is_closed());
        if let Some((id, pending)) = &self.unanswered {
            send(&mut lines, *id, &pending.order).await?;
        }
        loop {
            tokio::select! {
                line = lines.next() => {
                    let line = line.ok_or(Broken::Closed)?.map_err(Broken::Failed)?;
                    let message = serde_json::from_str(&line).map_err(Broken::Message)?;
                    self.take(message);
                    *pause = RECONNECT_MIN;
                }
                order = self.orders.recv(), if self.unanswered.is_none() => {
                    let Some(pending) = order else {
                        return Ok(Session::Over);
                    };
                    if pending.answer.is_closed() {
                        continue;
                    }
                    self.last_id += 1;
                    let id = self.last_id;
                    let (_, pending) = self.unanswered.insert((id, pending));
                    send(&mut lines, id, &pending.order).await?;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::State(state) => {
                self.state.send_replace(Some(*state));
            }
            Message::Answer { id, refused } => {
                let answered = self.unanswered.take_if(|(waiting, _)| *waiting == id);
                if let Some((_, pending)) = answered {
                    // Whoever asked may have stopped waiting.
                    let _ = pending.answer.send(refused);
                }
            }
        }
    }
}

async fn send(
    lines: &mut Framed<UnixStream, LinesCodec>,
    id: u64,
    order: &Order,
) -> Result<(), Broken> {
    let request = Request {
        id,
        order: order.clone(),
    };
    let line = serde_json::to_string(&request).map_err(Broken::Message)?;
    lines.send(line).await.map_err(Broken::Failed)
}
