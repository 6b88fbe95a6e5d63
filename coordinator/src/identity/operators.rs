//! Operators: people and tools with a certificate of their own and a role. One certificate of a
//! name counts at a time; making a new one ends the one before.

use std::{sync::Arc, time::Duration};

use calvin_model::{OperatorName, OperatorRole};
use calvin_proto::transport::{PeerCertificate, PeerIdentity};

use super::{
    Identity, Refusal,
    certificate::{self, Request},
    instances::EnrolError,
    records::OperatorRecord,
    wall_ms,
};

/// Life of an operator's certificate if nobody says otherwise.
const LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Longest life of one: a year, after which somebody should look whether it is still needed.
const LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a new operator gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedOperator {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Every CA that is trusted now, PEM.
    pub ca_pem: String,
}

/// One operator, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorView {
    /// The name.
    pub name: OperatorName,
    /// The role.
    pub role: OperatorRole,
    /// When it was added, milliseconds since 1970 UTC.
    pub added_wall_ms: u64,
    /// When its certificate ends.
    pub expires_wall_ms: u64,
    /// It is revoked.
    pub revoked: bool,
}

impl OperatorRecord {
    /// The CA without which this operator could not get in, by its key identifier.
    pub(super) fn rests_on(&self, now_wall_ms: u64) -> Option<&str> {
        let counts = !self.revoked && self.issued.until_wall_ms > now_wall_ms;
        counts.then_some(self.issued.authority.as_str())
    }
}

impl Identity {
    /// Makes a certificate for an operator; an earlier one of that name ends. `life` of `None` is
    /// 90 days, and at most a year is given.
    ///
    /// # Errors
    /// A refusal where the request is not valid, or it cannot be kept.
    pub fn add_operator(
        &self,
        name: &OperatorName,
        role: OperatorRole,
        csr_der: &[u8],
        life: Option<Duration>,
        by: &str,
    ) -> Result<AddedOperator, EnrolError> {
        let request = Request::parse(csr_der)?;
        let at = self.now();
        let life = life.unwrap_or(LIFE).min(LIFE_MAX);
        let identity = PeerIdentity::Operator {
            environment: self.environment().clone(),
            name: name.clone(),
            role,
        };
        let mut state = self.state();
        let issuer = &state.authority.newest().issuer;
        let issued = certificate::client(issuer, &identity, &request, at, life)?;
        let certificate_pem = issued.certificate_pem.clone();
        let record = OperatorRecord {
            role,
            added_wall_ms: wall_ms(at),
            added_by: by.to_owned(),
            issued,
            revoked: false,
        };
        self.inner.records.put_operator(name, &record)?;
        Arc::make_mut(&mut state.operators).insert(name.clone(), Arc::new(record));
        self.publish(&state);
        self.settle(&mut state, at)?;
        drop(state);
        let text = format!("added operator {name} with the role {role}");
        self.audit().done(at, by, "operator_added", &text);
        Ok(AddedOperator {
            certificate_pem,
            ca_pem: self.ca_pem(),
        })
    }

    /// Every operator, in the order of their names.
    #[must_use]
    pub fn operators(&self) -> Vec<OperatorView> {
        let known = self.known();
        let operators = known.operators.iter().map(|(name, record)| OperatorView {
            name: name.clone(),
            role: record.role,
            added_wall_ms: record.added_wall_ms,
            expires_wall_ms: record.issued.until_wall_ms,
            revoked: record.revoked,
        });
        operators.collect()
    }

    /// Refuses an operator's certificate from now on, also on connections that are up.
    ///
    /// # Errors
    /// A refusal where there is no such operator, or it cannot be kept.
    pub fn revoke_operator(&self, name: &OperatorName, by: &str) -> Result<(), EnrolError> {
        let at = self.now();
        let mut state = self.state();
        let Some(record) = state.operators.get(name) else {
            return Err(EnrolError::Refused(Refusal::OperatorUnknown {
                name: name.clone(),
            }));
        };
        let mut record = OperatorRecord::clone(record);
        record.revoked = true;
        self.inner.records.put_operator(name, &record)?;
        Arc::make_mut(&mut state.operators).insert(name.clone(), Arc::new(record));
        self.publish(&state);
        self.settle(&mut state, at)?;
        drop(state);
        let text = format!("revoked operator {name}");
        self.audit().done(at, by, "operator_revoked", &text);
        Ok(())
    }

    /// Judges an operator's certificate, which is verified and alive.
    pub(super) fn check_operator(
        &self,
        certificate: &PeerCertificate,
    ) -> Result<(OperatorName, OperatorRole), Refusal> {
        let PeerIdentity::Operator { name, role, .. } = &certificate.identity else {
            return Err(Refusal::NotAnOperator {
                who: certificate.identity.to_string(),
            });
        };
        match self.known().operators.get(name) {
            None => Err(Refusal::OperatorUnknown { name: name.clone() }),
            Some(record) if record.revoked || record.issued.serial != certificate.serial => {
                Err(Refusal::OperatorRevoked { name: name.clone() })
            }
            Some(_) => Ok((name.clone(), *role)),
        }
    }
}
