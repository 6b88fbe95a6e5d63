//! Verifies the certificates of both ends as webpki does, but for time.
//!
//! A client's certificate is optional, and may have expired: it still says who it was, and its
//! holder may renew, and nothing else. Whether it has expired is judged per call, by whoever
//! answers.
//!
//! A certificate of either end may begin later than now. This environment's CA has signed it, so it
//! has been made already: a clock was wrong then, or is now. Clocks are set back by hours, by NTP
//! after a boot or by a person, and a coordinator and its agents must find each other all the same.
//! What a beginning in the future would protect from is a certificate that leaks before it begins,
//! and no one here makes such certificates.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::{TlsError, provider};

/// Verifies the certificate of whoever calls, if it shows one.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    pub(super) fn new(roots: RootCertStore) -> Result<Self, TlsError> {
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(TlsError::Verifier)?;
        Ok(Self { inner })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a client whose certificate is of another CA must show it and be told so,
        // instead of coming without one and being told that it has none.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verify = |at| self.inner.verify_client_cert(end_entity, intermediates, at);
        match verify(now) {
            // Everything else about it must have been right in its last second, or be in its first.
            Err(error) if is_expired(&error) => verify(Validity::of(end_entity)?.last),
            Err(error) if begins_later(&error) => verify(Validity::of(end_entity)?.first),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies the coordinator's certificate.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerVerifier {
    pub(super) fn new(roots: RootCertStore) -> Result<Self, TlsError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(TlsError::Verifier)?;
        Ok(Self { inner })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |at| {
            self.inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        };
        match verify(now) {
            Err(error) if begins_later(&error) => verify(Validity::of(end_entity)?.first),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_expired(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

fn begins_later(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// The first and the last second of a certificate.
struct Validity {
    first: UnixTime,
    last: UnixTime,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
        let time = |seconds: i64| -> Result<UnixTime, Error> {
            let seconds = u64::try_from(seconds).map_err(|_| bad())?;
            Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
        };
        let validity = parsed.validity();
        Ok(Self {
            first: time(validity.not_before.timestamp())?,
            last: time(validity.not_after.timestamp())?,
        })
    }
}
