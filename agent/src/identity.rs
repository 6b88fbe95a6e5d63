//! Who the machine can prove to be: a key that was made here and never leaves, and a certificate
//! that the coordinator gave for it.
//!
//! The first time the join token is traded for it. A key is on disk before it is asked with, so
//! that a lost answer is asked for again with the same key, which gets the same answer: a second
//! key would look like a thief's. Renewal goes on beside the session, long before the end.

mod ask;
mod keeper;
mod kept;
mod sealed;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration, time::SystemTime};

use calvin_model::Provision;
use calvin_proto::transport::{
    PeerCertificate, PeerError, PeerIdentity, TlsError, Trusted, client_config,
};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::clock::wall_ms;

pub use ask::AskError;
pub use keeper::{Keeper, KeeperError, KeeperStatus};
pub use sealed::{Sealed, SealedError, SealedStore};

/// An identity that can be used now.
pub struct Identity {
    sealed: Sealed,
    tls: Arc<ClientConfig>,
    not_after: SystemTime,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs and panics.
        f.debug_struct("Identity")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why what is on disk, or what the coordinator gave, is no identity of this machine.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Certificates or key cannot be used.
    #[error("the identity cannot be used")]
    Tls(#[from] TlsError),
    /// The certificate is no PEM.
    #[error("the certificate cannot be read")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// It does not say who its holder is.
    #[error("the certificate names nobody")]
    Peer(#[from] PeerError),
    /// It is another's.
    #[error("the certificate is for {found}, not for instance {expected}")]
    Other {
        /// Whom it names.
        found: PeerIdentity,
        /// Who this machine is.
        expected: String,
    },
}

impl Identity {
    /// Makes an identity of its parts, if they are this machine's.
    ///
    /// # Errors
    /// Where certificate, key and CA do not fit each other or the machine.
    pub fn new(mut sealed: Sealed, provision: &Provision) -> Result<Self, IdentityError> {
        if sealed.coordinators.is_empty() {
            // No coordinator ever said that. With none, nobody could be asked what is right.
            sealed.coordinators.clone_from(&provision.coordinators);
        }
        let der = CertificateDer::from_pem_slice(sealed.certificate_pem.as_bytes())
            .map_err(IdentityError::Pem)?;
        let certificate = PeerCertificate::parse(&der)?;
        let own = PeerIdentity::Instance {
            environment: provision.environment.clone(),
            fleet: provision.fleet.clone(),
            instance: provision.instance.clone(),
        };
        if certificate.identity != own {
            return Err(IdentityError::Other {
                found: certificate.identity,
                expected: provision.instance.to_string(),
            });
        }
        let trusted = Trusted::from_pem(&sealed.ca_pem)?;
        let pair = (sealed.certificate_pem.as_str(), sealed.key_pem.as_str());
        let tls = Arc::new(client_config(&trusted, Some(pair))?);
        Ok(Self {
            not_after: certificate.not_after,
            sealed,
            tls,
        })
    }

    /// For connections to coordinators.
    #[must_use]
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// Every coordinator, in the order in which they were named.
    #[must_use]
    pub fn coordinators(&self) -> &[SocketAddr] {
        &self.sealed.coordinators
    }

    /// When its certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Time until it should be renewed; zero also where it has ended.
    fn due_in(&self) -> Duration {
        if self.not_after <= SystemTime::now() {
            return Duration::ZERO;
        }
        self.renew_in(wall_ms())
    }

    /// Time until it should be renewed, at the wall's `now_ms`. Never longer than what the
    /// coordinator said, also when the clock was set back.
    fn renew_in(&self, now_ms: u64) -> Duration {
        let left = self.sealed.renew_at_ms.saturating_sub(now_ms);
        Duration::from_millis(left.min(self.sealed.renew_after_ms))
    }
}
