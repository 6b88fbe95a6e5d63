//! The environment's CAs: in `ca/`, each a certificate (`ca-1.pem`) and a private key
//! (`ca-1.key`, mode 0600), numbered in the order in which they were made.
//!
//! The newest signs clients. The oldest that is still trusted signs the coordinator: an agent
//! that was away during a rotation trusts only that one, and must be able to come back and learn
//! of the new.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use calvin_model::EnvironmentName;
use calvin_proto::{machine::write_atomic, transport::peer::hexadecimal};
use rcgen::{Issuer, KeyPair};
use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::{IdentityError, certificate, wall_ms};

/// CAs that may be trusted at once. Each takes below 1 KiB in what agents are sent, which holds
/// 16; more than two are trusted only while rotations overlap.
const TRUSTED_MAX: usize = 8;

/// One CA, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedCa {
    /// SHA-256 of its certificate, hexadecimal.
    pub fingerprint: String,
    /// From when it is good, milliseconds since 1970 UTC.
    pub from_wall_ms: u64,
    /// Until when.
    pub until_wall_ms: u64,
}

pub(super) struct Authority {
    directory: PathBuf,
    /// Oldest first; never empty.
    cas: Vec<Ca>,
}

pub(super) struct Ca {
    number: u32,
    pem: String,
    /// Its key identifier, as certificates name their CA.
    pub(super) key_id: String,
    pub(super) view: TrustedCa,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the CAs, or makes the first one.
    pub(super) fn open(
        directory: &Path,
        environment: &EnvironmentName,
        at: SystemTime,
    ) -> Result<Self, IdentityError> {
        make_private(directory)?;
        let mut authority = Self {
            directory: directory.to_owned(),
            cas: Vec::new(),
        };
        for number in numbers(directory)? {
            let ca = Ca::read(directory, number)?;
            authority.cas.push(ca);
        }
        if authority.cas.is_empty() {
            authority.add(environment, at)?;
        }
        Ok(authority)
    }

    /// Whether there is a CA in this directory.
    pub(super) fn is_in(directory: &Path) -> Result<bool, IdentityError> {
        Ok(directory.is_dir() && !numbers(directory)?.is_empty())
    }

    /// Makes a new CA, which signs from now on.
    pub(super) fn add(
        &mut self,
        environment: &EnvironmentName,
        at: SystemTime,
    ) -> Result<(), IdentityError> {
        if self.cas.len() >= TRUSTED_MAX {
            return Err(IdentityError::TooManyCas {
                count: self.cas.len(),
            });
        }
        let number = self.cas.last().map_or(1, |ca| ca.number + 1);
        let key = KeyPair::generate().map_err(IdentityError::make("a CA key"))?;
        let pem = certificate::authority(environment, &key, at)?;
        // The key first: a certificate without its key would be a CA that cannot sign, and is
        // what `numbers` looks for.
        write(
            &key_path(&self.directory, number),
            &key.serialize_pem(),
            0o600,
        )?;
        write(&certificate_path(&self.directory, number), &pem, 0o644)?;
        self.cas.push(Ca::read(&self.directory, number)?);
        Ok(())
    }

    /// Forgets old CAs that have ended or that `used` says nothing rests on. The newest stays.
    pub(super) fn drop_unused(
        &mut self,
        at: SystemTime,
        used: impl Fn(&str) -> bool,
    ) -> Result<Vec<TrustedCa>, IdentityError> {
        let newest = self.cas.last().map_or(0, |ca| ca.number);
        let now = wall_ms(at);
        let mut dropped = Vec::new();
        let mut kept = Vec::new();
        for ca in std::mem::take(&mut self.cas) {
            let needed = used(&ca.key_id) && ca.view.until_wall_ms > now;
            if ca.number == newest || needed {
                kept.push(ca);
            } else {
                dropped.push(ca);
            }
        }
        self.cas = kept;
        for ca in &dropped {
            // The certificate first: without it the CA is no longer read.
            remove(&certificate_path(&self.directory, ca.number))?;
            remove(&key_path(&self.directory, ca.number))?;
        }
        Ok(dropped.into_iter().map(|ca| ca.view).collect())
    }

