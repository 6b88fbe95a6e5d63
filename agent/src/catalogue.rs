//! The instance in Consul: has the machine's Consul client run and configured, registers services and
//! checks with it, and says how that is.
//!
//! Deciding is pure (`plan`); here is one task, whose every turn reads what there is, does what is
//! needed, and reads it back. A turn comes with each change of what it rests on, every few seconds
//! while something is not as it should be, and once a minute otherwise. That minute is one request
//! for the services and one for the checks. Between two turns one more request waits: the client ends
//! it when it loses the registration, and when it ends itself, so that a client that comes back empty
//! is found within a second. Together that is three requests a minute.

mod configuration;
mod entry;
mod joined;
mod kept;
mod lock;
mod names;
mod own;
mod plan;
mod sync;
mod trouble;
mod unit;

use std::{future::pending, net::IpAddr, sync::Arc, time::Duration};

use calvin_consul::{Client, Settings, Token};
use calvin_model::{BootId, ConsulJoin, ConsulReport, ImageManifest, Join, Provision, Secret};
use calvin_proto::{convert::RegistrationOrder, machine::MachineFiles};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

pub use kept::{Keep, KeptError, channel, keep, load};
pub use lock::{Keeper, KeeperEnds, KeptSession, LockSeen};
pub use names::first_target;
pub use own::{Own, OwnCheck, OwnWord, Presence};

use self::{
    configuration::Configuration,
    joined::{Joined, Whose},
    plan::Step,
    sync::Sync,
    trouble::Trouble,
    unit::Unit,
};
use crate::{
    disk,
    dns::Target,
    fault::chain,
    retry::Backoff,
    workload::{Runner, Variables},
};

/// Time between two turns while all is as it should be; a tenth of it is drawn.
const QUIET: Duration = Duration::from_secs(60);
/// Pauses between two turns while something is not, the shortest and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Longest time for one request: the client is on the same machine, and its servers are near.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest file with the recovery token: a UUID.
const RECOVERY_BYTES_MAX: u64 = 64;

/// What does not change while the agent runs.
#[derive(Debug)]
pub struct Machine {
    /// Where its files lie.
    pub files: MachineFiles,
    /// Who it is.
    pub provision: Arc<Provision>,
    /// What it is.
    pub manifest: ImageManifest,
    /// What its commands may know.
    pub variables: Variables,
    /// Its own address.
    pub address: IpAddr,
    /// The loopback address of its DNS.
    pub loopback: IpAddr,
    /// Its boot.
    pub boot: BootId,
}

/// What the catalogue hears and tells.
#[derive(Debug)]
pub struct Ends {
    /// How to join, as it was said last.
    pub join: watch::Receiver<Option<Join>>,
    /// How to be registered, likewise.
    pub registration: watch::Receiver<Option<RegistrationOrder>>,
    /// What the agent knows itself.
    pub own: watch::Receiver<Option<Own>>,
    /// How it is registered; nothing where it joins no Consul.
    pub report: watch::Sender<Option<ConsulReport>>,
    /// Where names come from.
    pub forward: watch::Sender<Target>,
}

impl Ends {
    /// Whether nothing of the instance works any more, for good.
    fn is_gone(&self) -> bool {
        let own = self.own.borrow();
        own.as_ref()
            .is_some_and(|own| own.presence == Presence::Gone)
    }
}

/// The task.
#[derive(Debug)]
pub struct Catalogue {
    machine: Arc<Machine>,
    ends: Ends,
    unit: Unit,
    joined: Option<Joined>,
    /// The token with which the agent has its own client read its configuration.
    recovery: Option<Secret>,
    backoff: Backoff,
}

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There is nothing to do until something else is said.
    Nothing,
    /// All is as it should be.
    InStep,
    /// Not yet.
    OutOfStep,
}

impl Machine {
    /// Where its Consul client answers.
    fn client_address(&self) -> String {
        let spec = self.manifest.consul.as_ref();
        let given = spec.and_then(|spec| spec.address.clone());
        given.unwrap_or_else(|| configuration::http_address(self.loopback))
    }
}

impl Catalogue {
    /// The task of a machine; nothing is done yet.
    #[must_use]
    pub fn new(machine: Arc<Machine>, runner: Runner, ends: Ends) -> Self {
        Self {
            unit: Unit::new(machine.clone(), runner),
            machine,
            ends,
            joined: None,
            recovery: None,
            backoff: Backoff::new(PAUSES.0, PAUSES.1),
        }
    }

    /// Runs until the agent ends.
    pub async fn run(mut self) {
        loop {
            let turn = match self.turn().await {
                Ok(turn) => turn,
                Err(trouble) => {
                    self.tell(|report| report.fault = Some(chain(&trouble)));
                    Turn::OutOfStep
                }
            };
            if self.wait(turn).await.is_none() {
                return;
            }
        }
    }

