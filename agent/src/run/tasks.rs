//! The small tasks between the loop and the world: each waits for the newest of one thing, and
//! does it.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use calvin_lifecycle::AgentRecord;
use calvin_model::Connections;
use calvin_proto::machine::MachineFiles;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::{
    disk::{self, DiskError},
    dns,
    fault::chain,
    init::DnsSockets,
    workload::{Command, Commands, Runner, RunnerError, WorkloadSpec, protocol::RUNS_OTHERWISE},
};

/// Time between two looks at the connections: often enough for a coordinator that waits for the
/// last to go, and in between below a thousandth of a core.
const LOOK_DRAINING: Duration = Duration::from_millis(250);
const LOOK_IDLE: Duration = Duration::from_secs(2);
/// Pause before what failed for the system's sake is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

/// How often connections are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nobody waits for them.
    Idle,
    /// Somebody waits for the last to go.
    Draining,
}

/// Starts a task that must never end, in a span of its name.
pub(super) fn spawn(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    let named = async move {
        task.await;
        name
    };
    tasks.spawn(named.instrument(info_span!("task", name)))
}

/// Where the lifecycle's record lies.
pub(super) fn record_path(files: &MachineFiles) -> PathBuf {
    files.state().join("agent.json")
}

/// Writes the newest record and says which is on disk. The lifecycle asks again for one that
/// could not be written.
pub(super) async fn write_records(
    path: PathBuf,
    mut records: watch::Receiver<Option<AgentRecord>>,
    committed: mpsc::Sender<u64>,
) {
    while records.changed().await.is_ok() {
        let Some(record) = records.borrow_and_update().clone() else {
            continue;
        };
        let revision = record.revision;
        let path = path.clone();
        let write = tokio::task::spawn_blocking(move || -> Result<(), DiskError> {
            let content = serde_json::to_vec(&record).map_err(|source| DiskError::Content {
                path: path.clone(),
                source,
            })?;
            disk::write_private(&path, &content)
        });
        match write.await {
            Ok(Ok(())) => {
                if committed.send(revision).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => error!(error = chain(&error), revision, "could not commit"),
            Err(error) => error!(%error, revision, "could not commit"),
        }
    }
}

/// Tells the runner the newest commands; what waits for a runner that is away gives way to a newer. A
/// command is given before the lease that may start it: what ran before has another fence.
pub(super) async fn give_orders(
    runner: Runner,
    spec: Option<WorkloadSpec>,
    mut commands: watch::Receiver<Commands>,
) {
    let (mut given, mut leased) = (None, None);
    while commands.changed().await.is_ok() {
        let newest = *commands.borrow_and_update();
        let Some(spec) = &spec else {
            continue;
        };
        let give = async {
            let command = newest.command.map(|command| (command, newest.again));
            if command != given {
                // One that is broken off may have been taken, and what follows it must be told.
                given = None;
                if let Some((command, _)) = command {
                    info!(?command, "workload");
                    if let Err(error) = order(&runner, spec, command).await {
                        error!(error = chain(&error), ?command, "the runner does not obey");
                    }
                }
                given = command;
            }
            if let Some(until) = newest.lease
                && newest.lease != leased
            {
                if let Err(error) = runner.lease(until).await {
                    error!(error = chain(&error), "the runner takes no lease");
                }
                leased = newest.lease;
            }
        };
        tokio::select! {
            () = give => {}
            newer = wait_for_newer(&mut commands) => if newer.is_err() {
                return;
            },
        }
    }
}

async fn order(runner: &Runner, spec: &WorkloadSpec, command: Command) -> Result<(), RunnerError> {
    match command {
        Command::Start { fence } => match runner.start(spec.fenced(fence)).await {
            Err(RunnerError::Refused { reason, .. })
                if fence.is_some() && reason == RUNS_OTHERWISE =>
            {
                // It has the fence of a lock that was lost.
                runner.stop(spec.stop_signal, Duration::ZERO).await?;
                runner.start(spec.fenced(fence)).await
            }
            done => done,
        },
        Command::Stop => runner.stop(spec.stop_signal, spec.stop_timeout.0).await,
        Command::Kill => runner.stop(spec.stop_signal, Duration::ZERO).await,
    }
}

/// Waits for a change without taking it.
pub(super) async fn wait_for_newer<T>(
    newest: &mut watch::Receiver<T>,
) -> Result<(), watch::error::RecvError> {
    newest.changed().await?;
    newest.mark_changed();
    Ok(())
}

/// Looks at the connections, more often while somebody waits for the last to go. A look may read
/// every socket of the machine, which takes 50 ms for 28,000: on a thread of its own.
pub(super) async fn count_connections(
    look: impl Fn() -> Option<Connections> + Clone + Send + 'static,
    mut pace: watch::Receiver<Pace>,
    seen: watch::Sender<Option<Option<Connections>>>,
) {
    loop {
        let found = tokio::task::spawn_blocking(look.clone()).await;
        // One that panicked saw nothing.
        seen.send_replace(Some(found.unwrap_or_default()));
        let pause = match *pace.borrow_and_update() {
            Pace::Idle => LOOK_IDLE,
            Pace::Draining => LOOK_DRAINING,
        };
        if let Ok(Err(_)) = timeout(pause, pace.changed()).await {
            return;
        }
    }
}

/// Answers names on the sockets that were handed over, or on its own.
pub(super) async fn answer_names(
    sources: dns::Sources,
    handed: io::Result<Option<DnsSockets>>,
    address: SocketAddr,
    fault: watch::Sender<Option<String>>,
) {
    let mut handed = handed.unwrap_or_else(|error| {
        warn!(%error, "could not use the sockets that were handed over");
        None
    });
    loop {
        let sockets = match handed.take() {
            Some(sockets) => Ok(sockets),
            None => DnsSockets::bind(address),
        };
        match sockets.and_then(|sockets| dns::serve(&sources, sockets)) {
            Ok(_server) => {
                fault.send_replace(None);
                // It answers until it is dropped.
                return std::future::pending().await;
            }
            Err(error) => {
                let words = format!("could not listen on {address}: {error}");
                warn!(fault = words, "names are not answered");
                fault.send_replace(Some(words));
                sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