    /// Who signs clients.
    pub(super) fn newest(&self) -> &Ca {
        // `open` makes one where there is none, and `drop_unused` keeps the newest.
        #[expect(clippy::expect_used, reason = "there is always one, see above")]
        self.cas.last().expect("an environment has a CA")
    }

    /// Who signs the coordinator.
    pub(super) fn oldest(&self) -> &Ca {
        self.cas.first().unwrap_or_else(|| self.newest())
    }

    /// How many are trusted.
    pub(super) fn count(&self) -> usize {
        self.cas.len()
    }

    /// Every certificate, newest first, PEM.
    pub(super) fn bundle_pem(&self) -> String {
        self.cas.iter().rev().map(|ca| ca.pem.as_str()).collect()
    }

    /// Every CA, newest first.
    pub(super) fn trusted(&self) -> Vec<TrustedCa> {
        self.cas.iter().rev().map(|ca| ca.view.clone()).collect()
    }
}

impl Ca {
    fn read(directory: &Path, number: u32) -> Result<Self, IdentityError> {
        let path = certificate_path(directory, number);
        let key_path = key_path(directory, number);
        refuse_exposed(&key_path)?;
        let pem = read(&path)?;
        let key_pem = read(&key_path)?;
        let damaged = |problem: String| IdentityError::Damaged {
            path: path.clone(),
            problem,
        };
        let key = KeyPair::from_pem(&key_pem).map_err(|error| IdentityError::Damaged {
            path: key_path.clone(),
            problem: error.to_string(),
        })?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(error.to_string()))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| damaged(error.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(damaged(format!("{} is not its key", key_path.display())));
        }
        let view = TrustedCa {
            fingerprint: hexadecimal(digest(&SHA256, &der).as_ref()),
            from_wall_ms: seconds(parsed.validity().not_before.timestamp()),
            until_wall_ms: seconds(parsed.validity().not_after.timestamp()),
        };
        let key_id = key_identifier(&parsed)
            .ok_or_else(|| damaged("it has no key identifier".to_owned()))?;
        let issuer =
            Issuer::from_ca_cert_der(&der, key).map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            number,
            pem,
            key_id,
            view,
            issuer,
        })
    }
}

fn seconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only one of X.509's extensions is looked for"
)]
fn key_identifier(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(hexadecimal(id.0)),
            _ => None,
        })
}

fn certificate_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("ca-{number}.pem"))
}

fn key_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("ca-{number}.key"))
}

/// The numbers of the CAs whose certificate is there, in order.
fn numbers(directory: &Path) -> Result<Vec<u32>, IdentityError> {
    let failed = |source| IdentityError::Io {
        doing: "list",
        path: directory.to_owned(),
        source,
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number: Option<u32> = name
            .to_str()
            .and_then(|name| name.strip_prefix("ca-")?.strip_suffix(".pem"))
            .and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn make_private(directory: &Path) -> Result<(), IdentityError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| IdentityError::Io {
            doing: "make",
            path: directory.to_owned(),
            source,
        })
}

/// Whoever could read a CA's key can be anybody.
pub(super) fn refuse_exposed(path: &Path) -> Result<(), IdentityError> {
    let metadata = fs::metadata(path).map_err(|source| IdentityError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|source| IdentityError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn write(path: &Path, content: &str, mode: u32) -> Result<(), IdentityError> {
    write_atomic(path, content.as_bytes(), mode).map_err(|source| IdentityError::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

fn remove(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IdentityError::Io {
            doing: "remove",
            path: path.to_owned(),
            source: error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a certificate of this life is past its half.
pub(super) fn past_half(from: SystemTime, life: Duration, at: SystemTime) -> bool {
    at.duration_since(from).is_ok_and(|age| age > life / 2)
}
