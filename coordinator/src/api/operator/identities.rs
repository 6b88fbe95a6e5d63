//! Operators and CAs.

use std::time::Duration;

use calvin_model::{OperatorName, OperatorRole};
use calvin_proto::wire;
use tonic::Status;

use super::{
    OperatorParts,
    answer::shown,
    error::{OperatorError, enrol_status},
};
use crate::identity::{Rotated, TrustedCa};

impl OperatorParts {
    pub(super) async fn add_operator(
        &self,
        request: wire::AddOperatorRequest,
        who: String,
    ) -> Result<wire::AddOperatorReply, Status> {
        let name = operator_name(&request.name)?;
        let role: OperatorRole = request
            .role
            .parse()
            .map_err(|error| OperatorError::invalid(format!("{error}")))?;
        let life = (request.valid_ms > 0).then(|| Duration::from_millis(request.valid_ms));
        let identity = self.identity.clone();
        let added = tokio::task::spawn_blocking(move || {
            identity.add_operator(&name, role, &request.csr_der, life, &who)
        });
        let added = added.await.map_err(OperatorError::from)?;
        let added = added.map_err(enrol_status)?;
        Ok(wire::AddOperatorReply {
            certificate_pem: added.certificate_pem,
            ca_pem: added.ca_pem,
        })
    }

    pub(super) fn list_operators(&self) -> wire::ListOperatorsReply {
        let operators = self.identity.operators().into_iter();
        let entry = |operator: crate::identity::OperatorView| wire::OperatorEntry {
            name: operator.name.to_string(),
            role: operator.role.to_string(),
            added_wall_ms: operator.added_wall_ms,
            expires_wall_ms: operator.expires_wall_ms,
            revoked: operator.revoked,
        };
        wire::ListOperatorsReply {
            operators: operators.map(entry).collect(),
        }
    }

    pub(super) async fn revoke_operator(
        &self,
        request: wire::RevokeOperatorRequest,
        who: String,
    ) -> Result<wire::ChangeReply, Status> {
        let name = operator_name(&request.name)?;
        let line = format!("operator {name} is revoked: no call of theirs is taken any more");
        let identity = self.identity.clone();
        let revoked = tokio::task::spawn_blocking(move || identity.revoke_operator(&name, &who));
        let revoked = revoked.await.map_err(OperatorError::from)?;
        revoked.map_err(enrol_status)?;
        Ok(wire::ChangeReply {
            lines: vec![line],
            ..wire::ChangeReply::default()
        })
    }

    pub(super) async fn rotate_ca(
        &self,
        who: String,
    ) -> Result<wire::RotateCaReply, OperatorError> {
        let identity = self.identity.clone();
        let rotated = tokio::task::spawn_blocking(move || identity.rotate_ca(&who)).await??;
        Ok(wire::RotateCaReply {
            trusted: fingerprints(&rotated.trusted),
            not_renewed: rotated.not_renewed,
            lines: advice(&rotated),
        })
    }

    pub(super) fn show_ca(&self) -> wire::ShowCaReply {
        let ca = self.identity.ca();
        let trusted = |ca: &TrustedCa| wire::TrustedCa {
            fingerprint: ca.fingerprint.clone(),
            from_wall_ms: ca.from_wall_ms,
            until_wall_ms: ca.until_wall_ms,
        };
        wire::ShowCaReply {
            trusted: ca.trusted.iter().map(trusted).collect(),
            ca_pem: self.identity.ca_pem(),
            not_renewed: ca.not_renewed,
        }
    }
}

fn operator_name(text: &str) -> Result<OperatorName, OperatorError> {
    text.parse()
        .map_err(|error| OperatorError::invalid(format!("operator {:?}: {error}", shown(text))))
}

fn fingerprints(trusted: &[TrustedCa]) -> Vec<String> {
    trusted.iter().map(|ca| ca.fingerprint.clone()).collect()
}

fn advice(rotated: &Rotated) -> Vec<String> {
    let mut lines = vec![
        "new certificates come from the new CA; the older ones stay trusted until nothing rests on them"
            .to_owned(),
    ];
    if rotated.not_renewed > 0 {
        lines.push(format!(
            "{} instances still use a certificate of an older CA; each renews within half a minute while it has a session",
            rotated.not_renewed
        ));
    }
    if !rotated.operators.is_empty() {
        lines.push(format!(
            "operators whose certificate is of an older CA: {}; add them again to let it go",
            rotated.operators.join(", ")
        ));
    }
    lines
}
