//! Who is on the other side of a connection: read from exactly one SPIFFE id in the certificate
//! (X.509-SVID section 2: a URI subject alternative name, and only one).

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use calvin_model::{EnvironmentName, FleetName, InstanceId, OperatorName, OperatorRole};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Who a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerIdentity {
    /// `spiffe://<environment>/fleet/<fleet>/instance/<instance>`
    Instance {
        /// Its environment.
        environment: EnvironmentName,
        /// Its fleet.
        fleet: FleetName,
        /// Its id.
        instance: InstanceId,
    },
    /// `spiffe://<environment>/operator/<name>/role/<role>`
    Operator {
        /// The environment.
        environment: EnvironmentName,
        /// The name.
        name: OperatorName,
        /// What the certificate allows.
        role: OperatorRole,
    },
    /// `spiffe://<environment>/coordinator`
    Coordinator {
        /// Its environment.
        environment: EnvironmentName,
    },
}

impl PeerIdentity {
    /// The environment that it belongs to.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentName {
        match self {
            Self::Instance { environment, .. }
            | Self::Operator { environment, .. }
            | Self::Coordinator { environment } => environment,
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance {
                environment,
                fleet,
                instance,
            } => write!(
                f,
                "spiffe://{environment}/fleet/{fleet}/instance/{instance}"
            ),
            Self::Operator {
                environment,
                name,
                role,
            } => write!(f, "spiffe://{environment}/operator/{name}/role/{role}"),
            Self::Coordinator { environment } => write!(f, "spiffe://{environment}/coordinator"),
        }
    }
}

/// Why a certificate does not say who its holder is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not X.509.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// No SPIFFE id, or several.
    #[error("the certificate names {count} URIs, it must name exactly one")]
    UriCount {
        /// How many.
        count: usize,
    },
    /// An id that is none of ours.
    #[error("the certificate names {uri:?}, which is no instance, operator or coordinator")]
    UnknownId {
        /// The id, cut to its first 200 characters.
        uri: String,
    },
}

/// What a verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Who.
    pub identity: PeerIdentity,
    /// From when.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of its public key (the DER of its SubjectPublicKeyInfo), lower-case hexadecimal.
    pub key: String,
    /// Key identifier of the CA that signed it, lower-case hexadecimal; empty if it has none.
    pub authority: String,
}

/// What a peer showed in its handshake.
#[derive(Debug, Clone)]
pub enum Shown {
    /// No certificate.
    Nothing,
    /// One of the environment's CA. It may have expired.
    Certificate(Arc<PeerCertificate>),
    /// One of the environment's CA that names nobody whom we know.
    Unreadable(PeerError),
}

/// Who is on the other side; in the extensions of every request that came over TLS.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its address.
    pub address: SocketAddr,
    /// What it showed.
    pub shown: Shown,
}

impl PeerCertificate {
    /// Reads a certificate. It says nothing about who signed it.
    ///
    /// # Errors
    /// Where it is not X.509 or does not carry exactly one of our SPIFFE ids.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Unreadable)?;
        let validity = certificate.validity();
        Ok(Self {
            identity: parse_spiffe(&only_uri(&certificate)?)?,
            not_before: system_time(validity.not_before.timestamp())?,
            not_after: system_time(validity.not_after.timestamp())?,
            serial: hexadecimal(certificate.raw_serial()),
            key: hexadecimal(digest(&SHA256, certificate.public_key().raw).as_ref()),
            authority: authority(&certificate),
        })
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only one of X.509's kinds is looked for"
)]
fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, PeerError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Unreadable)?;
    let mut uris = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => Ok(uri.to_owned()),
        (first, more) => Err(PeerError::UriCount {
            count: usize::from(first.is_some()) + more,
        }),
    }
}

fn parse_spiffe(uri: &str) -> Result<PeerIdentity, PeerError> {
    read_spiffe(uri).ok_or_else(|| PeerError::UnknownId {
        uri: uri.chars().take(200).collect(),
    })
}

fn read_spiffe(uri: &str) -> Option<PeerIdentity> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let environment = parts.next()?.parse().ok()?;
    let path: Vec<&str> = parts.collect();
    match path[..] {
        ["coordinator"] => Some(PeerIdentity::Coordinator { environment }),
        ["fleet", fleet, "instance", instance] => Some(PeerIdentity::Instance {
            environment,
            fleet: fleet.parse().ok()?,
            instance: instance.parse().ok()?,
        }),
        ["operator", name, "role", role] => Some(PeerIdentity::Operator {
            environment,
            name: name.parse().ok()?,
            role: role.parse().ok()?,
        }),
        _ => None,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only one of X.509's kinds is looked for"
)]
fn authority(certificate: &X509Certificate<'_>) -> String {
    use x509_parser::extensions::ParsedExtension;
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
            _ => None,
        })
        .map_or_else(String::new, |id| hexadecimal(id.0))
}

fn system_time(seconds: i64) -> Result<SystemTime, PeerError> {
    let seconds = u64::try_from(seconds).map_err(|_| PeerError::Unreadable)?;
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or(PeerError::Unreadable)
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identity_is_read_as_it_is_written() {
        for uri in [
            "spiffe://prod/coordinator",
            "spiffe://prod/fleet/web/instance/web-abcdefgh",
            "spiffe://prod/operator/ada/role/admin",
        ] {
            assert_eq!(parse_spiffe(uri).unwrap().to_string(), uri);
        }
    }

    #[test]
    fn what_is_not_exactly_one_of_our_ids_is_refused() {
        for uri in [
            "",
            "spiffe://",
            "spiffe://prod",
            "spiffe://prod/",
            "http://prod/coordinator",
            "spiffe://prod/coordinator/",
            "spiffe://prod//coordinator",
            "spiffe://prod@x/coordinator",
            "spiffe://PROD/coordinator",
            "spiffe://prod/fleet/web/instance/../x",
            "spiffe://prod/operator/ada/role/root",
            "spiffe://prod/operator/ada/role/admin?x",
        ] {
            assert!(parse_spiffe(uri).is_err(), "{uri}");
        }
    }
}
