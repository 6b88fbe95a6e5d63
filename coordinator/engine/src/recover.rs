//! Recovering: what is done with a store that is behind the world, or may be.
//!
//! A copy of a store and a restored backup know the past. What happened since, a whole rollout
//! perhaps, is not in them: deciding from them would delete what serves now. So such a coordinator
//! only looks and listens. It compares its records with what agents say and machines' tags tell,
//! shows the difference as a plan in words, and when a person approves exactly that plan, takes
//! numbers above all that were seen, takes into its records what serves, and decides again.
//!
//! Nothing is deleted by any of it. What is not taken over is left alone and shown; what is on
//! record and not there is left to the ordinary repair, as far as the fleet needs it.

mod compare;
mod mode;
mod numbers;
mod settle;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use calvin_model::{Digest, Epoch, FleetName, ImageRef, InstanceId};
use calvin_planner::{Build, FleetState, MachineState, Moment};
use serde::{Deserialize, Serialize};

use crate::ports::{AgentHeard, MachineTag, Recovering};

pub use compare::compare;
pub(crate) use mode::{Recovery, taken_while_recovering};
pub use numbers::{BELIEVABLE_MAX, MARGIN};

/// For how long running machines whose agents were not heard yet are waited for, before a plan
/// that leaves them out may be approved. Agents come back with pauses of at most 10 s.
pub const LISTEN: Duration = Duration::from_secs(30);

/// All that a plan rests on.
#[derive(Debug, Clone)]
pub struct World<'a> {
    /// The epoch that this run took.
    pub epoch: &'a Epoch,
    /// The decision clock, which stands still meanwhile.
    pub moment: Moment,
    /// The records.
    pub fleets: &'a BTreeMap<FleetName, FleetState>,
    /// Every machine with our tag.
    pub machines: BTreeMap<InstanceId, Found>,
    /// The providers of `calvin.toml`, and whether each has listed its machines completely.
    pub providers: BTreeMap<String, Listed>,
    /// What agents said.
    pub agents: BTreeMap<InstanceId, AgentHeard>,
    /// Images that machines' tags name, as far as they are recorded.
    pub images: BTreeMap<ImageRef, KnownImage>,
    /// For how long agents could be heard.
    pub listening_for: Duration,
}

/// Whether a provider has listed its machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Its list is complete.
    Completely,
    /// It has not answered in this run.
    NotYet,
}

/// A machine with our tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose list it is in.
    pub provider: String,
    /// Its state there.
    pub state: MachineState,
    /// What its tag says, where the provider can tell.
    pub tag: Option<MachineTag>,
}

/// An image that is recorded here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownImage {
    /// What the planner knows of it.
    pub build: Build,
    /// Digest of its `image.toml`.
    pub manifest: Option<Digest>,
    /// The build id in it.
    pub build_id: Option<String>,
}

/// What becomes of one instance, or of a fleet as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It cannot be taken over as it is.
    Conflict,
    /// It serves from an image that is not recorded here.
    UnknownImage,
    /// It serves in a fleet that has no record here.
    UnknownFleet,
    /// The fleet's record changes.
    Change,
    /// It serves without a record, and gets one.
    Adopt,
    /// It stays as it is on record.
    Keep,
    /// It is on record and not there: the ordinary repair judges it.
    Missing,
    /// It is on record and not there, and not needed: its record goes.
    Forget,
    /// It is there and does not serve: it is left alone.
    Stray,
}

impl Verdict {
    /// Whether a person must do something before the plan can be approved.
    #[must_use]
    pub const fn blocks(self) -> bool {
        match self {
            Self::Conflict | Self::UnknownImage | Self::UnknownFleet => true,
            Self::Change
            | Self::Adopt
            | Self::Keep
            | Self::Missing
            | Self::Forget
            | Self::Stray => false,
        }
    }

    /// The word for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::UnknownImage => "unknown_image",
            Self::UnknownFleet => "unknown_fleet",
            Self::Change => "change",
            Self::Adopt => "adopt",
            Self::Keep => "keep",
            Self::Missing => "missing",
            Self::Forget => "forget",
            Self::Stray => "stray",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The fleet.
    pub fleet: FleetName,
    /// The instance; `None` where it is about the fleet as a whole.
    pub instance: Option<InstanceId>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What was found, for people.
    pub found: String,
    /// What the approval does, for people.
    pub then: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fleet,
            instance,
            verdict,
            found,
            then,
        } = self;
        match instance {
            Some(instance) => write!(f, "{verdict} {instance}: {found}; {then}"),
            None => write!(f, "{verdict} fleet {fleet}: {found}; {then}"),
        }
    }
}

/// How the world differs from the records, and what an approval makes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// A hash of all of it: an approval names it, and holds for nothing else.
    pub id: String,
    /// Each fleet and each instance, in this order.
    pub findings: Vec<Finding>,
    /// What is waited for before it can be approved.
    pub waits: Vec<String>,
    /// The highest epoch that was seen anywhere.
    pub epoch_seen: u64,
    /// The epoch that is taken.
    pub epoch_next: u64,
    /// Every fleet as it is from then on.
    pub fleets: BTreeMap<FleetName, FleetState>,
    /// Instances whose identity is taken over as they showed it.
    pub identities: BTreeSet<InstanceId>,
}

impl Difference {
    /// The findings that a person must do something about first.
    pub fn blocked(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.verdict.blocks())
    }

    /// How many findings have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        let same = |finding: &&Finding| finding.verdict == verdict;
        self.findings.iter().filter(same).count()
    }
}

/// What operators are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryView {
    /// Why, and since when.
    pub recovering: Recovering,
    /// The newest difference; empty until the first look.
    pub difference: Difference,
}

/// A person's word on a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The plan's id.
    pub plan: String,
    /// Why it is right, for the history.
    pub reason: String,
    /// What is to become of what blocks it.
    pub blocked: WhatBlocks,
}

/// What an approval says of what blocks the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhatBlocks {
    /// Nothing may.
    Refuses,
    /// It is left alone, outside of fleets and names, and what is waited for is not.
    IsLeftAlone,
}

/// Why an approval is not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryRefusal {
    /// There is nothing to approve.
    #[error("this coordinator does not recover: there is no plan to approve")]
    NotRecovering,
    /// Another difference is found now.
    #[error(
        "plan {plan} no longer holds, {now} does: {changed}; look at it with calvin recover show"
    )]
    PlanChanged {
        /// The plan that was to be approved.
        plan: String,
        /// The one that is found now.
        now: String,
        /// What is different.
        changed: String,
    },
    /// Something must be done first.
    #[error(
        "plan {plan} cannot be approved: {what}; do what calvin recover show says of it, or leave it alone as it is with --leave-blocked"
    )]
    Blocked {
        /// The plan.
        plan: String,
        /// What blocks it.
        what: String,
    },
    /// It is too early.
    #[error("plan {plan} cannot be approved yet: {what}")]
    TooEarly {
        /// The plan.
        plan: String,
        /// What is waited for.
        what: String,
    },
    /// The identities could not be kept.
    #[error("plan {plan} is not approved: {why}")]
    NotAdopted {
        /// The plan.
        plan: String,
        /// Why not.
        why: String,
    },
}
