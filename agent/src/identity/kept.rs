//! The identity in memory and on disk: both change together, one change at a time.
//!
//! A change writes to a disk that may be slow, so it runs on a thread of its own, and to its end also
//! when whoever wanted it waits no more: an answer that is half kept would be another identity in
//! memory than on disk.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use calvin_model::Provision;
use calvin_proto::{
    convert::Trust,
    transport::{KeyError, TlsError, Trusted, new_key, signing_request},
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Identity, IdentityError, KeeperError, Sealed, SealedStore};
use crate::{clock::wall_ms, disk::DiskError, fault::chain};

/// Renewals after a change of the CA are spread over this time.
const CA_SPREAD: Duration = Duration::from_secs(20);

/// The identity, and where it lies.
#[derive(Debug)]
pub(super) struct Kept {
    provision: Arc<Provision>,
    store: SealedStore,
    identity: watch::Sender<Option<Arc<Identity>>>,
    changing: Mutex<()>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("no key could be made")]
    Key(#[from] KeyError),
    #[error("the answer could not be kept")]
    Disk(#[from] DiskError),
    #[error("what the coordinator gave is not this machine's")]
    Identity(#[from] IdentityError),
    #[error("the answer came after CA or coordinators had changed")]
    Overtaken,
}

impl Kept {
    pub(super) fn open(provision: Arc<Provision>, state: &Path) -> Result<Self, KeeperError> {
        let store = SealedStore::new(state);
        let identity = match store.load()? {
            Some(sealed) => Some(Arc::new(Identity::new(sealed, &provision)?)),
            None => None,
        };
        Ok(Self {
            provision,
            store,
            identity: watch::Sender::new(identity),
            changing: Mutex::new(()),
        })
    }

    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.identity.subscribe()
    }

    /// Makes a change, after those that were begun before.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let kept = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            // It guards no value that a panic could have left half changed.
            let _alone = kept.changing.lock().unwrap_or_else(PoisonError::into_inner);
            change(&kept)
        });
        match changed
            .await
            .map_err(tokio::task::JoinError::try_into_panic)
        {
            Ok(result) => result,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The agent is ending.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// Keeps what a coordinator says of CA and coordinators; whether it was anything new. A
    /// changed CA means a certificate that the new one signed.
    pub(super) fn take_trust(&self, trust: Trust) -> bool {
        let Some(identity) = self.identity() else {
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
        match self.seal(sealed) {
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

    /// The key of a question whose answer was lost, or a new one that is not `used`; on disk in both
    /// cases.
    pub(super) fn key_to_ask_with(&self, used: Option<&str>) -> Result<String, KeptError> {
        if let Some(pending) = self.store.pending_key()?
            && used != Some(pending.as_str())
            && signing_request(&pending).is_ok()
        {
            return Ok(pending);
        }
        let key_pem = new_key()?;
        self.store.keep_pending_key(&key_pem)?;
        Ok(key_pem)
    }

    /// Takes the answer to a question that was asked as `asked_as`. Another identity since then
    /// knows of a newer CA or other coordinators: with it the same is asked again.
    pub(super) fn adopt(
        &self,
        asked_as: Option<&Arc<Identity>>,
        sealed: Sealed,
    ) -> Result<(), KeptError> {
        if self.identity().as_ref().map(Arc::as_ptr) != asked_as.map(Arc::as_ptr) {
            return Err(KeptError::Overtaken);
        }
        self.seal(sealed)
    }

    /// Seals an identity that fits this machine, then uses it.
    fn seal(&self, sealed: Sealed) -> Result<(), KeptError> {
        let identity = Identity::new(sealed, &self.provision)?;
        self.store.seal(&identity.sealed)?;
        self.identity.send_replace(Some(Arc::new(identity)));
        Ok(())
    }
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
