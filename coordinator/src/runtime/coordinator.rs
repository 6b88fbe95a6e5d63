//! What runs of a coordinator: its servers and tasks, and how they end together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use calvin_model::FleetName;
use calvin_planner::Command;
use calvin_proto::{
    limits,
    transport::{HandshakeRefused, incoming, server_builder, services::operator_server},
};
use tokio::{net::TcpListener, net::UnixListener, task::JoinSet, time::timeout};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    desk::Desk,
    engine::{EngineEnd, Running},
    error::ServeError,
    health,
    listen::Listeners,
    machines::{self, AtEnd},
    serve::MACHINES,
};
use crate::{
    api::{
        agent::{Agents, serve_agents},
        operator::OperatorService,
    },
    identity::{Identity, Refusal},
    store::DataDirectory,
};

/// Time for every part to end; what has not is dropped. Longer than the agents' listener gives its
/// connections, which are 3 s.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that runs.
pub(super) struct Coordinator {
    engine: Running,
    tasks: JoinSet<Result<(), ServeError>>,
    stopping: CancellationToken,
    /// Dropped last. Another coordinator may take the directory when nobody has the store open any
    /// more.
    directory: DataDirectory,
}

impl Coordinator {
    pub(super) fn new(engine: Running, directory: DataDirectory) -> Self {
        Self {
            engine,
            tasks: JoinSet::new(),
            stopping: CancellationToken::new(),
            directory,
        }
    }

    /// Runs `task` until it ends by itself or the coordinator does.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), ServeError>> + Send + 'static,
    ) {
        let stopping = self.stopping.clone();
        let until_stopped = async move {
            tokio::select! {
                ended = task => ended,
                () = stopping.cancelled() => Ok(()),
            }
        };
        let span = tracing::info_span!("task", name);
        self.tasks.spawn(until_stopped.instrument(span));
    }

    /// Runs `task`, which ends by itself when it is told that the coordinator does.
    pub(super) fn spawn_ending<F>(
        &mut self,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), ServeError>> + Send + 'static,
    {
        let task = task(self.stopping.clone());
        let span = tracing::info_span!("task", name);
        self.tasks.spawn(task.instrument(span));
    }

    /// Serves agents, operators and health. Each server ends its connections itself when the
    /// coordinator stops.
    pub(super) fn serve(
        &mut self,
        listeners: Listeners,
        operators: OperatorService,
        agents: Agents,
        identity: &Identity,
    ) {
        let stopping = self.stopping.clone().cancelled_owned();
        let serving = async { Ok(serve_agents(listeners.agents, agents, stopping).await?) };
        self.tasks
            .spawn(serving.instrument(tracing::info_span!("agents")));

        let stopping = self.stopping.clone().cancelled_owned();
        let serving = serve_socket(
            listeners.socket,
            listeners.socket_path,
            operators.clone(),
            stopping,
        );
        self.tasks
            .spawn(serving.instrument(tracing::info_span!("operators", over = "socket")));

        if let Some(listener) = listeners.operators {
            let stopping = self.stopping.clone().cancelled_owned();
            let serving = serve_operators(listener, operators, identity.clone(), stopping);
            self.tasks
                .spawn(serving.instrument(tracing::info_span!("operators", over = "tls")));
        }
        if let Some(listener) = listeners.http {
            let router = health::router(self.engine.desk.clone());
            let stopping = self.stopping.clone().cancelled_owned();
            let serving = async move {
                axum::serve(listener, router)
                    .with_graceful_shutdown(stopping)
                    .await
                    .map_err(ServeError::Health)
            };
            self.tasks
                .spawn(serving.instrument(tracing::info_span!("health")));
        }
    }

    /// Goes on until `shutdown` comes or a part ends by itself; then ends every part, and what
    /// else is to end.
    pub(super) async fn until(
        mut self,
        shutdown: impl Future<Output = ()>,
        at_end: AtEnd,
    ) -> Result<(), ServeError> {
        let mut engine_ended = None;
        let end = tokio::select! {
            () = shutdown => {
                tracing::info!(?at_end, "told to end");
                Ok(())
            }
            ended = &mut self.engine.ended => {
                engine_ended = Some(());
                Err(why_engine(ended.ok()))
            }
            Some(ended) = self.tasks.join_next() => Err(why_task(ended)),
        };
        match at_end {
            AtEnd::MachinesEnd if end.is_ok() => make_again(&self.engine.desk).await,
            AtEnd::MachinesEnd | AtEnd::MachinesGoOn => {}
        }
        self.stopping.cancel();
        self.engine.stop();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            if engine_ended.is_none() {
                // An error says that the thread is gone, which is what is waited for.
                let _ = (&mut self.engine.ended).await;
            }
        };
        if timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!(
                "not every part ended in time: a disk may hang; what was committed is safe, and the data directory stays taken until this process is gone"
            );
        }
        drop(self.tasks);
        match at_end {
            AtEnd::MachinesGoOn => {}
            AtEnd::MachinesEnd => end_machines(self.directory.path().join(MACHINES)).await,
        }
        tracing::info!(data = %self.directory.path().display(), "ended");
        end
    }
}

