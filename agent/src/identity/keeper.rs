//! Gets the identity and keeps it good, for as long as the agent runs.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use calvin_model::Provision;
use calvin_proto::{
    convert::Trust,
    transport::{KeyError, signing_request},
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    AskError, Identity, IdentityError, Sealed,
    ask::{self, Granted},
    kept::{Kept, KeptError},
    sealed::SealedError,
};
use crate::{clock::wall_ms, fault::chain, retry::Backoff};

/// Pauses while no coordinator answers. The same as for sessions.
const UNREACHABLE_PAUSES: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(10));
/// Pauses after a refusal: what was refused is refused again until a person did something.
const REFUSED_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A renewal is drawn within this part of its time before it is due, so that instances that were
/// made together do not renew together.
const RENEW_SPREAD: f64 = 0.1;
/// Pause after a certificate that is to be renewed as soon as it was given: this machine's clock is
/// far ahead, for instance. A certificate is good for hours, so that this is often enough.
const DUE_AT_ONCE_PAUSE: Duration = Duration::from_secs(60);
/// Longest wait before a look at the wall clock: a machine that slept must see that it is late.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What the keeper is about, for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeeperStatus {
    /// Why there is no identity yet, or why it could not be renewed.
    pub fault: Option<String>,
    /// A coordinator said no, so that only a person can help.
    pub refused: bool,
}