    /// Changes the report, and says in the log what is new of its fault.
    fn tell(&self, change: impl FnOnce(&mut ConsulReport)) {
        self.ends.report.send_if_modified(|known| {
            let mut report = known.clone().unwrap_or_default();
            change(&mut report);
            let before = known.as_ref().and_then(|known| known.fault.as_ref());
            match (&report.fault, before) {
                (Some(fault), before) if before != Some(fault) => {
                    warn!(fault, "not registered as it should be");
                }
                (None, Some(_)) => info!("nothing is wrong with the registration any more"),
                (Some(_) | None, _) => {}
            }
            let changed = known.as_ref() != Some(&report);
            *known = Some(report);
            changed
        });
    }

    async fn turn(&mut self) -> Result<Turn, Trouble> {
        // Before anything was said, and where what was kept cannot be read, nothing is known. A client that
        // runs goes on: to stop it would take an instance that serves out of the catalogue.
        let Some(said) = self.ends.join.borrow_and_update().clone() else {
            return Ok(Turn::Nothing);
        };
        let Some(join) = said.consul.filter(|_| self.machine.manifest.joins_consul()) else {
            self.ends.names_come_from(Target::Snapshots);
            return self.leave().await;
        };
        let given = self.given()?;
        let is_gone = self.ends.is_gone();
        // A client of somebody else's stays, and has to forget the instance.
        if is_gone && given.is_none() {
            self.ends.names_come_from(Target::Memory);
            return self.leave().await;
        }
        if *self.ends.forward.borrow() == Target::Snapshots {
            self.ends.names_come_from(Target::Memory);
        }
        let environment = self.machine.provision.environment.as_str();
        if join.datacenter.as_str() != environment {
            return Err(Trouble::Environment {
                found: join.datacenter.as_str().to_owned(),
                wanted: environment.to_owned(),
            });
        }
        let configuration = match given {
            Some(_) => None,
            None => match self.run_client(&join).await {
                Ok(configuration) => Some(configuration),
                Err(error) => {
                    self.ask_for_names_only(&join).await;
                    return Err(error);
                }
            },
        };
        self.connect(&join, given.as_deref())?;
        let error = match self.ask(configuration.as_ref()).await {
            Ok(Turn::InStep) if is_gone => return self.leave().await,
            Ok(turn) => return Ok(turn),
            Err(error) => error,
        };
        self.ends.distrust(&error);
        if let Some(joined) = &mut self.joined {
            joined.node = None;
            if error.is_alone() {
                joined.find_servers().await;
            }
        }
        if given.is_some() || !error.is_away() {
            return Err(error);
        }
        Err(match self.unit.trouble() {
            Some(trouble) => Trouble::NotRunning(trouble),
            None => Trouble::Silent(Box::new(error)),
        })
    }

    /// The address of the client that somebody else runs, if somebody does.
    fn given(&self) -> Result<Option<String>, Trouble> {
        let spec = self.machine.manifest.consul.as_ref();
        let Some(address) = spec.and_then(|spec| spec.address.clone()) else {
            return Ok(None);
        };
        match address.parse::<calvin_consul::Address>() {
            Ok(_) => Ok(Some(address)),
            Err(source) => Err(Trouble::Address { address, source }),
        }
    }

    /// No Consul is joined, or not any more: that is said when the client has left.
    async fn leave(&mut self) -> Result<Turn, Trouble> {
        self.joined = None;
        if !self.unit.leave().await? {
            return Ok(Turn::OutOfStep);
        }
        self.ends
            .report
            .send_if_modified(|known| known.take().is_some());
        Ok(Turn::Nothing)
    }

    /// Has the machine's own client run.
    async fn run_client(&mut self, join: &ConsulJoin) -> Result<Configuration, Trouble> {
        let recovery = self.recovery().await?;
        let machine = &self.machine;
        let state = machine.files.state();
        let configuration = configuration::Wanted {
            join,
            provision: &machine.provision,
            address: machine.address,
            loopback: machine.loopback,
            directory: &configuration::directory(&state),
            recovery: &recovery,
        }
        .configuration();
        self.unit.ensure(&configuration).await?;
        Ok(configuration)
    }

    /// Makes the clients that ask, or gives them what is new.
    fn connect(&mut self, join: &ConsulJoin, given: Option<&str>) -> Result<(), Trouble> {
        let token = join
            .token
            .as_ref()
            .map(|token| token.expose().parse::<Token>());
        let token = token.transpose()?;
        if let Some(joined) = &mut self.joined {
            if joined.join != *join {
                if joined.join.token != join.token {
                    joined.sync.set_token(token);
                }
                joined.join = join.clone();
                // It may be another one, or have to read its configuration.
                joined.node = None;
            }
            return Ok(());
        }
        let address = self.machine.client_address();
        let settings = Settings {
            address: address.parse()?,
            timeout: REQUEST_TIMEOUT,
            tls: None,
            token,
        };
        let admin = match &self.recovery {
            Some(recovery) if given.is_none() => Some(Client::new(Settings {
                token: Some(recovery.expose().parse()?),
                ..settings.clone()
            })?),
            Some(_) | None => None,
        };
        info!(address, "joins Consul");
        let sync = Sync::new(self.machine.clone(), Client::new(settings)?);
        self.joined = Some(Joined::new(join.clone(), sync, admin));
        Ok(())
    }

