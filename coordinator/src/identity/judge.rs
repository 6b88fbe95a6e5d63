//! Judges the certificate of whoever is on the other side of a connection: of this environment,
//! alive or expired where that is allowed, and of an instance that is known and not retired.

use calvin_model::InstanceId;
use calvin_proto::transport::{PeerCertificate, PeerIdentity, PeerInfo, Shown};

use super::{Identity, Refusal};

/// Whether a call may be made with an expired certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// No.
    Refused,
    /// Yes: it is a renewal.
    MayRenew,
}

impl Identity {
    /// The instance on the other side of a connection.
    ///
    /// # Errors
    /// It showed no certificate, one of somebody else, an expired one where that is refused, or
    /// that of an instance that is revoked or not known.
    pub fn instance(
        &self,
        peer: &PeerInfo,
        expired: Expired,
    ) -> Result<(InstanceId, PeerCertificate), Refusal> {
        let certificate = self.certificate(peer, expired)?;
        let PeerIdentity::Instance { instance, .. } = &certificate.identity else {
            return Err(Refusal::NotAnInstance {
                who: certificate.identity.to_string(),
            });
        };
        let instance = instance.clone();
        match self.known().instances.get(&instance) {
            None => Err(Refusal::InstanceUnknown {
                instance: instance.to_string(),
            }),
            Some(record) if record.revoked => Err(Refusal::InstanceRetired { instance }),
            Some(_) => Ok((instance, certificate)),
        }
    }

    /// The instance on the other side of a connection, on record or not: a coordinator that
    /// recovers hears also those that came after its backup. It may have expired meanwhile.
    ///
    /// # Errors
    /// It showed no certificate, one of somebody else, or that of an instance that is revoked.
    pub fn unrecorded_instance(
        &self,
        peer: &PeerInfo,
    ) -> Result<(InstanceId, PeerCertificate), Refusal> {
        let certificate = self.certificate(peer, Expired::MayRenew)?;
        let PeerIdentity::Instance { instance, .. } = &certificate.identity else {
            return Err(Refusal::NotAnInstance {
                who: certificate.identity.to_string(),
            });
        };
        let instance = instance.clone();
        let known = self.known();
        let record = known.instances.get(&instance);
        if record.is_some_and(|record| record.revoked) {
            return Err(Refusal::InstanceRetired { instance });
        }
        Ok((instance, certificate))
    }

    /// The certificate of a peer: of this environment, and alive.
    pub(super) fn certificate(
        &self,
        peer: &PeerInfo,
        expired: Expired,
    ) -> Result<PeerCertificate, Refusal> {
        let certificate = match &peer.shown {
            Shown::Nothing => return Err(Refusal::CertificateMissing),
            Shown::Unreadable(error) => return Err(Refusal::CertificateUnreadable(error.clone())),
            Shown::Certificate(certificate) => certificate.as_ref().clone(),
        };
        let (ours, theirs) = (self.environment(), certificate.identity.environment());
        if ours != theirs {
            return Err(Refusal::EnvironmentForeign {
                ours: ours.clone(),
                theirs: theirs.to_string(),
            });
        }
        // One that begins later than now was made before the clock was set back: it is ours all the
        // same, and turning it away would lock its owner out until time has caught up.
        if self.now() >= certificate.not_after && expired == Expired::Refused {
            return Err(Refusal::CertificateExpired);
        }
        Ok(certificate)
    }
}
