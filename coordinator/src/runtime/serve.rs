//! One coordinator, from its start to its end.
//!
//! Everything is opened before the engine takes an epoch, so that a coordinator that cannot start
//! changes nothing. At the end machines and agents go on; the next run finds them again. A kill at
//! any moment is the same as an end, but for the goodbyes. Only an environment to try things in
//! takes its machines with it.

use std::{
    collections::BTreeMap,
    env, io,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use calvin_engine::{Engine, PortSet, ports};
use calvin_model::RunId;
use tokio::{net::TcpListener, time::interval};

#[cfg(feature = "crash-points")]
use super::crash_points::CrashPoints;
use super::{
    clock::SystemClock,
    coordinator::Coordinator,
    desk::Poke,
    engine::EngineThread,
    error::ServeError,
    first_boot::Provisioner,
    listen::{Listeners, address},
    machines::AtEnd,
    signals::survive_file_limits,
};
use crate::{
    api::{
        agent::{Agents, AgentsOptions},
        operator::{DiskLooks, OperatorParts, OperatorService, PROCESS},
    },
    catalogue::{
        Consul, ConsulOptions, ConsulParts, EmbeddedCatalogue, EpochNumber, NamesPublisher,
    },
    config::ServeConfig,
    identity::{Identity, IdentityOptions, TOKEN_LIFE},
    images::ImageStore,
    observe::{Prober, prober},
    provider::{ProcessOptions, ProcessProvider},
    store::{self, Copies, DataDirectory, Database, FleetStore, History},
};

/// Between two looks at certificates and CAs. They live for days, but after the clock was set back
/// nobody comes in until the next look; one that finds nothing to do costs microseconds.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);

/// Where in the data directory the process provider keeps its machines.
pub(super) const MACHINES: &str = "machines";

/// Where a coordinator that is ready is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The environment.
    pub environment: String,
    /// The epoch of this run.
    pub epoch: u64,
    /// Agents.
    pub agents: SocketAddr,
    /// Operators with a certificate.
    pub operators: Option<SocketAddr>,
    /// Health.
    pub http: Option<SocketAddr>,
    /// Operators on this machine.
    pub socket: PathBuf,
}

/// Runs a coordinator until `shutdown` comes. `ready` is called once, when everybody is served;
/// `copies` says what becomes of a store that is a copy, `at_end` what of the machines.
///
/// # Errors
/// It could not start, or cannot go on.
pub async fn run(
    config: ServeConfig,
    copies: Copies,
    at_end: AtEnd,
    ready: impl FnOnce(&Ready),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    survive_file_limits()?;
    let (directory, database) = store::open(&config.data, copies)?;
    run_in(directory, database, config, at_end, ready, shutdown).await
}

/// As `run`, in a data directory that was taken before.
pub(super) async fn run_in(
    directory: DataDirectory,
    database: Arc<Database>,
    config: ServeConfig,
    at_end: AtEnd,
    ready: impl FnOnce(&Ready),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let config = Arc::new(config);
    let listeners = Listeners::bind(&config, &directory).await?;
    let mut parts = Parts::open(&config, &directory, &database, &listeners)?;
    let mut shutdown = pin!(shutdown);
    let poke = on_news(parts.thread.poke());
    parts.consul = tokio::select! {
        begun = begin_consul(&config, &directory, &listeners, poke) => begun?,
        // Another coordinator's lock may be waited for.
        () = &mut shutdown => return Ok(()),
    };
    let (coordinator, reached) = parts.start(config, directory, database, listeners)?;
    tracing::info!(?reached, "ready");
    ready(&reached);
    coordinator.until(shutdown, at_end).await
}

/// Everything that is there before the engine.
struct Parts {
    identity: Identity,
    images: ImageStore,
    provider: ProcessProvider,
    agents: Agents,
    names: NamesPublisher,
    /// Where that is the catalogue.
    consul: Option<Consul>,
    thread: EngineThread,
    #[cfg(feature = "crash-points")]
    crash_points: CrashPoints,
}

