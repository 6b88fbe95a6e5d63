//! Why nothing more was planned. Shown to operators as it is.

mod rests;

use std::{collections::BTreeMap, time::Duration};

use calvin_model::InstanceId;
use serde::{Deserialize, Serialize};

pub use rests::RestsOn;

use crate::phase::Phase;

/// What a fleet is doing, what it waits for, and what holds it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a report that nobody reads is not actionable"]
pub struct FleetReport {
    /// The phase of the running rollout.
    pub phase: Option<Phase>,
    /// How many instances serve: healthy or only unmanaged, and found by clients.
    pub serving: u32,
    /// How many should.
    pub wanted: u32,
    /// What is waited for, the most pressing first.
    pub waiting: Vec<Waiting>,
    /// What is held back, by which rule.
    pub blocked: Vec<Blocked>,
    /// One word and one sentence for each instance.
    pub instances: BTreeMap<InstanceId, InstanceReport>,
}

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What for, one sentence: `web-abc is unhealthy: http answers 503`.
    pub what: String,
    /// How long already.
    pub since: Duration,
    /// Time until the deadline that ends the wait, and what happens then.
    pub until: Option<(Duration, String)>,
}

/// One thing that is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// What is not done, one sentence.
    pub what: String,
    /// The rule that it would break, by the invariant's name.
    pub rule: String,
    /// The fact that it rests on, with its age.
    pub fact: String,
}

/// How one instance is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// The judgement.
    pub class: InstanceClass,
    /// Why, one sentence.
    pub text: String,
    /// How long it has been so already, as far as can be told.
    pub since: Duration,
    /// What it waits for, unless it is as it should be.
    pub waits: Option<Waiting>,
    /// The observations that this rests on.
    pub rests_on: RestsOn,
}

/// How the planner judges an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceClass {
    /// On its way: no report yet.
    Starting,
    /// Fresh and healthy.
    Healthy,
    /// Fresh and unhealthy.
    Unhealthy,
    /// Nothing fresh is known.
    Unknown,
    /// Its agent is gone, its workload answers.
    Unmanaged,
    /// Gone, by two sources of different kinds.
    Lost,
    /// Being drained or removed.
    Leaving,
}

impl InstanceClass {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Healthy,
        Self::Unhealthy,
        Self::Unknown,
        Self::Unmanaged,
        Self::Lost,
        Self::Leaving,
    ];
}
