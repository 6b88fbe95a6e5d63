//! Why an environment's identity cannot be opened or changed. Refusals are not among them: see
//! `Refusal`.

use std::{io, path::PathBuf};

use calvin_proto::transport::{KeyError, PeerError, TlsError};

use super::audit::AuditError;
use crate::store::StoreFailure;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A CA's key may be read by others.
    #[error(
        "{} may be read by others (mode {mode:03o}): make it private (chmod 600), and rotate the CA if anybody could have read it",
        path.display()
    )]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There are identities, and no CA that could have signed them.
    #[error(
        "{} holds no CA, although {on_record} instances and operators are on record that trust one: bring the directory back",
        path.display()
    )]
    KeysGone {
        /// The directory of the CA's files.
        path: PathBuf,
        /// How many are on record.
        on_record: usize,
    },
    /// A CA's files do not fit together.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("could not make {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate that was just made cannot be read.
    #[error("could not read a certificate of our own")]
    Own(#[source] PeerError),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// Certificate and key are no good for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error("could not keep identities in the store")]
    Store(#[from] StoreFailure),
    /// The audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Too many CAs.
    #[error(
        "{count} CAs are trusted already, which is the most there may be: wait until instances have renewed, and add operators of older CAs again"
    )]
    TooManyCas {
        /// How many.
        count: usize,
    },
}

impl IdentityError {
    pub(super) fn make(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Make { what, source }
    }
}