impl Parts {
    fn open(
        config: &ServeConfig,
        directory: &DataDirectory,
        database: &Arc<Database>,
        listeners: &Listeners,
    ) -> Result<Self, ServeError> {
        let bound = address("the agents' listener", &listeners.agents)?;
        let identity = Identity::open(
            IdentityOptions {
                environment: config.environment.clone(),
                data: directory.path().to_owned(),
                coordinators: config.advertised(bound),
                certificate_life: config.certificate_validity.0,
                token_life: TOKEN_LIFE,
            },
            Arc::clone(database),
            Arc::new(SystemTime::now),
        )?;
        let images = ImageStore::open(Arc::clone(database))?;
        let thread = EngineThread::default();
        let options = ProcessOptions {
            environment: config.environment.clone(),
            machines: directory.path().join(MACHINES),
            network: config.provider.process.network,
            agent: agent_program(config)?,
            locks: None,
        };
        let first_boot = Provisioner {
            identity: identity.clone(),
            domain: config.domain.clone(),
        };
        #[cfg(feature = "crash-points")]
        let crash_points = CrashPoints::from_environment();
        #[cfg(feature = "crash-points")]
        let first_boot = crash_points.around_first_boot(first_boot);
        #[cfg(not(feature = "crash-points"))]
        let first_boot = Arc::new(first_boot);
        let provider = ProcessProvider::open(
            options,
            Arc::new(images.clone()),
            first_boot,
            on_news(thread.poke()),
        )?;
        let names = NamesPublisher::default();
        let agents = Agents::new(AgentsOptions {
            identity: identity.clone(),
            images: images.clone(),
            names: names.feed(),
            report_interval: config.report_interval.0,
            poke: on_news(thread.poke()),
        });
        Ok(Self {
            identity,
            images,
            provider,
            agents,
            names,
            consul: None,
            thread,
            #[cfg(feature = "crash-points")]
            crash_points,
        })
    }

    /// Takes an epoch, and serves everybody.
    fn start(
        mut self,
        config: Arc<ServeConfig>,
        directory: DataDirectory,
        database: Arc<Database>,
        listeners: Listeners,
    ) -> Result<(Coordinator, Ready), ServeError> {
        let (epoch_number, prober, ports) = self.ports(&config, &database);
        let engine = Engine::start(ports, run_id()?, fastrand::u64(..))?;
        epoch_number.set(engine.epoch().number);
        self.agents.set_epoch(engine.epoch().clone());
        let ready = ready(&config, engine.epoch().number, &listeners)?;
        let engine = self.thread.start(engine)?;
        let consul = self.consul.take().map(|consul| {
            let parts = ConsulParts {
                views: engine.desk.views(),
                machines: Arc::new(self.agents.clone()),
                images: self.images.clone(),
                identity: self.identity.clone(),
            };
            (consul, parts)
        });
        let operators = OperatorService::new(OperatorParts {
            config,
            desk: engine.desk.clone(),
            agents: self.agents.clone(),
            identity: self.identity.clone(),
            images: self.images,
            machines: Arc::new(self.provider),
            history: History::new(Arc::clone(&database)),
            database,
            store: directory.store(),
            disk_looks: DiskLooks::default(),
            operator_address: ready.operators,
        });
        let mut coordinator = Coordinator::new(engine, directory);
        coordinator.serve(listeners, operators, self.agents, &self.identity);
        coordinator.spawn("prober", prober_task(prober));
        coordinator.spawn("maintenance", maintain(self.identity));
        if let Some((consul, parts)) = consul {
            coordinator.spawn_ending("consul", |stopping| async move {
                Ok(consul.run(parts, stopping).await?)
            });
        }
        Ok((coordinator, ready))
    }

