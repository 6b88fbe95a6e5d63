//! The identity in memory and on disk: both change together, one change at a time.
//!
//! A change writes to a disk that may be slow, so it runs on a thread of its own, and once begun to
//! its end also when whoever wanted it waits no more: an answer that is half kept would be another
//! identity in memory than on disk. Those that wait for their turn take no thread: there are few, and
//! with a disk that hangs all would wait for it.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use calvin_model::Provision;
use calvin_proto::{
    convert::Trust,
    transport::{KeyError, TlsError, Trusted, new_key, signing_request},
};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
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
    changing: Arc<Mutex<()>>,
}

/// Nobody else makes a change while one has this.
#[derive(Debug)]
pub(super) struct Turn {
    _alone: OwnedMutexGuard<()>,
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
            changing: Arc::default(),
        })
    }

    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.identity.subscribe()
    }

    /// Waits for those that wanted to make a change before.
    pub(super) async fn turn(&self) -> Turn {
        Turn {
            _alone: self.changing.clone().lock_owned().await,
        }
    }

    /// Makes a change when its turn has come. One that is given up before is not made.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let turn = self.turn().await;
        self.change_in(turn, change).await
    }

    /// Makes a change; it has begun before this waits for the first time.
    pub(super) async fn change_in<T: Send + 'static>(
        self: &Arc<Self>,
        turn: Turn,
        change: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> T {
        let kept = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            // To the end of the change, whoever waits for it.
            let _turn = turn;
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

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    };

    use tokio::{task::JoinSet, time::timeout};

    use super::*;
    use crate::testing::{Ca, provision};

    const DEADLINE: Duration = Duration::from_secs(20);
    const WAITING: u32 = 3;

    #[test]
    fn changes_that_wait_for_one_that_hangs_take_no_threads() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // One for what hangs, and one for others than the identity.
            .max_blocking_threads(2)
            .build()
            .unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let provision = provision(&Ca::new(), "127.0.0.1:1".parse().unwrap());
            let kept = Arc::new(Kept::open(provision, dir.path()).unwrap());
            let (release, released) = mpsc::channel::<()>();
            let (begun, mut hangs) = watch::channel(false);
            let hang = kept.change(move |_| {
                begun.send_replace(true);
                let _ = released.recv();
            });
            // Whoever wanted it waits no more.
            tokio::select! {
                () = hang => unreachable!("it hangs"),
                begun = hangs.wait_for(|begun| *begun) => drop(begun),
            }
            let made = Arc::new(AtomicU32::new(0));
            let mut waiting = JoinSet::new();
            for _ in 0..WAITING {
                let (kept, made) = (kept.clone(), made.clone());
                waiting.spawn(async move { kept.change(move |_| made.fetch_add(1, SeqCst)).await });
            }
            tokio::task::yield_now().await;
            let other = tokio::task::spawn_blocking(|| ());
            timeout(DEADLINE, other).await.unwrap().unwrap();
            assert_eq!(made.load(SeqCst), 0, "one at a time");
            release.send(()).unwrap();
            let mut all = timeout(DEADLINE, waiting.join_all()).await.unwrap();
            // Each was made once. Who is told first depends on when the threads' ends are seen.
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2]);
        });
    }
}
