//! TLS towards Consul: whom to trust, and who we are.
//!
//! Consul's agents are asked by address, and their certificates are often made out to
//! `server.<datacenter>.<domain>` (the documentation's "Enable TLS encryption"): the name to verify
//! can be given apart from the address.

use std::{fmt, sync::Arc};

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

/// What TLS is made from, all in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authorities that may have signed Consul's certificates. No public one is trusted.
    pub ca_pem: String,
    /// Our own certificate, where Consul wants one (`verify_incoming`).
    pub identity: Option<Identity>,
    /// The name in Consul's certificate, where it is not the host of the address.
    pub server_name: Option<String>,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, and those between it and the authority.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The text is not PEM.
    #[error("could not read {what} as PEM")]
    Pem {
        /// What was read.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The text holds no certificate.
    #[error("{what} holds no certificate")]
    Empty {
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
    /// The name is neither a DNS name nor an address.
    #[error("{name:?} cannot be the name in a certificate")]
    ServerName {
        /// The name.
        name: String,
    },
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is in here.
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    if found.is_empty() {
        return Err(TlsError::Empty { what });
    }
    Ok(found)
}

impl Tls {
    fn config(&self) -> Result<ClientConfig, TlsError> {
        let unusable = |what| move |source| TlsError::Unusable { what, source };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA certificates", &self.ca_pem)? {
            roots
                .add(certificate)
                .map_err(unusable("a CA certificate"))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable("TLS 1.2 and 1.3"))?
            .with_root_certificates(roots);
        let Some(identity) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("the certificate", &identity.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|source| {
            TlsError::Pem {
                what: "the private key",
                source,
            }
        })?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(unusable("the certificate and its key"))
    }
}

/// The connector of one client. Without `tls` only plain HTTP works: nobody is trusted.
pub(crate) fn connector(
    tls: Option<&Tls>,
    http: HttpConnector,
) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let config = match tls {
        Some(tls) => tls.config()?,
        None => ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Unusable {
                what: "TLS 1.2 and 1.3",
                source,
            })?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    };
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http();
    let builder = match tls.and_then(|tls| tls.server_name.clone()) {
        None => builder,
        Some(name) => {
            let name =
                ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName { name })?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
    };
    Ok(builder.enable_http1().wrap_connector(http))
}
