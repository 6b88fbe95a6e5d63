//! What was said last of joining and registering, kept on disk: a later boot joins and registers
//! before any coordinator answers. Nothing waits for the disk; what it refuses is written again.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use calvin_model::{Epoch, Join, Registration};
use calvin_proto::convert::RegistrationOrder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use crate::{
    disk::{self, DiskError},
    fault::chain,
};

/// Format of the files that this version writes.
const FORMAT: u32 = 1;
/// Largest file: 32 servers of 260 bytes, and 16 KiB of certificates whose lines JSON ends with two
/// bytes in place of one.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Pause before what the disk refused is written again.
const AGAIN: Duration = Duration::from_secs(2);

/// Why something that was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It could not be read or understood.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It was stored by a version that knows more.
    #[error("{} has format {found}, this version knows {FORMAT}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
}

/// Something that is kept in a file of its own.
pub trait Keep: Clone + Send + Sync + 'static {
    /// What it is called in the log, and its file's name without `.json`.
    const NAME: &'static str;
    /// How it is written.
    type Stored: Serialize + DeserializeOwned + Send;

    /// What is written of it.
    fn stored(&self) -> Self::Stored;
    /// From what was written.
    fn restored(stored: Self::Stored) -> Self;

    /// Hears whether it is on disk, or why not.
    fn written(&self, _refused: Option<&DiskError>) {}
}

impl Keep for Join {
    const NAME: &'static str = "join";
    type Stored = Self;

    fn stored(&self) -> Self {
        self.clone()
    }

    fn restored(stored: Self) -> Self {
        stored
    }
}

/// A registration, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredOrder {
    epoch: Epoch,
    registration: Registration,
}

impl Keep for RegistrationOrder {
    const NAME: &'static str = "registration";
    type Stored = StoredOrder;

    fn stored(&self) -> StoredOrder {
        StoredOrder {
            epoch: self.epoch.clone(),
            registration: self.registration,
        }
    }

    fn restored(stored: StoredOrder) -> Self {
        Self {
            epoch: stored.epoch,
            registration: stored.registration,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    format: u32,
    said: T,
}

fn path_of<T: Keep>(state: &Path) -> PathBuf {
    state.join(format!("{}.json", T::NAME))
}

/// What an earlier run kept in the state directory, if it did.
///
/// # Errors
/// Where it cannot be used.
pub fn load<T: Keep>(state: &Path) -> Result<Option<T>, KeptError> {
    let path = path_of::<T>(state);
    let Some(bytes) = disk::read_bounded(&path, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    let file: File<T::Stored> = parsed.map_err(|source| DiskError::Content {
        path: path.clone(),
        source,
    })?;
    if file.format != FORMAT {
        let found = file.format;
        return Err(KeptError::Format { path, found });
    }
    Ok(Some(T::restored(file.said)))
}

/// The channel of what is said, with what an earlier run kept in it.
#[must_use]
pub fn channel<T: Keep>(state: &Path) -> watch::Sender<Option<T>> {
    let kept = load(state).unwrap_or_else(|error| {
        // It is said again; a machine without it is better than one without an agent.
        warn!(error = chain(&error), "could not use what was kept");
        None
    });
    watch::Sender::new(kept)
}

/// Keeps what is said on disk until nothing more can come.
pub async fn keep<T: Keep>(state: PathBuf, mut newest: watch::Receiver<Option<T>>) {
    while newest.changed().await.is_ok() {
        let Some(said) = newest.borrow_and_update().clone() else {
            continue;
        };
        let path = path_of::<T>(&state);
        let stored = said.stored();
        let write = tokio::task::spawn_blocking(move || write(&path, stored));
        let written = write.await.unwrap_or_else(|error| {
            let path = path_of::<T>(&state);
            let source = io::Error::other(error);
            Err(DiskError::Write { path, source })
        });
        said.written(written.as_ref().err());
        match written {
            Ok(()) => info!(what = T::NAME, "is on disk"),
            Err(error) => {
                warn!(error = chain(&error), "could not be kept");
                if let Ok(Err(_)) = timeout(AGAIN, newest.changed()).await {
                    return;
                }
                newest.mark_changed();
            }
        }
    }
}

fn write<T: Serialize>(path: &Path, said: T) -> Result<(), DiskError> {
    let format = FORMAT;
    let content = serde_json::to_vec(&File { format, said });
    let content = content.map_err(|source| DiskError::Content {
        path: path.to_owned(),
        source,
    })?;
    disk::write_private(path, &content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use calvin_model::{CatalogueRole, ConsulJoin, Secret};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn join() -> Join {
        Join {
            consul: Some(ConsulJoin {
                datacenter: "build".parse().unwrap(),
                domain: "build.example".into(),
                servers: vec!["127.0.0.1:8301".into()],
                gossip_key: Some(Secret::new("key".into())),
                ca_pem: String::new(),
                node: "web-a".into(),
                token: Some(Secret::new("b6f7".into())),
                trust_domain: "one.consul".into(),
            }),
        }
    }

    async fn until_kept<T: Keep + PartialEq + std::fmt::Debug>(state: &Path, wanted: &T) {
        let wait = async {
            while load::<T>(state).unwrap().as_ref() != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, wait).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_said_last_is_there_at_the_next_start_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let said = channel::<Join>(state);
        assert!(said.borrow().is_none());
        let keeper = tokio::spawn(keep(state.to_owned(), said.subscribe()));
        said.send_replace(Some(join()));
        until_kept(state, &join()).await;
        let mode = std::fs::metadata(state.join("join.json")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        drop(said);
        timeout(DEADLINE, keeper).await.unwrap().unwrap();
        assert_eq!(*channel::<Join>(state).borrow(), Some(join()));
    }

    #[tokio::test]
    async fn what_the_disk_refuses_is_written_when_it_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("missing");
        let said = watch::Sender::new(None);
        let _keeper = tokio::spawn(keep(state.clone(), said.subscribe()));
        let order = RegistrationOrder {
            epoch: Epoch {
                number: 5,
                run: "aa".parse().unwrap(),
            },
            registration: Registration {
                role: CatalogueRole::Active,
                exclusive: true,
            },
        };
        said.send_replace(Some(order.clone()));
        tokio::task::yield_now().await;
        std::fs::create_dir(&state).unwrap();
        until_kept(&state, &order).await;
    }

    #[test]
    fn what_a_newer_version_kept_is_refused_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("join.json");
        std::fs::write(path, r#"{"format":2,"said":{"consul":null}}"#).unwrap();
        let error = load::<Join>(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
        assert!(channel::<Join>(dir.path()).borrow().is_none());
    }
}
