//! The newest snapshot: served as soon as it comes, then kept on disk. An older one changes nothing.
//!
//! In this order, because a full disk must not make a machine resolve to instances that are gone:
//! in memory the newest is always there, on disk it is for the next start.

use std::{io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use calvin_model::{NamesSnapshot, NamesVersion};
use hickory_proto::{op::Query, rr::Name};
use serde::{Deserialize, Serialize};

use super::zone::{self, Answer, Zone, ZoneError};
use crate::disk::{self, DiskError};

/// Format of the file that this version writes.
const FORMAT: u32 = 1;
/// Largest file: the wire takes snapshots of 8 MiB, and JSON doubles what is short in them.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    snapshot: &'a NamesSnapshot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    snapshot: NamesSnapshot,
}

/// Why a snapshot is not served.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// A newer one is served already.
    #[error("names {given} are older than names {served}, which are served")]
    Older {
        /// What came.
        given: NamesVersion,
        /// What is served.
        served: NamesVersion,
    },
    /// It is for another domain.
    #[error("names {version} are for the domain {given}, this machine is in {own}")]
    OtherDomain {
        /// Which snapshot.
        version: NamesVersion,
        /// Its domain.
        given: String,
        /// The machine's.
        own: String,
    },
    /// It cannot be looked up in.
    #[error("names {version} cannot be served")]
    Zone {
        /// Which snapshot.
        version: NamesVersion,
        /// Why.
        #[source]
        source: ZoneError,
    },
    /// It could not be kept or loaded.
    #[error("could not keep the names on disk")]
    Disk(#[from] DiskError),
    /// It was stored by a version that knows more.
    #[error("the stored names have format {found}, this version knows {FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
    /// The task that ordered them for look-ups ended early.
    #[error("the names could not be ordered")]
    Build(#[source] io::Error),
    /// The task that wrote it ended early.
    #[error("the write of the names did not end")]
    Write(#[source] io::Error),
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It is served from now on.
    New(NamesVersion),
    /// It was served already.
    Known(NamesVersion),
}

/// The names that are served.
#[derive(Debug)]
pub struct Names {
    path: PathBuf,
    domain: String,
    apex: Name,
    zone: ArcSwapOption<Zone>,
}

impl Names {
    /// The names of `domain`, kept in the file `path`; nothing is served yet.
    ///
    /// # Errors
    /// Where the domain cannot be one.
    pub fn new(domain: &str, path: PathBuf) -> Result<Self, ZoneError> {
        Ok(Self {
            apex: zone::apex(domain)?,
            domain: domain.to_owned(),
            path,
            zone: ArcSwapOption::empty(),
        })
    }

    /// Serves what was kept by an earlier run, if there is anything. Before the first
    /// [`Names::admit`]: what comes from a coordinator beats what lies on disk.
    ///
    /// # Errors
    /// Where it cannot be read or understood.
    pub fn load(&self) -> Result<Option<NamesVersion>, NamesError> {
        let Some(bytes) = disk::read_bounded(&self.path, FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|source| DiskError::Content {
                path: self.path.clone(),
                source,
            })?;
        if stored.format != FORMAT {
            return Err(NamesError::Format {
                found: stored.format,
            });
        }
        let version = stored.snapshot.version;
        self.serve(Arc::new(stored.snapshot))?;
        Ok(Some(version))
    }

    /// Serves a snapshot from now on; [`Names::keep`] is what puts it on disk. One caller at a
    /// time.
    ///
    /// # Errors
    /// Nothing changed: it is older, or of another domain.
    pub async fn admit(
        self: &Arc<Self>,
        snapshot: Arc<NamesSnapshot>,
    ) -> Result<Admitted, NamesError> {
        let version = snapshot.version;
        if let Some(served) = self.version() {
            if version < served {
                return Err(NamesError::Older {
                    given: version,
                    served,
                });
            }
            if version == served {
                return Ok(Admitted::Known(version));
            }
        }
        // Ordering the names of ten thousand instances takes many times what an answer may.
        let names = self.clone();
        let serve = tokio::task::spawn_blocking(move || names.serve(snapshot));
        let served = serve.await;
        served.map_err(|error| NamesError::Build(io::Error::other(error)))??;
        Ok(Admitted::New(version))
    }

    /// Puts on disk what is served now, and says which version that was. One caller at a time, so
    /// that an older one never replaces a newer.
    ///
    /// # Errors
    /// It is not on disk, and a restart would serve what was kept before; to try again is harmless.
    pub async fn keep(&self) -> Result<Option<NamesVersion>, NamesError> {
        let Some(zone) = self.zone() else {
            return Ok(None);
        };
        let path = self.path.clone();
        let write = tokio::task::spawn_blocking(move || -> Result<NamesVersion, DiskError> {
            let snapshot = zone.snapshot();
            let written = Written {
                format: FORMAT,
                snapshot,
            };
            let content = serde_json::to_vec(&written).map_err(|source| DiskError::Content {
                path: path.clone(),
                source,
            })?;
            disk::write_private(&path, &content)?;
            Ok(snapshot.version)
        });
        let version = write
            .await
            .map_err(|error| NamesError::Write(io::Error::other(error)))??;
        Ok(Some(version))
    }

    /// Serves none any more, and keeps none: after a later start they would be long out of date.
    ///
    /// # Errors
    /// They are still on disk.
    pub async fn forget(&self) -> Result<(), NamesError> {
        self.zone.store(None);
        let path = self.path.clone();
        let remove = tokio::task::spawn_blocking(move || disk::remove(&path));
        let removed = remove.await;
        removed.map_err(|error| NamesError::Write(io::Error::other(error)))??;
        Ok(())
    }

    /// Whether what is served has records that answer this.
    pub(super) fn find(&self, query: &Query) -> bool {
        let answer = self
            .zone()
            .map(|zone| zone.answer(query.name(), query.query_type(), 0));
        match answer {
            Some(Answer::Found { .. }) => true,
            Some(Answer::Refused | Answer::NoSuchName { .. } | Answer::NoData { .. }) | None => {
                false
            }
        }
    }

    fn serve(&self, snapshot: Arc<NamesSnapshot>) -> Result<(), NamesError> {
        let zone = self.zone_of(snapshot)?;
        self.zone.store(Some(Arc::new(zone)));
        Ok(())
    }

    fn zone_of(&self, snapshot: Arc<NamesSnapshot>) -> Result<Zone, NamesError> {
        let version = snapshot.version;
        if !snapshot.domain.eq_ignore_ascii_case(&self.domain) {
            return Err(NamesError::OtherDomain {
                version,
                given: snapshot.domain.clone(),
                own: self.domain.clone(),
            });
        }
        Zone::of(snapshot).map_err(|source| NamesError::Zone { version, source })
    }

    /// The version that is served.
    #[must_use]
    pub fn version(&self) -> Option<NamesVersion> {
        self.zone
            .load()
            .as_ref()
            .map(|zone| zone.snapshot().version)
    }

    /// The environment's domain.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// What is served now.
    #[must_use]
    pub fn zone(&self) -> Option<Arc<Zone>> {
        self.zone.load_full()
    }
}
