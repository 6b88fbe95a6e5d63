//! Says in words why a connection or a handshake failed. TLS tells a peer its reason as an alert
//! of one byte; an operator must read what to do about it.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// How deep a chain of causes is searched: tonic, hyper, h2, io and rustls make five.
const DEPTH: usize = 16;

/// The reason for a failed connection in words, if TLS gave one.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    for _ in 0..DEPTH {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(explain_tls(tls));
        }
        // An `io::Error` hides what it was made from: its `source` is the source of that.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The reason why a call failed in words, if TLS ended its connection. A certificate that is
/// refused is told by [`connect`](super::connect) already.
#[must_use]
pub fn explain_status(status: &tonic::Status) -> Option<String> {
    explain(status.source()?)
}

/// What a TLS error means here.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls may add to its enum; what is not listed is shown as rustls says it"
)]
pub fn explain_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(alert) => explain_alert(*alert),
        rustls::Error::InvalidCertificate(error) => explain_certificate(error),
        rustls::Error::PeerIncompatible(_) => {
            "the other side speaks no TLS 1.3 that we know".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "the other side does not speak TLS".to_owned(),
        rustls::Error::NoApplicationProtocol => "the other side does not speak HTTP/2".to_owned(),
        other => other.to_string(),
    }
}

/// What the other side says of us.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls may add to its enum; what is not listed is shown as rustls says it"
)]
fn explain_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "the other side says: the certificate is not of this environment's CA"
        }
        AlertDescription::CertificateExpired => "the other side says: the certificate has expired",
        AlertDescription::CertificateRevoked => "the other side says: the certificate is revoked",
        AlertDescription::BadCertificate => "the other side says: the certificate is not valid",
        AlertDescription::UnsupportedCertificate => {
            "the other side says: the certificate is not made for this use"
        }
        AlertDescription::DecryptError => {
            "the other side says: the certificate is not of this environment's CA, or its key is \
             not the certificate's"
        }
        AlertDescription::CertificateRequired => "the other side wants a certificate",
        AlertDescription::ProtocolVersion => "the other side speaks no TLS 1.3",
        AlertDescription::NoApplicationProtocol => "the other side does not speak HTTP/2",
        other => return format!("the other side ended the handshake: {other:?}"),
    }
    .to_owned()
}

/// What we say of the other side's certificate.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls may add to its enum; what is not listed is shown as rustls says it"
)]
fn explain_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate is not of this environment's CA".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is not that of this environment's coordinator".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not made for this use".to_owned()
        }
        other => format!("the certificate is not valid: {other}"),
    }
}