    /// The engine's ports, what tells the catalogue its epoch, and what probes.
    fn ports(
        &self,
        config: &ServeConfig,
        database: &Arc<Database>,
    ) -> (EpochNumber, Prober, PortSet) {
        let epoch = EpochNumber::default();
        let (probe, prober) = prober(on_news(self.thread.poke()));
        let catalogue: Box<dyn ports::Catalogue + Send> = match &self.consul {
            Some(consul) => Box::new(consul.catalogue(self.names.clone())),
            None => Box::new(EmbeddedCatalogue::new(
                &config.domain,
                config.catalogue.ttl.0,
                epoch.clone(),
                Box::new(self.agents.clone()),
                self.names.clone(),
            )),
        };
        let provider: Box<dyn ports::Provider + Send> = Box::new(self.provider.clone());
        let ports = PortSet {
            clock: Box::new(SystemClock::default()),
            rules: config.rules(),
            store: Box::new(FleetStore::new(Arc::clone(database))),
            providers: BTreeMap::from([(PROCESS.to_owned(), provider)]),
            catalogue,
            agents: Box::new(self.agents.clone()),
            probe: Box::new(probe),
            images: Box::new(self.images.clone()),
        };
        #[cfg(feature = "crash-points")]
        let ports = self.crash_points.around(ports);
        (epoch, prober, ports)
    }
}

/// Takes the environment's lock in Consul, where that is the catalogue.
async fn begin_consul(
    config: &ServeConfig,
    directory: &DataDirectory,
    listeners: &Listeners,
    poke: Arc<dyn Fn() + Send + Sync>,
) -> Result<Option<Consul>, ServeError> {
    let Some(consul) = &config.consul else {
        return Ok(None);
    };
    let bound = address("the agents' listener", &listeners.agents)?;
    let advertised = config.advertised(bound);
    let begun = Consul::begin(ConsulOptions {
        config: consul.clone(),
        environment: config.environment.clone(),
        domain: config.domain.clone(),
        data: directory.path().to_owned(),
        address: advertised.first().unwrap_or(&bound).to_string(),
        poke,
    });
    Ok(Some(begun.await?))
}

fn on_news(poke: Poke) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || poke.poke())
}

fn run_id() -> Result<RunId, ServeError> {
    let id = uuid::Uuid::new_v4().to_string();
    id.parse().map_err(|error| ServeError::System {
        what: "a random run id",
        source: io::Error::other(error),
    })
}

fn ready(config: &ServeConfig, epoch: u64, listeners: &Listeners) -> Result<Ready, ServeError> {
    let bound = |what, listener: &Option<TcpListener>| {
        let listener = listener.as_ref();
        listener.map(|listener| address(what, listener)).transpose()
    };
    Ok(Ready {
        environment: config.environment.to_string(),
        epoch,
        agents: address("the agents' listener", &listeners.agents)?,
        operators: bound("the operators' listener", &listeners.operators)?,
        http: bound("the health listener", &listeners.http)?,
        socket: listeners.socket_path.clone(),
    })
}

/// The agent's program: the one named, or the one beside this program.
fn agent_program(config: &ServeConfig) -> Result<PathBuf, ServeError> {
    let path = match &config.provider.process.agent {
        Some(path) => path.clone(),
        None => env::current_exe()
            .map_err(ServeError::OwnPath)?
            .with_file_name("calvin-agent"),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(ServeError::NoAgent { path })
    }
}

async fn prober_task(prober: Prober) -> Result<(), ServeError> {
    prober.run().await;
    Ok(())
}

/// Renews the coordinator's certificate and forgets CAs that nothing rests on.
async fn maintain(identity: Identity) -> Result<(), ServeError> {
    let mut due = interval(MAINTENANCE_INTERVAL);
    loop {
        due.tick().await;
        let identity = identity.clone();
        match tokio::task::spawn_blocking(move || identity.maintain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "certificates could not be maintained; tried again later"
                );
            }
            Err(_) => {
                return Err(ServeError::Panicked {
                    what: "maintenance",
                });
            }
        }
    }
}
