//! The Consul client of the machine as a unit of its runner: configured, started, and started again
//! where its configuration needs that.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc, time::Duration};

use calvin_model::{HumanDuration, WorkloadState, image::StopSignal};
use tokio::{sync::watch, time::timeout};
use tracing::info;

use super::{
    Machine,
    configuration::{self, Configuration},
};
use crate::{
    disk::DiskError,
    workload::{Runner, RunnerError, RunnerState, UnitName, WorkloadSpec, protocol, resolve},
};

/// The program where the image names none.
const PROGRAM: &str = "consul";
/// In its environment: what it was started with, so that another configuration is another unit.
const START_VARIABLE: &str = "CALVIN_CONSUL_START";
/// Time for the runner to take an order. It is on the same machine.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the client to leave the datacenter; Consul itself gives up after 15 s.
const STOP_TIMEOUT: HumanDuration = HumanDuration::from_secs(20);
/// Pauses before one that ended is started again. Names are answered from memory meanwhile.
const RESTART: (HumanDuration, HumanDuration) = (
    HumanDuration::from_millis(500),
    HumanDuration::from_secs(10),
);

/// Why the client cannot be had running.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnitError {
    /// Its configuration could not be written.
    #[error("could not configure the Consul client")]
    Write(#[from] DiskError),
    /// The runner did not take the order.
    #[error("the runner does not start the Consul client")]
    Runner(#[from] RunnerError),
    /// The runner is away.
    #[error("the runner, which starts the Consul client, does not answer")]
    NoRunner,
}

/// The unit.
#[derive(Debug)]
pub(super) struct Unit {
    machine: Arc<Machine>,
    runner: Runner,
    state: watch::Receiver<Option<RunnerState>>,
    name: UnitName,
    /// The configuration that is on disk.
    written: Option<String>,
    /// What it was told to run with.
    ordered: Option<String>,
}

impl Unit {
    /// The unit of this runner. Nothing is ordered yet.
    pub(super) fn new(machine: Arc<Machine>, runner: Runner) -> Self {
        Self {
            machine,
            state: runner.state(),
            runner,
            name: UnitName::consul(),
            written: None,
            ordered: None,
        }
    }

    /// Has it run with this configuration. What only needs to be read anew is not told here.
    pub(super) async fn ensure(&mut self, configuration: &Configuration) -> Result<(), UnitError> {
        if self.written.as_ref() != Some(&configuration.hash) {
            let write = configuration.clone();
            self.on_disk(move |_| write.write()).await?;
            self.written = Some(configuration.hash.clone());
        }
        let hash = &configuration.start_hash;
        let state = self.state.borrow().clone().ok_or(UnitError::NoRunner)?;
        let unit = state.units.get(&self.name);
        let wanted = unit.is_some_and(|unit| match unit.state {
            WorkloadState::Starting | WorkloadState::Running | WorkloadState::Backoff => true,
            WorkloadState::NotWanted | WorkloadState::Stopping | WorkloadState::Stopped => false,
        });
        if wanted && self.ordered.as_ref() == Some(hash) {
            return Ok(());
        }
        if unit.is_none() {
            self.on_disk(forget_states).await?;
        }
        self.start(hash).await?;
        self.ordered = Some(hash.clone());
        Ok(())
    }

    /// Does something in the client's directory, on a thread of its own: a disk that hangs must hold
    /// up nothing else.
    async fn on_disk(
        &self,
        work: impl FnOnce(&Path) -> Result<(), DiskError> + Send + 'static,
    ) -> Result<(), DiskError> {
        let directory = configuration::directory(&self.machine.files.state());
        let path = directory.clone();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        done.unwrap_or_else(|error| {
            let source = io::Error::other(error);
            Err(DiskError::Write { path, source })
        })
    }

    async fn start(&self, hash: &str) -> Result<(), UnitError> {
        let start = || async {
            let order = self.runner.start_unit(self.name.clone(), self.spec(hash));
            let taken = timeout(ORDER_TIMEOUT, order).await;
            taken
                .map_err(|_| UnitError::NoRunner)?
                .map_err(UnitError::from)
        };
        match start().await {
            Err(UnitError::Runner(RunnerError::Refused { reason, .. }))
                if reason == protocol::RUNS_OTHERWISE =>
            {
                info!("starts the Consul client again, with another configuration");
                // It does not leave the datacenter for that, and is found in it meanwhile.
                self.stop(StopSignal::Int).await?;
                start().await
            }
            done => done,
        }
    }

    /// Has it not run any more: it leaves the datacenter. Says whether it has ended.
    pub(super) async fn leave(&mut self) -> Result<bool, UnitError> {
        self.ordered = None;
        let state = self.state.borrow().clone().ok_or(UnitError::NoRunner)?;
        let Some(unit) = state.units.get(&self.name) else {
            return Ok(true);
        };
        match unit.state {
            WorkloadState::Stopped | WorkloadState::NotWanted => return Ok(true),
            WorkloadState::Stopping => {}
            WorkloadState::Starting | WorkloadState::Running | WorkloadState::Backoff => {
                self.stop(StopSignal::Term).await?;
            }
        }
        Ok(false)
    }

    async fn stop(&self, signal: StopSignal) -> Result<(), UnitError> {
        let order = self
            .runner
            .stop_unit(self.name.clone(), signal, STOP_TIMEOUT.0);
        let taken = timeout(ORDER_TIMEOUT, order).await;
        Ok(taken.map_err(|_| UnitError::NoRunner)??)
    }

    fn spec(&self, hash: &str) -> WorkloadSpec {
        let machine = &self.machine;
        let image = machine.files.image();
        let directory = configuration::directory(&machine.files.state());
        let spec = machine.manifest.consul.as_ref();
        let program = spec.and_then(|spec| spec.program.as_deref());
        let added = BTreeMap::from([(START_VARIABLE.to_owned(), hash.to_owned())]);
        let environment = machine.variables.environment(&added).into_iter();
        let file = configuration::file(&directory);
        WorkloadSpec {
            program: resolve(program.unwrap_or(PROGRAM), &image),
            arguments: vec![
                "agent".to_owned(),
                "-config-file".to_owned(),
                file.display().to_string(),
            ],
            // What is not text is none of its business.
            env: environment
                .filter_map(|(name, value)| Some((name, value.into_string().ok()?)))
                .collect(),
            directory: image,
            stop_signal: StopSignal::Term,
            stop_timeout: STOP_TIMEOUT,
            restart_min: RESTART.0,
            restart_max: RESTART.1,
            needs_lease: false,
        }
    }

    /// How often it was started in this boot.
    pub(super) fn starts(&self) -> u64 {
        let state = self.state.borrow();
        let unit = state.as_ref().and_then(|state| state.units.get(&self.name));
        unit.map_or(0, |unit| unit.starts)
    }

    /// Why it does not run, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.state.borrow();
        let unit = state.as_ref()?.units.get(&self.name)?;
        if unit.state == WorkloadState::Running {
            return None;
        }
        if let Some(fault) = &unit.fault {
            return Some(format!("{fault}; see [consul] in image.toml"));
        }
        let end = unit.last_end?;
        Some(format!(
            "the Consul client ended with {end} and is started again; its output is in {}.log",
            self.name
        ))
    }

    /// Waits until it was started once more than `starts` times.
    pub(super) async fn started(&self, starts: u64) {
        let mut state = self.state.clone();
        let name = &self.name;
        let again = |state: &Option<RunnerState>| {
            let unit = state.as_ref().and_then(|state| state.units.get(name));
            unit.is_some_and(|unit| unit.starts != starts)
        };
        let started = state.wait_for(again).await.is_ok();
        if !started {
            // The connection to the runner has ended, and the agent is ending.
            std::future::pending::<()>().await;
        }
    }
}

/// Before its first start in a boot: it keeps what was last said of the agent's own check, and that
/// was about another boot. All others begin critical by themselves.
fn forget_states(directory: &Path) -> Result<(), DiskError> {
    let path = configuration::data_directory(directory).join("checks/state");
    match fs::remove_dir_all(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DiskError::Write { path, source }),
    }
}
