//! Consul as the catalogue: machines join it and register there, and the coordinator changes the role
//! tags of whole fleets.
//!
//! - [`decide`](decide): what is to change for one fleet, and how clients find it now. Pure.
//! - [`port`](port): the engine's side, which never waits.
//! - [`switch`](switch): carries it out, with what [`watches`](watches) read and [`books`](books) keep.
//! - [`names`](names): what is asked for, and how. Pure.
//! - [`owners`](owners): whose an entry is. Pure.
//! - [`reading`](reading): how new what was read is. Pure.
//! - [`lock`](lock): one coordinator for each datacenter. Without it nothing is written.
//! - [`join`](join): a token for each machine, and what it needs to join.
//! - [`locks`](locks): who holds the lock of each exclusive fleet, and what that proves. Pure.
//! - [`holds`](holds): why nothing may be decided now. Pure.
//! - [`faults`](faults): what else cannot be done now, in words for people.
//!
//! What is written to the catalogue begins with a check of the lock's session, in the same transaction.
//! Tokens and policies know no transactions: there the lock is looked at before each.

mod access;
mod books;
mod census;
mod decide;
mod error;
mod ever;
mod faults;
mod ghosts;
mod holds;
mod join;
mod lock;
mod locks;
mod names;
mod owners;
mod port;
mod reading;
mod rounds;
mod shared;
mod switch;
mod tokens;
mod watches;

use std::{fmt, path::PathBuf, sync::Arc};

use calvin_consul::{Prefix, exclusive::locks_prefix};
use calvin_engine::View;
use calvin_model::EnvironmentName;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use census::Machines;
pub use error::ConsulError;
pub use port::ConsulCatalogue;

use access::{Access, Told};
use join::{Acl, Common, Joiner, Progress};
use lock::{Holder, LockKeeper, RENEWAL};
use rounds::Rounds;
use shared::Shared;
use switch::{Switcher, SwitcherParts};

use super::NamesPublisher;
use crate::{config::ConsulConfig, identity::Identity, images::ImageStore};

/// What it is begun with.
pub struct ConsulOptions {
    /// `[consul]` of `calvin.toml`.
    pub config: ConsulConfig,
    /// The environment, and so the datacenter.
    pub environment: EnvironmentName,
    /// The domain of its DNS.
    pub domain: String,
    /// The data directory.
    pub data: PathBuf,
    /// Where agents reach this coordinator, for who finds the lock taken.
    pub address: String,
    /// Wakes the engine.
    pub poke: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for ConsulOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulOptions")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The coordinator's other parts that it works with.
#[derive(Debug)]
pub struct ConsulParts {
    /// The engine's pictures.
    pub views: watch::Receiver<Arc<View>>,
    /// The agents.
    pub machines: Arc<dyn Machines>,
    /// What machines are made from.
    pub images: ImageStore,
    /// What tokens are derived from.
    pub identity: Identity,
}

/// Consul, once the environment's lock was taken or could not be asked for.
#[derive(Debug)]
pub struct Consul {
    access: Access,
    lock: LockKeeper,
    shared: Shared,
    /// What the keys of the locks of exclusive fleets begin with.
    locks: Prefix,
    common: Common,
}

impl Consul {
    /// Reads the files, looks whether it is the environment's datacenter, and takes its lock. Where
    /// Consul cannot be asked, that is done later, and nothing is decided before.
    ///
    /// # Errors
    /// What is configured cannot be used, the datacenter is another one's, or another coordinator has
    /// the lock and does not lose it.
    pub async fn begin(options: ConsulOptions) -> Result<Self, ConsulError> {
        let access = Access::open(options.config)?;
        let shared = Shared::new(options.poke);
        // All keys of an environment are below one prefix.
        let keys: Prefix = format!("calvin/{}/", options.environment).parse()?;
        let locks = locks_prefix(&options.environment).parse()?;
        let mut lock = LockKeeper::new(
            &options.environment,
            keys.key("coordinator")?,
            &options.data,
            Holder::this(options.address),
            shared.clone(),
        );
        lock.begin(&access).await?;
        let common = Common {
            environment: options.environment,
            domain: options.domain,
            servers: access.config().servers.clone(),
            acl: if access.config().token_file.is_some() {
                Acl::Tokens
            } else {
                Acl::Nothing
            },
        };
        Ok(Self {
            access,
            lock,
            shared,
            locks,
            common,
        })
    }

    /// The engine's side. No snapshot of names is ever published, and agents wait for the first one: an
    /// end of `names` would tell them that the coordinator goes down.
    #[must_use]
    pub fn catalogue(&self, names: NamesPublisher) -> ConsulCatalogue {
        ConsulCatalogue {
            shared: self.shared.clone(),
            _names: names,
        }
    }

    /// Works until it is told to stop, and gives the lock back then.
    ///
    /// # Errors
    /// The datacenter turned out to be another one's, or another coordinator to have the lock that this run
    /// never had.
    pub async fn run(
        mut self,
        parts: ConsulParts,
        stopping: CancellationToken,
    ) -> Result<(), ConsulError> {
        let (tell, told) = watch::channel(self.access.told());
        let client = self.access.client().clone();
        let switcher = Switcher::new(SwitcherParts {
            client: client.clone(),
            shared: self.shared.clone(),
            machines: Arc::clone(&parts.machines),
            images: parts.images.clone(),
            rounds: Rounds::new(parts.views.clone()),
            environment: self.common.environment.clone(),
            locks: self.locks.clone(),
        });
        let joiner = Joiner {
            client: client.clone(),
            shared: self.shared.clone(),
            machines: parts.machines,
            images: parts.images,
            identity: parts.identity,
            rounds: Rounds::new(parts.views.clone()),
            told,
            common: self.common.clone(),
            progress: Progress::default(),
        };
        let ended = tokio::select! {
            () = stopping.cancelled() => Ok(()),
            ended = keep(&mut self.access, &mut self.lock, &parts.views, &tell) => ended,
            // They end only with the engine, and then everything does.
            () = joiner.run() => { stopping.cancelled().await; Ok(()) }
            () = switcher.run() => { stopping.cancelled().await; Ok(()) }
        };
        self.lock.give_back(&client).await;
        ended
    }
}

/// Looks after the lock and the files.
async fn keep(
    access: &mut Access,
    lock: &mut LockKeeper,
    views: &watch::Receiver<Arc<View>>,
    tell: &watch::Sender<Told>,
) -> Result<(), ConsulError> {
    let mut next = Instant::now();
    let mut wrong = None;
    loop {
        sleep_until(next).await;
        match access.refresh() {
            Ok(()) => wrong = None,
            Err(error) => {
                let text = calvin_engine::chain(&error);
                if wrong.as_ref() != Some(&text) {
                    tracing::error!(error = %text, "what was read from the files for Consul before goes on being used");
                    wrong = Some(text);
                }
            }
        }
        let told = access.told();
        tell.send_if_modified(|before| {
            let changed = *before != told;
            *before = told;
            changed
        });
        lock.speaks(views.borrow().epoch.number);
        let began = Instant::now();
        let pause = lock.keep(access.client()).await?;
        next = began + pause.min(RENEWAL);
    }
}
