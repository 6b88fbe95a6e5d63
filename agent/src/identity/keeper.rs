//! Gets the identity and keeps it good, for as long as the agent runs.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use calvin_model::Provision;
use calvin_proto::{
    convert::Trust,
    transport::{KeyError, TlsError, Trusted, new_key, signing_request},
};
use tokio::{sync::watch, task::JoinError, time::sleep};
use tracing::{info, warn};

use super::{
    AskError, Identity, IdentityError, Sealed, SealedStore,
    ask::{self, Granted},
    sealed::SealedError,
};
use crate::{clock::wall_ms, disk::DiskError, fault::chain, retry::Backoff};

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
/// Renewals after a change of the CA are spread over this time.
const CA_SPREAD: Duration = Duration::from_secs(20);

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
    /// One thing at a time: what was given up meanwhile still goes on to its end.
    store: Arc<Mutex<SealedStore>>,
    identity: watch::Sender<Option<Arc<Identity>>>,
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
    #[error("the answer could not be kept")]
    Disk(#[from] DiskError),
    #[error("keeping the answer failed in an unexpected way")]
    Lost(#[from] JoinError),
    #[error("what the coordinator gave is not this machine's")]
    Identity(#[from] IdentityError),
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
        let store = SealedStore::new(state);
        let identity = match store.load()? {
            Some(sealed) => Some(Arc::new(Identity::new(sealed, &provision)?)),
            None => None,
        };
        Ok(Self {
            provision,
            store: Arc::new(Mutex::new(store)),
            identity: watch::Sender::new(identity),
            status: watch::Sender::new(KeeperStatus::default()),
            trust,
        })
    }

    /// The identity, once there is one, and each that follows.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.identity.subscribe()
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<KeeperStatus> {
        self.status.subscribe()
    }

    /// Keeps the identity until it is dropped.
    pub async fn run(self) {
        let mut trust = self.trust.clone();
        loop {
            let current = self.identity.borrow().clone();
            match current {
                None => self.until_granted(&mut trust).await,
                Some(identity) => self.until_due(&identity, &mut trust).await,
            }
        }
    }

    /// Waits until the identity must be renewed, and renews it; or takes over what sessions say.
    async fn until_due(&self, identity: &Identity, trust: &mut watch::Receiver<Option<Trust>>) {
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
            said = said(trust) => {
                self.take_trust(said).await;
            }
        }
    }

    /// Keeps what a coordinator says of CA and coordinators; whether it was anything new. A
    /// changed CA means a certificate that the new one signed.
    async fn take_trust(&self, trust: Trust) -> bool {
        let Some(identity) = self.identity.borrow().clone() else {
            return false;
        };
        let mut sealed = identity.sealed.clone();
        let ca_changed = match same_certificates(&sealed.ca_pem, &trust.ca_pem) {
            Ok(same) => !same,
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "refused what a session said of the CA"
                );
                return false;
            }
        };
        sealed.coordinators = trust.coordinators;
        if !ca_changed && sealed == identity.sealed {
            return false;
        }
        if ca_changed {
            sealed.ca_pem = trust.ca_pem;
            // On disk, so that it is not forgotten by a restart: due at once.
            let spread = CA_SPREAD.mul_f64(fastrand::f64());
            let in_ms = u64::try_from(spread.as_millis()).unwrap_or(0);
            sealed.renew_at_ms = sealed.renew_at_ms.min(wall_ms() + in_ms);
        }
        match self.adopt(sealed).await {
            Ok(()) => {
                info!(ca_changed, "took over CA and coordinators");
                true
            }
            Err(error) => {
                warn!(error = chain(&error), "could not keep CA and coordinators");
                false
            }
        }
    }

    /// Asks until there is a certificate. What sessions say meanwhile of CA and coordinators may
    /// be what the asking waits for, so with it the asking begins anew.
    async fn until_granted(&self, trust: &mut watch::Receiver<Option<Trust>>) {
        loop {
            let old = self.identity.borrow().clone();
            let asking = self.ask_in_turn(old.as_deref());
            tokio::pin!(asking);
            loop {
                tokio::select! {
                    () = &mut asking => return self.rest(trust).await,
                    // An answer that is on its way is lost by this, and asked for again with its
                    // key. What was said before does not disturb it.
                    said = said(trust) => if self.take_trust(said).await {
                        break;
                    }
                }
            }
        }
    }

    /// Waits, if what was just given is to be renewed at once.
    async fn rest(&self, trust: &mut watch::Receiver<Option<Trust>>) {
        let newest = self.identity.borrow().clone();
        if newest.is_none_or(|identity| !identity.due_in().is_zero()) {
            return;
        }
        warn!("the new certificate has ended or is to be renewed at once: is the clock right?");
        let pause = sleep(DUE_AT_ONCE_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                said = said(trust) => if self.take_trust(said).await {
                    return;
                }
            }
        }
    }

    /// Asks every coordinator in turn until one gives a certificate.
    async fn ask_in_turn(&self, old: Option<&Identity>) {
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
                        AttemptError::Key(_)
                        | AttemptError::Disk(_)
                        | AttemptError::Lost(_)
                        | AttemptError::Identity(_) => false,
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
        old: Option<&Identity>,
        address: SocketAddr,
        coordinators: &[SocketAddr],
    ) -> Result<(), AttemptError> {
        let key_pem = self.key_to_ask_with(old).await?;
        let csr = signing_request(&key_pem)?;
        let granted = match old {
            Some(identity) => ask::renew(&self.provision, address, identity.tls(), csr).await?,
            None => ask::enrol(&self.provision, address, csr).await?,
        };
        self.adopt(seal(granted, key_pem, coordinators)).await?;
        info!(%address, renewed = old.is_some(), "has an identity");
        Ok(())
    }

    /// The key of a question whose answer was lost, or a new one; on disk in both cases.
    async fn key_to_ask_with(&self, old: Option<&Identity>) -> Result<String, AttemptError> {
        let used = old.map(|identity| identity.sealed.key_pem.clone());
        self.on_disk(move |store| {
            if let Some(pending) = store.pending_key()?
                && used.as_ref() != Some(&pending)
                && signing_request(&pending).is_ok()
            {
                return Ok(pending);
            }
            let key_pem = new_key()?;
            store.keep_pending_key(&key_pem)?;
            Ok(key_pem)
        })
        .await
    }

    /// Seals an identity that fits this machine, then uses it.
    async fn adopt(&self, sealed: Sealed) -> Result<(), AttemptError> {
        let identity = Identity::new(sealed, &self.provision)?;
        let sealed = identity.sealed.clone();
        self.on_disk(move |store| Ok(store.seal(&sealed)?)).await?;
        self.identity.send_replace(Some(Arc::new(identity)));
        Ok(())
    }

    /// Works with the disk on a thread that may wait for it: a disk may hang, and all that the
    /// agent does besides, names and health, shares one thread.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SealedStore) -> Result<T, AttemptError> + Send + 'static,
    ) -> Result<T, AttemptError> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            // It holds two paths; there is nothing to be left half changed.
            work(&store.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await?
    }
}

/// The next that sessions say of CA and coordinators.
async fn said(trust: &mut watch::Receiver<Option<Trust>>) -> Trust {
    while trust.changed().await.is_ok() {
        if let Some(said) = trust.borrow_and_update().clone() {
            return said;
        }
    }
    // The sessions ended: so does the agent.
    std::future::pending().await
}

/// Whether two PEM texts hold the same certificates, in any order and layout.
fn same_certificates(one: &str, other: &str) -> Result<bool, TlsError> {
    let set = |pem: &str| -> Result<BTreeSet<Vec<u8>>, TlsError> {
        let trusted = Trusted::from_pem(pem)?;
        Ok(trusted
            .certificates()
            .iter()
            .map(|der| der.to_vec())
            .collect())
    };
    Ok(set(one)? == set(other)?)
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
