//! The environment's records: history, images, operators, CAs, checks, contexts.

use calvin_proto::wire;
use serde::Serialize;

use super::{orders::OrderView, some};

/// `HistoryLine`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HistoryLineView {
    pub(crate) number: u64,
    pub(crate) wall_ms: u64,
    pub(crate) who: String,
    pub(crate) kind: String,
    pub(crate) fleet: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) text: String,
    pub(crate) hash: String,
}

/// `Image`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ImageView {
    pub(crate) image: String,
    pub(crate) digest: String,
    pub(crate) location: String,
    pub(crate) provider: String,
    pub(crate) added_wall_ms: u64,
    pub(crate) added_by: String,
    pub(crate) instances: u32,
    pub(crate) veto: Option<OrderView>,
}

/// `OperatorEntry`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OperatorView {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) added_wall_ms: u64,
    pub(crate) expires_wall_ms: u64,
    pub(crate) revoked: bool,
}

/// `ShowCaReply`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CaView {
    pub(crate) environment: String,
    pub(crate) trusted: Vec<TrustedCaView>,
    pub(crate) ca_pem: String,
    pub(crate) not_renewed: u32,
}

/// `TrustedCa`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TrustedCaView {
    pub(crate) fingerprint: String,
    pub(crate) from_wall_ms: u64,
    pub(crate) until_wall_ms: u64,
}

/// What `doctor` found, here and at the coordinator.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DoctorView {
    pub(crate) ok: bool,
    pub(crate) checks: Vec<CheckView>,
}

/// `DoctorCheck`, and on which side it was made: `here` or `coordinator`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckView {
    pub(crate) side: String,
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) found: String,
    pub(crate) advice: Option<String>,
}

/// A context of this user.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ContextView {
    pub(crate) name: String,
    pub(crate) current: bool,
    pub(crate) environment: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) socket: Option<String>,
    pub(crate) ca: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) expires_wall_ms: Option<u64>,
}

impl From<wire::HistoryLine> for HistoryLineView {
    fn from(line: wire::HistoryLine) -> Self {
        Self {
            number: line.number,
            wall_ms: line.wall_ms,
            who: line.who,
            kind: line.kind,
            fleet: some(line.fleet),
            instance: some(line.instance),
            text: line.text,
            hash: line.hash,
        }
    }
}

impl From<wire::Image> for ImageView {
    fn from(image: wire::Image) -> Self {
        Self {
            image: image.image,
            digest: image.digest,
            location: image.location,
            provider: image.provider,
            added_wall_ms: image.added_wall_ms,
            added_by: image.added_by,
            instances: image.instances,
            veto: image.veto.map(Into::into),
        }
    }
}

impl From<wire::OperatorEntry> for OperatorView {
    fn from(operator: wire::OperatorEntry) -> Self {
        Self {
            name: operator.name,
            role: operator.role,
            added_wall_ms: operator.added_wall_ms,
            expires_wall_ms: operator.expires_wall_ms,
            revoked: operator.revoked,
        }
    }
}

impl CaView {
    /// The CAs of `environment`.
    pub(crate) fn new(environment: String, reply: wire::ShowCaReply) -> Self {
        let trusted = reply.trusted.into_iter().map(|ca| TrustedCaView {
            fingerprint: ca.fingerprint,
            from_wall_ms: ca.from_wall_ms,
            until_wall_ms: ca.until_wall_ms,
        });
        Self {
            environment,
            trusted: trusted.collect(),
            ca_pem: reply.ca_pem,
            not_renewed: reply.not_renewed,
        }
    }
}

impl CheckView {
    /// A check that the coordinator made.
    pub(crate) fn of_coordinator(check: wire::DoctorCheck) -> Self {
        Self {
            side: "coordinator".to_owned(),
            name: check.name,
            ok: check.ok,
            found: check.found,
            advice: some(check.advice),
        }
    }
}
