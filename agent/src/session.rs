//! The session with a coordinator: connects, says hello, brings what the coordinator says to
//! where it is decided, and sends reports. When it ends it begins again, for ever, with pauses
//! that are drawn so that a fleet does not come back as one.

mod stream;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use calvin_model::{
    Digest, Epoch, Generation, Health, Join, NamesSnapshot, Provision, Report, Role,
};
use calvin_proto::{
    convert::{Order, RegistrationOrder, Trust, Welcome},
    transport::{ConnectError, connect, coordinator_dns_name},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

pub use stream::SessionError;

use crate::{fault::chain, identity::Identity, retry::Backoff};

/// Pauses before connecting again, the shortest and the longest.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A session that lasted this long worked: the pauses begin again.
const LASTED: Duration = Duration::from_secs(10);

/// What a session brings, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// A coordinator said welcome.
    Up {
        /// What it said.
        welcome: Welcome,
        /// This machine's wall clock minus the coordinator's.
        clock_offset_ms: i64,
    },
    /// The session ended.
    Down,
    /// The newest wanted state.
    Wanted(Order),
}

/// The highest that the agent has seen and how it works, for its hello.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The highest epoch.
    pub epoch: Option<Epoch>,
    /// The highest generation.
    pub generation: Generation,
    /// The role that is applied.
    pub role: Option<Role>,
    /// The health in it.
    pub health: Health,
}

/// How the session is, for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionStatus {
    /// The coordinator of the live session.
    pub coordinator: Option<SocketAddr>,
    /// Why the last one ended, or none came about.
    pub fault: Option<String>,
}

/// What does not change while the agent runs.
#[derive(Debug)]
pub struct Speaker {
    /// Who the machine is.
    pub provision: Arc<Provision>,
    /// Its boot.
    pub boot: calvin_model::BootId,
    /// Build id baked into the image.
    pub build: Option<String>,
    /// Digest of its `image.toml`.
    pub manifest: Digest,
    /// What it can that not every agent can.
    pub capabilities: Vec<String>,
}

/// Both ends of what a session reads and writes. State goes through `watch`: only the newest
/// counts. What must not be missed, `events`, is bounded and waited for.
#[derive(Debug)]
pub struct Session {
    /// Who speaks.
    pub speaker: Speaker,
    /// Pauses before connecting again: [`PAUSES`].
    pub pauses: (Duration, Duration),
    /// With which identity; a new one is used at once.
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    /// For the hello.
    pub seen: watch::Receiver<Seen>,
    /// The newest report.
    pub reports: watch::Receiver<Option<Report>>,
    /// Each change ends the live session, for the reason given.
    pub refuse: watch::Receiver<Option<String>>,
    /// For the lifecycle.
    pub events: mpsc::Sender<SessionEvent>,
    /// The newest names that came.
    pub names: watch::Sender<Option<Arc<NamesSnapshot>>>,
    /// The newest CA and coordinators that came.
    pub trust: watch::Sender<Option<Trust>>,
    /// How to join the servers of the environment, as it was said last; from disk before that.
    pub join: watch::Sender<Option<Join>>,
    /// How to be registered there, likewise.
    pub registration: watch::Sender<Option<RegistrationOrder>>,
    /// How it goes.
    pub status: watch::Sender<SessionStatus>,
}

/// Why a session ended, or none came about.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("{}", words.as_deref().unwrap_or("no coordinator was reached"))]
    Connect {
        words: Option<String>,
        #[source]
        source: ConnectError,
    },
    #[error("session with {address}")]
    Session {
        address: SocketAddr,
        #[source]
        source: SessionError,
    },
}

impl Session {
    /// Holds sessions until the agent ends.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.pauses.0, self.pauses.1);
        let mut turn = 0;
        loop {
            let Some(identity) = self.newest_identity().await else {
                return;
            };
            let coordinators = identity.coordinators();
            let Some(address) = coordinators.get(turn % coordinators.len().max(1)).copied() else {
                // Refused on the wire and in `provision.toml`.
                return;
            };
            turn += 1;
            let began = Instant::now();
            let ended = self.attempt(&identity, address).await;
            if self.events.send(SessionEvent::Down).await.is_err() {
                return;
            }
            match ended {
                Ok(Renewed) => {
                    info!("begins a session with the new identity");
                    // The same coordinator, at once.
                    turn -= 1;
                    self.tell(None);
                    continue;
                }
                Err(error) => self.tell(Some(chain(&error))),
            }
            if began.elapsed() >= LASTED {
                backoff.reset();
            }
            sleep(backoff.pause(fastrand::f64())).await;
        }
    }

    /// Waits for an identity; `None` when the agent is ending.
    async fn newest_identity(&mut self) -> Option<Arc<Identity>> {
        let identity = self.identity.wait_for(Option::is_some).await.ok()?;
        identity.clone()
    }

    fn tell(&self, fault: Option<String>) {
        self.status.send_if_modified(|status| {
            let new = status.fault != fault;
            if new && let Some(fault) = &fault {
                warn!(%fault, "no session");
            }
            let was_up = status.coordinator.take().is_some();
            status.fault = fault;
            new || was_up
        });
    }

    async fn attempt(
        &mut self,
        identity: &Arc<Identity>,
        address: SocketAddr,
    ) -> Result<Renewed, AttemptError> {
        let name = coordinator_dns_name(&self.speaker.provision.environment);
        let channel = connect(address, &name, identity.tls())
            .await
            .map_err(|source| AttemptError::Connect {
                words: source.explain(),
                source,
            })?;
        self.converse(channel, address, identity)
            .await
            .map_err(|source| AttemptError::Session { address, source })
    }
}

/// A session that ended because there is a new identity.
#[derive(Debug)]
struct Renewed;
