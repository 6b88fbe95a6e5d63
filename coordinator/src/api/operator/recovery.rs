//! What a coordinator that recovers has found, and a person's word on it.

use calvin_engine::{
    Approval, WhatBlocks,
    recover::{Finding, RecoveryView},
};
use calvin_proto::wire::{ApproveRecoveryRequest, ChangeReply, Recovery, RecoveryFinding};

use super::{OperatorParts, error::OperatorError};

/// Longest reason that goes into the history: some sentences.
const REASON_CHARACTERS: usize = 500;

impl OperatorParts {
    pub(super) fn show_recovery(&self) -> Recovery {
        let view = self.desk.view();
        let found = view.recovery.as_ref();
        Recovery {
            environment: self.config.environment.to_string(),
            wall_ms: view.wall_ms,
            ..found.map(|found| shown(found)).unwrap_or_default()
        }
    }

    pub(super) async fn approve_recovery(
        &self,
        request: ApproveRecoveryRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let reason: String = request
            .reason
            .trim()
            .chars()
            .take(REASON_CHARACTERS)
            .collect();
        if reason.is_empty() {
            return Err(OperatorError::invalid(
                "an approval needs a reason: it is what the history tells of it",
            ));
        }
        let approval = Approval {
            plan: request.plan,
            reason,
            blocked: if request.leave_blocked {
                WhatBlocks::IsLeftAlone
            } else {
                WhatBlocks::Refuses
            },
        };
        let lines = self.desk.approve(approval, who).await?;
        Ok(ChangeReply {
            lines,
            rollout: String::new(),
            next: "calvin status".to_owned(),
        })
    }
}

fn shown(view: &RecoveryView) -> Recovery {
    let difference = &view.difference;
    Recovery {
        reason: view.recovering.reason.clone(),
        since_wall_ms: view.recovering.since_wall_ms,
        plan: difference.id.clone(),
        epoch_seen: difference.epoch_seen,
        epoch_next: difference.epoch_next,
        findings: difference.findings.iter().map(finding).collect(),
        waits: difference.waits.clone(),
        ..Recovery::default()
    }
}

fn finding(finding: &Finding) -> RecoveryFinding {
    RecoveryFinding {
        fleet: finding.fleet.to_string(),
        instance: finding
            .instance
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        verdict: finding.verdict.to_string(),
        found: finding.found.clone(),
        then: finding.then.clone(),
        blocks: finding.verdict.blocks(),
    }
}
