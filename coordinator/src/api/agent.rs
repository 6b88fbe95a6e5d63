//! What agents call: enrolment, and the session that carries what is wanted one way and what is
//! seen the other.
//!
//! [`Agents`] is both ends of it inside the coordinator: the engine's `AgentLink` and the state
//! behind the two services. A session costs two channels and one timer for its certificate's end;
//! a report costs one look-up. What an agent is told is a state of which only the newest counts,
//! so a slow agent holds back nobody and nothing piles up.

mod enrolment;
mod hello;
mod joining;
mod limiter;
mod link;
mod listening;
mod outbound;
mod registry;
mod serve;
mod session;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use calvin_model::Epoch;
use tokio::sync::Semaphore;

pub use serve::{ServeError, serve_agents};

use limiter::Limiter;
use registry::Registry;

use crate::{catalogue::NamesFeed, identity::Identity, images::ImageStore};

/// How often agents report when nothing changes. An observation older than three of these is
/// unknown, so an agent that hangs is noticed in six seconds; 10,000 agents make 5,000 reports a
/// second.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Certificates that are made at one time. Each takes a commit to disk, which come one after the
/// other anyway; this bounds the threads that wait for it.
const ENROLMENTS: usize = 16;

/// Wakes the engine: something that it looks at has changed.
pub type Poke = Arc<dyn Fn() + Send + Sync>;

/// What the agent service is made from.
#[derive(Clone)]
pub struct AgentsOptions {
    /// Who may come in.
    pub identity: Identity,
    /// What machines are made from.
    pub images: ImageStore,
    /// The names to send to every agent.
    pub names: NamesFeed,
    /// How often agents report.
    pub report_interval: Duration,
    /// Wakes the engine.
    pub poke: Poke,
}

impl fmt::Debug for AgentsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentsOptions")
            .field("identity", &self.identity)
            .field("report_interval", &self.report_interval)
            .finish_non_exhaustive()
    }
}

/// The way to the agents. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
}

struct Shared {
    options: AgentsOptions,
    epoch: Mutex<Option<Epoch>>,
    registry: Mutex<Registry>,
    limiter: Limiter,
    enrolments: Semaphore,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents")
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

impl Agents {
    /// Nobody is let in before [`Agents::set_epoch`] and the engine's first `admit`.
    #[must_use]
    pub fn new(options: AgentsOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                epoch: Mutex::default(),
                registry: Mutex::new(Registry::default()),
                limiter: Limiter::default(),
                enrolments: Semaphore::new(ENROLMENTS),
            }),
        }
    }

    /// Says which epoch the engine took. A run has one, unless it recovers: then it takes another,
    /// above all that were seen, before it speaks to anybody.
    pub fn set_epoch(&self, epoch: Epoch) {
        *self.epoch_lock() = Some(epoch);
    }

    fn epoch(&self) -> Option<Epoch> {
        self.epoch_lock().clone()
    }

    fn epoch_lock(&self) -> MutexGuard<'_, Option<Epoch>> {
        // It is replaced whole, so a panic elsewhere cannot have left it half changed.
        let epoch = self.shared.epoch.lock();
        epoch.unwrap_or_else(PoisonError::into_inner)
    }

    /// What a person must look at beyond single identities: agents that have heard of a newer
    /// coordinator. One sentence each.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        self.registry().notices()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Every change leaves the registry whole at each step, so a panic elsewhere cannot have
        // left it half changed.
        self.shared
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> &Identity {
        &self.shared.options.identity
    }

    fn poke(&self) {
        (self.shared.options.poke)();
    }
}
