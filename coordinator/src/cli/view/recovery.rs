//! What a coordinator that recovers has found, and what a backup holds.

use calvin_proto::wire;
use serde::Serialize;

use super::{each, some};
use crate::store::backup::{BackedUpFleet, Summary};

/// `Recovery`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RecoveryView {
    pub(crate) environment: String,
    pub(crate) reason: Option<String>,
    pub(crate) since_wall_ms: u64,
    pub(crate) wall_ms: u64,
    pub(crate) plan: Option<String>,
    pub(crate) epoch_seen: u64,
    pub(crate) epoch_next: u64,
    pub(crate) findings: Vec<FindingView>,
    pub(crate) waits: Vec<String>,
}

/// `RecoveryFinding`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FindingView {
    pub(crate) fleet: String,
    pub(crate) instance: Option<String>,
    pub(crate) verdict: String,
    pub(crate) found: String,
    pub(crate) then: String,
    pub(crate) blocks: bool,
}

/// A backup that was checked.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackupView {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) environment: String,
    pub(crate) made_by: String,
    pub(crate) wall_ms: u64,
    pub(crate) age_ms: u64,
    pub(crate) epoch: Option<u64>,
    pub(crate) fleets: Vec<BackedUpFleetView>,
    pub(crate) history_lines: u64,
    pub(crate) images: usize,
    pub(crate) operators: usize,
    pub(crate) cas: usize,
    /// The file may be read by others than its owner.
    pub(crate) exposed: bool,
}

/// One fleet of a backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackedUpFleetView {
    pub(crate) name: String,
    pub(crate) image: Option<String>,
    pub(crate) instances: usize,
    pub(crate) rollout: Option<String>,
}

impl From<wire::Recovery> for RecoveryView {
    fn from(reply: wire::Recovery) -> Self {
        Self {
            environment: reply.environment,
            reason: some(reply.reason),
            since_wall_ms: reply.since_wall_ms,
            wall_ms: reply.wall_ms,
            plan: some(reply.plan),
            epoch_seen: reply.epoch_seen,
            epoch_next: reply.epoch_next,
            findings: each(reply.findings),
            waits: reply.waits,
        }
    }
}

impl From<wire::RecoveryFinding> for FindingView {
    fn from(finding: wire::RecoveryFinding) -> Self {
        Self {
            fleet: finding.fleet,
            instance: some(finding.instance),
            verdict: finding.verdict,
            found: finding.found,
            then: finding.then,
            blocks: finding.blocks,
        }
    }
}

impl BackupView {
    /// Of a file with so many bytes; `now_ms` is the time of day.
    pub(crate) fn new(
        file: String,
        bytes: u64,
        exposed: bool,
        summary: Summary,
        now_ms: u64,
    ) -> Self {
        let header = summary.header;
        Self {
            file,
            bytes,
            environment: header.environment,
            made_by: header.made_by,
            wall_ms: header.wall_ms,
            age_ms: now_ms.saturating_sub(header.wall_ms),
            epoch: summary.epoch,
            fleets: summary.fleets.into_iter().map(Into::into).collect(),
            history_lines: summary.history,
            images: summary.images,
            operators: summary.operators,
            cas: summary.authorities,
            exposed,
        }
    }
}

impl From<BackedUpFleet> for BackedUpFleetView {
    fn from(fleet: BackedUpFleet) -> Self {
        Self {
            name: fleet.name,
            image: fleet.image,
            instances: fleet.instances,
            rollout: fleet.rollout,
        }
    }
}
