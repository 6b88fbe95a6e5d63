//! How an image is replaced, how an instance is drained, and how what is lost is repaired.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{amount::Amount, window::Window};
use crate::duration::HumanDuration;

/// How an image is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplacePolicy {
    /// Instances of one wave: a number, a share such as `"20%"`, or `"100%"` for the whole set.
    pub surge: Amount,
    /// Instances that may be missing while it is replaced: with a surge of zero, those that make
    /// room first.
    pub unavailable: Amount,
    /// Greens of each zone that go first, alone, and soak for `canary_soak`; zero for none.
    pub canary: u32,
    /// How long the first greens must be healthy without a break, where there is a canary.
    pub canary_soak: HumanDuration,
    /// How long every green must be healthy without a break before traffic is switched to it.
    pub min_healthy: HumanDuration,
    /// How long one instance may take to become healthy.
    pub healthy_deadline: HumanDuration,
    /// How long a rollout may go without an instance that becomes healthy.
    pub progress_deadline: HumanDuration,
    /// How long blue goes on serving after the switch: the names' TTL and a margin.
    pub settle: HumanDuration,
    /// How long it may take, beyond `settle`, until blue's connections are few and every agent
    /// serves the new names.
    pub settle_max: HumanDuration,
    /// What to do when `settle_max` is up.
    pub on_settle_timeout: OnSettleTimeout,
    /// How long blue is kept warm after the switch.
    pub bake: HumanDuration,
    /// Greens that may fail and be made again before the rollout is given up.
    pub max_instance_failures: u32,
    /// How long the greens of a failed first rollout are kept, to be looked at.
    pub keep_failed: HumanDuration,
    /// Where a person decides.
    pub approve: Vec<Gate>,
    /// How many persons must approve at each gate.
    pub approvals: u32,
    /// Who may approve.
    pub approver: Approver,
    /// How long a person is waited for, at a gate or while paused, before the rollout goes back.
    pub approval_timeout: HumanDuration,
    /// When rollouts may start and switch; at any time if there is none.
    pub windows: Vec<Window>,
}

impl Default for ReplacePolicy {
    fn default() -> Self {
        Self {
            surge: Amount::Percent(100),
            unavailable: Amount::ZERO,
            canary: 0,
            canary_soak: HumanDuration::from_secs(300),
            min_healthy: HumanDuration::from_secs(10),
            healthy_deadline: HumanDuration::from_secs(300),
            progress_deadline: HumanDuration::from_secs(600),
            settle: HumanDuration::from_secs(10),
            settle_max: HumanDuration::from_secs(300),
            on_settle_timeout: OnSettleTimeout::GoOn,
            bake: HumanDuration::from_secs(600),
            max_instance_failures: 0,
            keep_failed: HumanDuration::from_secs(3_600),
            approve: Vec::new(),
            approvals: 1,
            approver: Approver::Anyone,
            approval_timeout: HumanDuration::from_secs(24 * 3_600),
            windows: Vec::new(),
        }
    }
}

/// Where a person decides whether a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Before traffic is switched to green.
    Switch,
    /// Before blue drains and is deleted.
    Retire,
}

/// Who may approve a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approver {
    /// Anyone who may change fleets, also who started it.
    Anyone,
    /// Anyone but who started it.
    Other,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Switch => "switch",
            Self::Retire => "retire",
        })
    }
}

/// What to do when connections to blue outlive `settle_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSettleTimeout {
    /// Tell blue to stand by all the same.
    GoOn,
    /// Wait for a person, and say so.
    Hold,
}

/// How an instance is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainPolicy {
    /// How long an instance may take to finish what it has.
    pub timeout: HumanDuration,
    /// What to do when it is up.
    pub on_timeout: OnDrainTimeout,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::from_secs(60),
            on_timeout: OnDrainTimeout::Force,
        }
    }
}

/// What to do with an instance that is not drained in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrainTimeout {
    /// Retire it all the same.
    Force,
    /// Wait for a person, and say so.
    Hold,
    /// Go back to the old image, while it is there.
    Back,
}

/// How what is lost is repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepairPolicy {
    /// Without word from a machine on any path, and without its provider saying that it is gone:
    /// how long until it counts as lost, while most others answer.
    pub silent_after: HumanDuration,
    /// Agent gone but workload reachable: how long until it is replaced, one at a time.
    pub unmanaged_after: HumanDuration,
    /// Unhealthy for longer than this is replaced.
    pub repair_after: HumanDuration,
    /// How many must go on serving whatever is replaced; `count` less `unavailable` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_serving: Option<u32>,
    /// Instances of one image that may fail in a row, while nothing that they depend on was away,
    /// before the image is vetoed.
    pub image_failures: u32,
    /// Whether repairs stop when too many fail at once.
    pub meltdown: MeltdownPolicy,
}

/// When so many fail at once that the cause is probably not theirs: both limits must be passed
/// within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeltdownPolicy {
    /// At least this many.
    pub count: u32,
    /// At least this share of the fleet, in percent.
    pub percent: u8,
    /// Within this time.
    pub window: HumanDuration,
}

impl Default for MeltdownPolicy {
    fn default() -> Self {
        Self {
            count: 3,
            percent: 30,
            window: HumanDuration::from_secs(600),
        }
    }
}

/// How much of a fleet, or of an environment, may change at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetPolicy {
    /// Machines that are being made at the same time; no bound if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// Machines that may be deleted within `window`; no bound if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u32>,
    /// For `deletions`.
    pub window: BudgetWindow,
}

/// Time over which deletions are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BudgetWindow(pub HumanDuration);

impl Default for BudgetWindow {
    fn default() -> Self {
        Self(HumanDuration::from_secs(600))
    }
}

impl Default for RepairPolicy {
    fn default() -> Self {
        Self {
            silent_after: HumanDuration::from_secs(300),
            unmanaged_after: HumanDuration::from_secs(900),
            repair_after: HumanDuration::from_secs(300),
            min_serving: None,
            image_failures: 3,
            meltdown: MeltdownPolicy::default(),
        }
    }
}
