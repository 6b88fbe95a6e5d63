//! Certificates for tests.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;

use super::{ENVIRONMENT, FLEET, INSTANCE};

/// How long a certificate is good, from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Day,
    Over,
}

#[derive(Debug)]
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key of a coordinator.
    pub(crate) fn server(&self) -> (String, String) {
        let name = format!("coordinator.{ENVIRONMENT}.calvin.internal");
        let mut params = CertificateParams::new([name]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let uri = format!("spiffe://{ENVIRONMENT}/coordinator");
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The certificate that a signing request gets.
    pub(crate) fn sign(&self, csr_der: &[u8], instance: &str, validity: Validity) -> String {
        let der = CertificateSigningRequestDer::from(csr_der.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
        let uri = format!("spiffe://{ENVIRONMENT}/fleet/{FLEET}/instance/{instance}");
        request.params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params.serial_number = Some(SerialNumber::from(7));
        let now = SystemTime::now();
        let day = Duration::from_secs(86_400);
        request.params.not_before = (now - 2 * day).into();
        request.params.not_after = match validity {
            Validity::Day => (now + day).into(),
            Validity::Over => (now - day).into(),
        };
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// What an instance that has enrolled has on disk: key and certificate.
    pub(crate) fn instance(&self, validity: Validity) -> (String, String) {
        let key = calvin_proto::transport::new_key().unwrap();
        let csr = calvin_proto::transport::signing_request(&key).unwrap();
        let certificate = self.sign(&csr, INSTANCE, validity);
        (key, certificate)
    }
}
