//! `calvin-agent run`: reads what the machine is, starts every subsystem as a task, and lets the
//! lifecycle decide. It ends on SIGTERM and SIGINT without touching the workload.

mod actor;
mod assemble;
mod catalogue;
mod events;
mod names;
mod stop;
mod tasks;
#[cfg(test)]
mod tests;

use std::{io, path::Path, time::Duration};

use calvin_lifecycle::RecordError;
use calvin_model::id::IdError;
use rustix::fs::{FlockOperation, flock};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::{Instrument as _, info, info_span};

use crate::{
    disk::{self, DiskError},
    dns::ZoneError,
    identity::KeeperError,
    init::DnsSockets,
    provision::{ProvisionError, Provisioned},
    workload::SpecError,
};

/// Threads for what would hold up the loop and the answers to names: the writers of record, names,
/// identity, join, registration and the Consul client's configuration, the building of names, and the
/// look at the connections. Each does one thing at a time, so that a disk that hangs holds up none but
/// its own.
const BLOCKING_THREADS: usize = 8;
/// Such a thread ends after this: on a quiet machine there is none.
const BLOCKING_KEPT: Duration = Duration::from_secs(1);
/// Time for the names to get on disk on shutdown, and once more for a write that has begun: together
/// a fifth of what the runner gives. Names that do not get there are older after the start; all else
/// is on disk before it counts.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What the machine is cannot be learned.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The workload cannot be started as the image says.
    #[error("the image's workload cannot be started")]
    Workload(#[from] SpecError),
    /// Its state cannot be read.
    #[error("could not read the agent's state")]
    Disk(#[from] DiskError),
    /// Its state is of a newer version.
    #[error("the agent's state cannot be used")]
    Record(#[from] RecordError),
    /// Its identity cannot be read.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The environment's domain is none.
    #[error("the domain of provision.toml cannot be served")]
    Domain(#[from] ZoneError),
    /// The machine's boot is not known.
    #[error("the boot id cannot be used")]
    Boot(#[from] IdError),
    /// Another agent has the machine.
    #[error("another agent runs in {directory}")]
    Running {
        /// The state directory.
        directory: String,
    },
    /// The system refused something basic.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of the agent ended, which none may. The runner starts the agent again.
    #[error("the task {name} ended by itself")]
    Ended {
        /// Which.
        name: &'static str,
    },
}

/// Runs the agent of the machine in the directory `root` until it is told to end.
///
/// # Errors
/// Where it cannot begin, or a part of it failed.
pub fn run(root: &Path) -> Result<(), RunError> {
    // First: these descriptors are known by their numbers only.
    let sockets = DnsSockets::inherited();
    let machine = Provisioned::load(root)?;
    disk::make_private_dir(&machine.files.state())?;
    disk::make_private_dir(&machine.files.run())?;
    let _lock = lock(&machine)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEPT)
        .build()
        .map_err(system("start the runtime"))?;
    let span = info_span!("agent", instance = %machine.provision.instance);
    let result = runtime.block_on(live(machine, sockets).instrument(span));
    runtime.shutdown_timeout(SHUTDOWN);
    result
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Two agents on one state would undo each other's refusals.
fn lock(machine: &Provisioned) -> Result<std::fs::File, RunError> {
    let state = machine.files.state();
    let file = std::fs::File::open(&state).map_err(system("open the state directory"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RunError::Running {
            directory: state.display().to_string(),
        }),
        Err(error) => Err(system("lock the state directory")(error.into())),
    }
}

async fn live(
    machine: Provisioned,
    sockets: io::Result<Option<DnsSockets>>,
) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for SIGINT"))?;
    let (mut actor, inbox, mut parts) = assemble::assemble(machine, sockets)?;
    let result = tokio::select! {
        result = actor.run(inbox) => result,
        ended = parts.one_ended() => Err(RunError::Ended {
            // Without a name it panicked; the message is in the log.
            name: ended.unwrap_or("of a subsystem"),
        }),
        _ = terminate.recv() => {
            info!("ends on SIGTERM; the workload goes on");
            Ok(())
        }
        _ = interrupt.recv() => {
            info!("ends on SIGINT; the workload goes on");
            Ok(())
        }
    };
    parts.end(SHUTDOWN).await;
    result
}