/// Lets the next run make fleets again whose machines this one ends: that all of them are lost at
/// once says nothing about anything else. The decision clock stands still in between.
async fn make_again(desk: &Desk) {
    let fleets: Vec<FleetName> = desk.view().fleets.keys().cloned().collect();
    let said = async {
        for fleet in fleets {
            let order = Command::ResumeRepairs {
                fleet,
                reason: "their coordinator ends its machines with it".to_owned(),
            };
            if let Err(error) = desk.order(order, "serve").await {
                tracing::warn!(%error, "at the next start this may be needed: calvin repair resume FLEET");
            }
        }
    };
    if timeout(END_TIMEOUT, said).await.is_err() {
        tracing::warn!(
            "the store hangs; at the next start this may be needed: calvin repair resume FLEET"
        );
    }
}

async fn end_machines(directory: PathBuf) {
    let ended = tokio::task::spawn_blocking(move || machines::end_all(&directory));
    if ended.await.is_err() {
        tracing::error!("not every machine was ended, by a fault of ours");
    }
}

fn why_engine(ended: Option<EngineEnd>) -> ServeError {
    match ended {
        Some(EngineEnd::ForGood(reason)) => ServeError::EngineStopped { reason },
        // Nobody told it to stop yet, so it can only have panicked.
        Some(EngineEnd::Stopped) | None => ServeError::Panicked { what: "the engine" },
    }
}

fn why_task(ended: Result<Result<(), ServeError>, tokio::task::JoinError>) -> ServeError {
    match ended {
        Ok(Err(error)) => error,
        // No task ends by itself before it is told to.
        Ok(Ok(())) | Err(_) => ServeError::Panicked { what: "a server" },
    }
}

async fn serve_socket(
    listener: UnixListener,
    path: PathBuf,
    operators: OperatorService,
    stopping: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let served = server_builder(limits::OPERATOR_STREAMS)
        .add_service(operator_server(operators))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopping)
        .await;
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::debug!(%error, "the operators' socket was gone already");
    }
    served.map_err(ServeError::Operators)
}

async fn serve_operators(
    listener: TcpListener,
    operators: OperatorService,
    identity: Identity,
    stopping: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let tls = identity.tls();
    let audit = Arc::new(move |refused: HandshakeRefused| {
        let HandshakeRefused { address, reason } = refused;
        let refusal = Refusal::Handshake { reason };
        let from = address.to_string();
        let audit = identity.audit();
        audit.refused(identity.now(), "nobody", &from, &refusal);
    });
    server_builder(limits::OPERATOR_STREAMS)
        .add_service(operator_server(operators))
        .serve_with_incoming_shutdown(incoming(listener, tls, audit), stopping)
        .await
        .map_err(ServeError::Operators)
}