/// Keeps one machine's identity.
#[derive(Debug)]
pub struct Keeper {
    provision: Arc<Provision>,
    kept: Arc<Kept>,
    status: watch::Sender<KeeperStatus>,
    trust: watch::Receiver<Option<Trust>>,
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("no key could be made")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Kept(#[from] KeptError),
}

/// Why the keeper cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The identity on disk cannot be read.
    #[error("could not read the identity")]
    Sealed(#[from] SealedError),
    /// It is not this machine's.
    #[error("the identity on disk is not this machine's")]
    Identity(#[from] IdentityError),
}

impl Keeper {
    /// Finds what an earlier run sealed in the directory `state`. `trust` brings what sessions
    /// say of CA and coordinators.
    ///
    /// # Errors
    /// Where there is an identity that cannot be used. A new one is not asked for then: the token
    /// is spent, and another key would look like a thief's.
    pub fn open(
        provision: Arc<Provision>,
        state: &Path,
        trust: watch::Receiver<Option<Trust>>,
    ) -> Result<Self, KeeperError> {
        Ok(Self {
            kept: Arc::new(Kept::open(provision.clone(), state)?),
            provision,
            status: watch::Sender::new(KeeperStatus::default()),
            trust,
        })
    }

    /// The identity, once there is one, and each that follows.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.kept.subscribe()
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<KeeperStatus> {
        self.status.subscribe()
    }

    /// Keeps the identity until it is dropped.
    pub async fn run(self) {
        let mut trust = self.trust.clone();
        let mut newest = self.kept.subscribe();
        loop {
            let current = newest.borrow_and_update().clone();
            match current {
                None => self.until_granted(&mut trust).await,
                Some(identity) => self.until_due(&identity, &mut trust, &mut newest).await,
            }
        }
    }

    /// Waits until the identity must be renewed, and renews it; or takes over what sessions say.
    async fn until_due(
        &self,
        identity: &Arc<Identity>,
        trust: &mut watch::Receiver<Option<Trust>>,
        newest: &mut watch::Receiver<Option<Arc<Identity>>>,
    ) {
        let due = identity.due_in();
        if due.is_zero() {
            info!("the certificate is to be renewed");
            return self.until_granted(trust).await;
        }
        let early = due.mul_f64(1.0 - RENEW_SPREAD * fastrand::f64());
        tokio::select! {
            () = sleep(early.min(LOOK_AGAIN)) => {
                // Within its spread it is due now; else this was only a look at the clock.
                if early <= LOOK_AGAIN {
                    self.until_granted(trust).await;
                }
            }
            () = self.other_trust(trust) => {}
            // What was still being kept when its waiting was given up.
            () = another(newest, identity) => {}
        }
    }

    /// Waits until sessions have said something new of CA and coordinators, and it is kept.
    async fn other_trust(&self, trust: &mut watch::Receiver<Option<Trust>>) {
        while trust.changed().await.is_ok() {
            // Not taken before its turn: this may be given up while it waits for that.
            trust.mark_changed();
            let turn = self.kept.turn().await;
            let Some(newest) = trust.borrow_and_update().clone() else {
                continue;
            };
            let take = |kept: &Kept| kept.take_trust(newest);
            if self.kept.change_in(turn, take).await {
                return;
            }
        }
        // The sessions ended: so does the agent.
        std::future::pending().await
    }

    /// Asks until there is a certificate. What sessions say meanwhile of CA and coordinators may
    /// be what the asking waits for, so with it the asking begins anew.
    async fn until_granted(&self, trust: &mut watch::Receiver<Option<Trust>>) {
        loop {
            let old = self.kept.identity();
            tokio::select! {
                () = self.ask_in_turn(old.as_ref()) => return self.rest(trust).await,
                // An answer that is on its way is lost by this, and asked for again with its key.
                () = self.other_trust(trust) => {}
            }
        }
    }

    /// Waits, if what was just given is to be renewed at once.
    async fn rest(&self, trust: &mut watch::Receiver<Option<Trust>>) {
        let newest = self.kept.identity();
        if newest.is_none_or(|identity| !identity.due_in().is_zero()) {
            return;
        }
        warn!("the new certificate has ended or is to be renewed at once: is the clock right?");
        tokio::select! {
            () = sleep(DUE_AT_ONCE_PAUSE) => {}
            () = self.other_trust(trust) => {}
        }
    }

    /// Asks every coordinator in turn until one gives a certificate.
    async fn ask_in_turn(&self, old: Option<&Arc<Identity>>) {
        let mut unreachable = Backoff::new(UNREACHABLE_PAUSES.0, UNREACHABLE_PAUSES.1);
        let mut refused = Backoff::new(REFUSED_PAUSES.0, REFUSED_PAUSES.1);
        let coordinators = match old {
            Some(identity) => identity.coordinators(),
            None => &self.provision.coordinators,
        };
        for address in coordinators.iter().cycle() {
            match self.attempt(old, *address, coordinators).await {
                Ok(()) => {
                    self.status.send_replace(KeeperStatus::default());
                    return;
                }
                Err(error) => {
                    let refusal = match &error {
                        AttemptError::Ask(error) => error.is_refusal(),
                        AttemptError::Key(_) | AttemptError::Kept(_) => false,
                    };
                    self.tell(chain(&error), refusal);
                    let backoff = if refusal {
                        &mut refused
                    } else {
                        &mut unreachable
                    };
                    sleep(backoff.pause(fastrand::f64())).await;
                }
            }
        }
    }

    fn tell(&self, fault: String, refused: bool) {
        let status = KeeperStatus {
            fault: Some(fault),
            refused,
        };
        // The same again and again is one line in the log.
        self.status.send_if_modified(|known| {
            let new = *known != status;
            if new {
                warn!(fault = status.fault, refused, "no certificate");
                *known = status;
            }
            new
        });
    }

    async fn attempt(
        &self,
        old: Option<&Arc<Identity>>,
        address: SocketAddr,
        coordinators: &[SocketAddr],
    ) -> Result<(), AttemptError> {
        let used = old.map(|identity| identity.sealed.key_pem.clone());
        let key = move |kept: &Kept| kept.key_to_ask_with(used.as_deref());
        let key_pem = self.kept.change(key).await?;
        let csr = signing_request(&key_pem)?;
        let granted = match old {
            Some(identity) => ask::renew(&self.provision, address, identity.tls(), csr).await?,
            None => ask::enrol(&self.provision, address, csr).await?,
        };
        let sealed = seal(granted, key_pem, coordinators);
        let asked_as = old.cloned();
        let adopt = move |kept: &Kept| kept.adopt(asked_as.as_ref(), sealed);
        self.kept.change(adopt).await?;
        info!(%address, renewed = old.is_some(), "has an identity");
        Ok(())
    }
}

/// Waits until there is another identity than `known`.
async fn another(newest: &mut watch::Receiver<Option<Arc<Identity>>>, known: &Arc<Identity>) {
    let is_other = |newest: &Option<Arc<Identity>>| {
        newest
            .as_ref()
            .is_some_and(|newest| !Arc::ptr_eq(newest, known))
    };
    // It cannot end before the keeper.
    drop(newest.wait_for(is_other).await);
}

fn seal(granted: Granted, key_pem: String, coordinators: &[SocketAddr]) -> Sealed {
    let renew_after_ms = u64::try_from(granted.renew_after.as_millis()).unwrap_or(u64::MAX);
    Sealed {
        format: Sealed::format(),
        key_pem,
        certificate_pem: granted.certificate_pem,
        ca_pem: granted.ca_pem,
        coordinators: coordinators.to_vec(),
        renew_after_ms,
        renew_at_ms: wall_ms().saturating_add(renew_after_ms),
    }
}
