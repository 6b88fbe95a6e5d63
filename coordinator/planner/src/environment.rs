//! What holds for all fleets of an environment together: what people ordered, durable, and what
//! `calvin.toml` says, which is read at each start.

use std::{collections::BTreeMap, fmt};

use calvin_model::{LimitName, ZoneName, fleet::BudgetPolicy, image::ImageTag};
use serde::{Deserialize, Serialize};

use crate::wall::date;

/// What was decided for an environment as a whole. Durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentState {
    /// What must not begin now, in any fleet.
    #[serde(default)]
    pub freeze: Option<Freeze>,
    /// Images that nothing is made from any more.
    #[serde(default)]
    pub vetoes: BTreeMap<ImageTag, Order>,
    /// Zones that a person says are lost: capacity is made elsewhere, nothing is deleted there.
    #[serde(default)]
    pub lost_zones: BTreeMap<ZoneName, Order>,
}

impl EnvironmentState {
    /// Whether a person says that this zone is lost.
    #[must_use]
    pub fn has_lost(&self, zone: Option<&ZoneName>) -> bool {
        zone.is_some_and(|zone| self.lost_zones.contains_key(zone))
    }
}

/// Who ordered something, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who, as the audit names operators; [`PLANNER`](crate::PLANNER) for what nobody ordered.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970 UTC.
    pub wall_ms: u64,
}

/// What must not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// How much is held.
    pub scope: FreezeScope,
    /// When it ends by itself, in milliseconds since 1970 UTC; for `All`, always.
    pub until_wall_ms: Option<u64>,
    /// Who ordered it, when and why.
    pub order: Order,
}

impl Freeze {
    /// Who froze, until when and why, as the end of a sentence that says what is held.
    #[must_use]
    pub fn told(&self) -> String {
        let until = self.until_wall_ms.map_or_else(
            || "until somebody ends it".to_owned(),
            |until| format!("until {}", date(until)),
        );
        let Order { by, reason, .. } = &self.order;
        format!("frozen ({}) by {by} {until}: {reason}", self.scope)
    }
}

/// How much a freeze holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreezeScope {
    /// Nothing new starts; going back, repairs and renewals go on.
    New,
    /// Nothing is made, replaced or deleted at all.
    All,
}

impl fmt::Display for FreezeScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::All => "all",
        })
    }
}

/// What `calvin.toml` says that decisions rest on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRules {
    /// What is known of each provider.
    pub providers: BTreeMap<String, ProviderRules>,
    /// How much there is of what instances use, such as licences or connections.
    pub limits: BTreeMap<LimitName, u32>,
    /// How much may change at once, over all fleets.
    pub budget: BudgetPolicy,
}

/// What is known of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRules {
    /// Its zones; none if it does not tell any apart.
    pub zones: Vec<ZoneName>,
}

impl Freeze {
    /// Whether it holds at a moment of the wall clock.
    #[must_use]
    pub fn holds(&self, wall_ms: u64) -> bool {
        self.until_wall_ms.is_none_or(|until| wall_ms < until)
    }
}
