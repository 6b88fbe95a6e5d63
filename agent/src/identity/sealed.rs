//! The identity on disk: one file, replaced as a whole, that only its owner may read.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};

/// Format that this version writes.
const FORMAT: u32 = 1;
/// Largest file: CA certificates of 16 KiB, a certificate of 8, a key, and what JSON adds.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Everything that proves who the machine is, and whom it trusts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Always 1 until the meaning of a field changes.
    pub format: u32,
    /// PKCS #8.
    pub key_pem: String,
    /// The instance's certificate.
    pub certificate_pem: String,
    /// Every CA certificate that the environment trusts.
    pub ca_pem: String,
    /// Every coordinator's agent listener.
    pub coordinators: Vec<SocketAddr>,
    /// What the coordinator said: renew after so long.
    pub renew_after_ms: u64,
    /// The same as a moment of the wall clock, milliseconds since 1970 UTC.
    pub renew_at_ms: u64,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs and panics.
        f.debug_struct("Sealed")
            .field("coordinators", &self.coordinators)
            .field("renew_at_ms", &self.renew_at_ms)
            .finish_non_exhaustive()
    }
}

impl Sealed {
    /// The format that is written now.
    #[must_use]
    pub const fn format() -> u32 {
        FORMAT
    }
}

/// Where identity and key lie.
#[derive(Debug, Clone)]
pub struct SealedStore {
    identity: PathBuf,
    pending_key: PathBuf,
}

/// Why the identity on disk is not used.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// It cannot be read, written or understood.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Written by a version that knows more.
    #[error("{} has format {found}, this version knows {FORMAT}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl SealedStore {
    /// In the directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self {
            identity: state.join("identity.json"),
            pending_key: state.join("pending-key.pem"),
        }
    }

    /// The identity of an earlier run, if there is one.
    ///
    /// # Errors
    /// Where it cannot be used. It is not replaced by itself: another key would be an alarm.
    pub fn load(&self) -> Result<Option<Sealed>, SealedError> {
        let Some(bytes) = disk::read_bounded(&self.identity, FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let sealed: Sealed =
            serde_json::from_slice(&bytes).map_err(|source| DiskError::Content {
                path: self.identity.clone(),
                source,
            })?;
        if sealed.format != FORMAT {
            return Err(SealedError::Format {
                path: self.identity.clone(),
                found: sealed.format,
            });
        }
        Ok(Some(sealed))
    }

    /// Replaces the identity.
    ///
    /// # Errors
    /// Nothing was replaced.
    pub fn seal(&self, sealed: &Sealed) -> Result<(), DiskError> {
        let content = serde_json::to_vec(sealed).map_err(|source| DiskError::Content {
            path: self.identity.clone(),
            source,
        })?;
        disk::write_private(&self.identity, &content)
    }

    /// The key that a certificate was asked for and not received yet, if there is one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn pending_key(&self) -> Result<Option<String>, DiskError> {
        let bytes = disk::read_bounded(&self.pending_key, FILE_BYTES_MAX)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Keeps a key before it is asked with.
    ///
    /// # Errors
    /// It is not kept, and must not be asked with.
    pub fn keep_pending_key(&self, key_pem: &str) -> Result<(), DiskError> {
        disk::write_private(&self.pending_key, key_pem.as_bytes())
    }
}
