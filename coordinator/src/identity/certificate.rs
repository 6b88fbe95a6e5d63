//! What stands in a certificate of ours. Names come from the coordinator, never from a request;
//! of a request only its public key is taken, after its signature has shown that who asks holds
//! the private one.

use std::time::{Duration, SystemTime};

use calvin_model::EnvironmentName;
use calvin_proto::transport::{
    PeerCertificate, PeerIdentity, coordinator_dns_name, peer::hexadecimal,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, string::Ia5String,
};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};

use super::{BACKDATED, IdentityError, Refusal, wall_ms};

/// Life of a CA. Rotation is by hand; ten years is longer than any fleet waits for it.
pub(super) const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Bytes of a serial number: random, so that none repeats (RFC 5280 allows 20).
const SERIAL_BYTES: usize = 16;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of its public key, hexadecimal.
    pub key: String,
    /// Key identifier of the CA that signed it, hexadecimal.
    pub authority: String,
    /// When it ends, milliseconds since 1970 UTC.
    pub until_wall_ms: u64,
}

/// A signing request whose signature was checked.
pub(super) struct Request {
    public_key: rcgen::PublicKey,
}

impl Request {
    pub(super) fn parse(csr_der: &[u8]) -> Result<Self, Refusal> {
        let request = CertificateSigningRequestParams::from_der(&csr_der.into())
            .map_err(|_| Refusal::RequestNotValid)?;
        Ok(Self {
            public_key: request.public_key,
        })
    }

    /// SHA-256 of its public key, hexadecimal.
    pub(super) fn key(&self) -> String {
        let info = self.public_key.subject_public_key_info();
        hexadecimal(digest(&SHA256, &info).as_ref())
    }
}

fn base(
    common_name: &str,
    at: SystemTime,
    life: Duration,
) -> Result<CertificateParams, IdentityError> {
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| IdentityError::Random)?;
    // A positive number without leading zeros: what is written is what is read back.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (at - BACKDATED).into();
    params.not_after = (at + life).into();
    Ok(params)
}

/// A CA's certificate. Its name holds a random part: verifiers choose a CA by its name, and two
/// of one environment must not be taken for each other.
pub(super) fn authority(
    environment: &EnvironmentName,
    key: &KeyPair,
    at: SystemTime,
) -> Result<String, IdentityError> {
    let mut random = [0; 8];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| IdentityError::Random)?;
    let name = format!("calvin {environment} {}", hexadecimal(&random));
    let mut params = base(&name, at, CA_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params
        .self_signed(key)
        .map_err(IdentityError::make("a CA certificate"))?;
    Ok(certificate.pem())
}

/// A client's certificate: of an instance or an operator.
pub(super) fn client(
    issuer: &Issuer<'_, KeyPair>,
    identity: &PeerIdentity,
    request: &Request,
    at: SystemTime,
    life: Duration,
) -> Result<Issued, IdentityError> {
    let name = match identity {
        PeerIdentity::Instance { instance, .. } => instance.as_str(),
        PeerIdentity::Operator { name, .. } => name.as_str(),
        PeerIdentity::Coordinator { .. } => "coordinator",
    };
    let mut params = base(name, at, life)?;
    params.subject_alt_names = vec![uri(identity)?];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(params, &request.public_key, issuer)
}

/// The coordinator's own.
pub(super) fn server(
    issuer: &Issuer<'_, KeyPair>,
    environment: &EnvironmentName,
    key: &KeyPair,
    at: SystemTime,
    life: Duration,
) -> Result<Issued, IdentityError> {
    let identity = PeerIdentity::Coordinator {
        environment: environment.clone(),
    };
    let mut params = base("coordinator", at, life)?;
    params.subject_alt_names = vec![
        SanType::DnsName(ia5(&coordinator_dns_name(environment))?),
        uri(&identity)?,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(params, key, issuer)
}

fn uri(identity: &PeerIdentity) -> Result<SanType, IdentityError> {
    Ok(SanType::URI(ia5(&identity.to_string())?))
}

fn ia5(text: &str) -> Result<Ia5String, IdentityError> {
    Ia5String::try_from(text).map_err(IdentityError::make("a name for a certificate"))
}

fn issue(
    mut params: CertificateParams,
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<Issued, IdentityError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(key, issuer)
        .map_err(IdentityError::make("a certificate"))?;
    let read = PeerCertificate::parse(certificate.der()).map_err(IdentityError::Own)?;
    Ok(Issued {
        certificate_pem: certificate.pem(),
        serial: read.serial,
        key: read.key,
        authority: read.authority,
        until_wall_ms: wall_ms(read.not_after),
    })
}
