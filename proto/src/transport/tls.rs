//! TLS configurations of both ends, and what they are made from.

use std::sync::Arc;

use calvin_model::EnvironmentName;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    server::NoServerSessionStorage,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::verifier::{ClientVerifier, ServerVerifier};

/// Both ends speak HTTP/2 and nothing else.
const ALPN_H2: &[u8] = b"h2";

/// Why certificates, a key or a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text holds no certificates, or broken ones.
    #[error("could not read {what} as PEM")]
    Pem {
        /// What was read.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// There is none.
    #[error("{what} holds no certificate")]
    NoCertificate {
        /// What was read.
        what: &'static str,
    },
    /// rustls refuses it.
    #[error("could not use {what} for TLS")]
    Unusable {
        /// What was to be used.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// rustls refuses the CA certificates.
    #[error("could not verify anybody against the CA certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The CA certificates of one environment.
#[derive(Debug, Clone)]
pub struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
}

impl Trusted {
    /// Reads PEM with one or more certificates.
    ///
    /// # Errors
    /// Where it is broken or holds none.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let certificates = read_certificates(pem, "the CA certificates")?;
        Ok(Self { certificates })
    }

    /// Whether anything was signed by exactly this certificate's holder is for `verifier`; this
    /// gives the certificates themselves.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.certificates {
            roots
                .add(certificate.clone())
                .map_err(|source| TlsError::Unusable {
                    what: "a CA certificate",
                    source,
                })?;
        }
        Ok(roots)
    }
}

/// The DNS name in the certificates of an environment's coordinators. No name server knows it:
/// coordinators are found by address, and this name only tells environments apart.
#[must_use]
pub fn coordinator_dns_name(environment: &EnvironmentName) -> String {
    format!("coordinator.{environment}.calvin.internal")
}

/// The one crypto provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_certificates(
    pem: &str,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { what });
    }
    Ok(certificates)
}

fn read_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| TlsError::Pem {
        what: "the private key",
        source,
    })
}

/// The server's configuration: its own certificate and key in PEM, and whom it trusts. Client
/// certificates are optional; see [`PeerInfo`](super::PeerInfo) for what came of them.
///
/// # Errors
/// Where certificate, key or CA cannot be used.
pub fn server_config(
    trusted: &Trusted,
    certificate_pem: &str,
    key_pem: &str,
) -> Result<ServerConfig, TlsError> {
    let verifier = ClientVerifier::new(trusted.roots()?)?;
    let chain = read_certificates(certificate_pem, "the server's certificate")?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Unusable {
            what: "TLS 1.3",
            source,
        })?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, read_key(key_pem)?)
        .map_err(|source| TlsError::Unusable {
            what: "the server's certificate and key",
            source,
        })?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // A resumed session is not verified again: it would outlive a CA that was dropped.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client's configuration: whom it trusts, and its own certificate and key in PEM if it has
/// them.
///
/// # Errors
/// Where certificate, key or CA cannot be used.
pub fn client_config(
    trusted: &Trusted,
    identity: Option<(&str, &str)>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Unusable {
            what: "TLS 1.3",
            source,
        })?
        // All of webpki's checks, but for a beginning in the future: see the verifier.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(trusted.roots()?)?));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate_pem, key_pem)) => {
            let chain = read_certificates(certificate_pem, "the certificate")?;
            builder
                .with_client_auth_cert(chain, read_key(key_pem)?)
                .map_err(|source| TlsError::Unusable {
                    what: "the certificate and its key",
                    source,
                })?
        }
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
