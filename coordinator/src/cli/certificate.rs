//! When a certificate on this machine ends.

use std::{fs, path::Path};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// When the certificate in that PEM file ends, milliseconds since 1970 UTC; `None` if the file
/// holds none that can be read.
pub(crate) fn ends(path: &Path) -> Option<u64> {
    let pem = fs::read(path).ok()?;
    let der = CertificateDer::from_pem_slice(&pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    u64::try_from(seconds).ok()?.checked_mul(1_000)
}