    /// Asks the client, and brings the registration to what is wanted.
    async fn ask(&mut self, configuration: Option<&Configuration>) -> Result<Turn, Trouble> {
        let starts = self.unit.starts();
        let Some(joined) = &mut self.joined else {
            return Ok(Turn::Nothing);
        };
        if joined.node.is_none() || joined.starts != starts {
            joined.starts = starts;
            let whose = configuration.map_or(Whose::Given, |_| Whose::Own);
            let found = joined.recognise(whose).await?;
            // Its names are the right ones, whatever it has read.
            let dns = self.machine.client_dns();
            self.ends.names_come_from(Target::Client(dns));
            if let Some(configuration) = configuration {
                joined.configure(&found, configuration).await?;
            }
            joined.node = Some(found.node_name);
        }
        let order = self.ends.registration.borrow_and_update().clone();
        let own = self.ends.own.borrow_and_update().clone();
        let (Some(order), Some(own), Some(node)) = (order, own, &joined.node) else {
            self.tell(|report| report.fault = None);
            return Ok(Turn::Nothing);
        };
        let synced = joined.sync.turn(node, order.registration, &own).await?;
        let fault = synced.missing.map(|id| chain(&Trouble::Missing { id }));
        self.tell(|report| {
            report.registered = Some(synced.registered);
            report.fault = fault;
        });
        Ok(match synced.step {
            Step::In => Turn::InStep,
            Step::Out => Turn::OutOfStep,
        })
    }

    /// Waits until there is a reason for another turn; `None` when the agent ends.
    async fn wait(&mut self, turn: Turn) -> Option<()> {
        let pause = match turn {
            Turn::OutOfStep => self.backoff.pause(fastrand::f64()),
            Turn::InStep | Turn::Nothing => {
                self.backoff.reset();
                QUIET.mul_f64(1.0 - fastrand::f64() / 10.0)
            }
        };
        let deadline = Instant::now() + pause;
        let Self {
            ends, joined, unit, ..
        } = self;
        let wanted = ends
            .registration
            .borrow()
            .as_ref()
            .map(|order| order.registration);
        let starts = joined.as_ref().map(|joined| joined.starts);
        loop {
            let own = ends.own.borrow().clone();
            let started = async {
                match starts {
                    Some(starts) => unit.started(starts).await,
                    None => pending().await,
                }
            };
            let quiet = async {
                let left = deadline.saturating_duration_since(Instant::now());
                match (turn, joined.as_mut(), wanted, &own) {
                    (Turn::InStep, Some(joined), Some(wanted), Some(own)) => {
                        let role = own.role(wanted.role);
                        joined.sync.changed(role, left).await;
                    }
                    (Turn::Nothing, None, ..) => pending().await,
                    (Turn::InStep | Turn::OutOfStep | Turn::Nothing, ..) => sleep(left).await,
                }
            };
            tokio::select! {
                changed = ends.join.changed() => return changed.ok(),
                changed = ends.registration.changed() => return changed.ok(),
                changed = ends.own.changed() => changed.ok()?,
                () = started => return Some(()),
                () = quiet => return Some(()),
            }
            if ends.is_gone() && joined.is_some() {
                return Some(());
            }
            let own = ends.own.borrow().clone();
            let concerns = match (turn, joined.as_ref(), wanted, own) {
                (Turn::InStep, Some(joined), Some(wanted), Some(own)) => {
                    joined.sync.concerns(wanted, &own)
                }
                (Turn::InStep | Turn::OutOfStep | Turn::Nothing, ..) => true,
            };
            if concerns {
                return Some(());
            }
        }
    }

    /// The token with which the agent has its own client read its configuration: made once, and known
    /// to nobody else.
    async fn recovery(&mut self) -> Result<Secret, Trouble> {
        if let Some(recovery) = &self.recovery {
            return Ok(recovery.clone());
        }
        let directory = configuration::directory(&self.machine.files.state());
        let path = directory.join("recovery");
        let named = path.clone();
        let read = move || -> Result<String, disk::DiskError> {
            disk::make_private_dir(&directory)?;
            let known = disk::read_bounded(&path, RECOVERY_BYTES_MAX)?;
            if let Some(known) = known.and_then(|bytes| String::from_utf8(bytes).ok())
                && !known.is_empty()
            {
                return Ok(known);
            }
            let made = uuid::Uuid::new_v4().to_string();
            disk::write_private(&path, made.as_bytes())?;
            Ok(made)
        };
        let text = tokio::task::spawn_blocking(read).await.map_err(|error| {
            let source = std::io::Error::other(error);
            disk::DiskError::Write {
                path: named,
                source,
            }
        })??;
        Ok(self.recovery.insert(Secret::new(text)).clone())
    }
}
