//! Keys and signing requests. A key is made where it is used and never leaves that machine.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

/// Why a key or a request could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key could be made.
    #[error("could not make a key")]
    Generate(#[source] rcgen::Error),
    /// The text is not a private key.
    #[error("could not read the private key")]
    Read(#[source] rcgen::Error),
    /// The request could not be signed.
    #[error("could not make a signing request")]
    Request(#[source] rcgen::Error),
}

/// Makes a new private key (ECDSA P-256) as PKCS #8 PEM.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn new_key() -> Result<String, KeyError> {
    let key = KeyPair::generate().map_err(KeyError::Generate)?;
    Ok(key.serialize_pem())
}

/// Makes a PKCS #10 signing request, DER, for a private key in PEM. It names nobody: names come
/// from who signs.
///
/// # Errors
/// Where the key cannot be read or used.
pub fn signing_request(key_pem: &str) -> Result<Vec<u8>, KeyError> {
    let key = KeyPair::from_pem(key_pem).map_err(KeyError::Read)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(KeyError::Request)?;
    Ok(request.der().to_vec())
}
