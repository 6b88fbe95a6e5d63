//! What persons say about rollouts: who paused one, who approved one and at which gate, and what may
//! be skipped. Durable, as part of the rollout.

use calvin_model::fleet::{Approver, Gate, ReplacePolicy};
use serde::{Deserialize, Serialize};

use crate::{environment::Order, moment::Moment};

/// A person holds a rollout where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who, as the audit names operators.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when, on the decision clock.
    pub since: Moment,
    /// Since when, in milliseconds since 1970 UTC.
    pub wall_ms: u64,
}

/// A person lets a rollout pass a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Which gate.
    pub gate: Gate,
    /// Who, as the audit names operators.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970 UTC.
    pub wall_ms: u64,
}

/// Where a rollout asks for persons: the fleet's policy when the rollout started. A spec that is
/// changed while it runs lifts no gate of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// The gates.
    pub at: Vec<Gate>,
    /// How many persons must approve at each.
    pub approvals: u32,
    /// Who may.
    pub approver: Approver,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            at: Vec::new(),
            approvals: 1,
            approver: Approver::Anyone,
        }
    }
}

impl Gates {
    /// Of a rollout that starts under this policy.
    #[must_use]
    pub fn of(policy: &ReplacePolicy) -> Self {
        Self {
            at: policy.approve.clone(),
            approvals: policy.approvals,
            approver: policy.approver,
        }
    }

    /// How many more persons must approve at a gate, of those that did.
    #[must_use]
    pub fn missing(&self, gate: Gate, approvals: &[Approval]) -> u32 {
        if !self.at.contains(&gate) {
            return 0;
        }
        let given = approvals.iter().filter(|one| one.gate == gate).count();
        self.approvals
            .saturating_sub(u32::try_from(given).unwrap_or(u32::MAX))
    }
}

/// A person does not want to wait for the rest of a wave's soak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Who, why and when.
    pub order: Order,
    /// The wave whose soak is skipped, from 0.
    pub wave: u32,
}

/// Whether a rollout brings something new, or back what served before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Something new: a freeze and a closed window hold it.
    #[default]
    Forward,
    /// The way back that the planner goes by itself, after earlier waves: nothing but a freeze of
    /// everything holds it, and it asks nobody.
    Back,
}

/// Since when deadlines stand still, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Since when.
    pub since: Moment,
    /// Whose.
    pub whose: Whose,
}

/// Whose deadlines stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The running rollout's, with its sets.
    Rollout,
    /// Everything's in the fleet.
    Fleet,
}

impl Standing {
    /// A moment of the past, moved on by the part of the hold that came after it, so that as much
    /// time has gone since it as had when the hold began.
    #[must_use]
    pub fn moved(self, moment: Moment, now: Moment) -> Moment {
        moment.after(now.since(moment.max(self.since)))
    }

    /// A deadline, moved on by the whole hold.
    #[must_use]
    pub fn later(self, deadline: Moment, now: Moment) -> Moment {
        deadline.after(now.since(self.since))
    }
}
