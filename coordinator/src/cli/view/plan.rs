//! What would be, and what was changed.

use calvin_proto::wire;
use serde::Serialize;

use super::{each, some};

/// `PlanRolloutReply`, with what it was asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PlanView {
    pub(crate) environment: String,
    pub(crate) fleet: String,
    pub(crate) plan: String,
    pub(crate) from: Option<String>,
    pub(crate) to: String,
    pub(crate) steps: Vec<PlanStepView>,
    pub(crate) peak_extra: u32,
    pub(crate) waves: u32,
    pub(crate) duration_min_ms: u64,
    pub(crate) duration_max_ms: u64,
    pub(crate) ways_back: Vec<WayBackView>,
    pub(crate) nothing: Option<String>,
    /// What is in its way now.
    pub(crate) remarks: Vec<String>,
    pub(crate) next: Option<String>,
}

/// `PlanStep`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PlanStepView {
    pub(crate) wave: u32,
    pub(crate) instance: Option<String>,
    pub(crate) action: String,
    pub(crate) reason: String,
}

/// `WayBack`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WayBackView {
    pub(crate) phase: String,
    pub(crate) text: String,
}

/// `ChangeReply`, with where it was changed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChangeView {
    pub(crate) environment: String,
    pub(crate) lines: Vec<String>,
    pub(crate) rollout: Option<String>,
    pub(crate) next: Option<String>,
}

impl PlanView {
    /// The plan for `fleet`; `next` is the command that starts it.
    pub(crate) fn new(environment: String, fleet: String, reply: wire::PlanRolloutReply) -> Self {
        Self {
            environment,
            fleet,
            plan: reply.plan,
            from: some(reply.from),
            to: reply.to,
            steps: each(reply.steps),
            peak_extra: reply.peak_extra,
            waves: reply.waves,
            duration_min_ms: reply.duration_min_ms,
            duration_max_ms: reply.duration_max_ms,
            ways_back: each(reply.ways_back),
            nothing: some(reply.nothing),
            remarks: reply.remarks,
            next: None,
        }
    }
}

impl From<wire::PlanStep> for PlanStepView {
    fn from(step: wire::PlanStep) -> Self {
        Self {
            wave: step.wave,
            instance: some(step.instance),
            action: step.action,
            reason: step.reason,
        }
    }
}

impl From<wire::WayBack> for WayBackView {
    fn from(way: wire::WayBack) -> Self {
        Self {
            phase: way.phase,
            text: way.text,
        }
    }
}

impl ChangeView {
    /// What was changed in `environment`.
    pub(crate) fn new(environment: String, reply: wire::ChangeReply) -> Self {
        Self {
            environment,
            lines: reply.lines,
            rollout: some(reply.rollout),
            next: some(reply.next),
        }
    }
}
