//! `FLEET.toml`: how many instances of which image, on which provider, and how to replace them.
//! Written by the operator, kept in git.

pub mod amount;
pub mod policy;
pub mod window;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    config::{ConfigError, parse_toml},
    image::ImageTag,
    name::{FleetName, LimitName, ZoneName},
};

pub use amount::{Amount, AmountError};
pub use policy::{
    Approver, BudgetPolicy, DrainPolicy, Gate, MeltdownPolicy, OnDrainTimeout, OnSettleTimeout,
    RepairPolicy, ReplacePolicy,
};
pub use window::{Window, WindowError};

/// Most instances of one fleet. Ten times what the planner's bench plans in one pass of 100 ms.
pub const COUNT_MAX: u32 = 10_000;

/// The content of `FLEET.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetSpec {
    /// The fleet's name.
    pub name: FleetName,
    /// The image that its instances are made from.
    pub image: ImageTag,
    /// How many serve.
    pub count: u32,
    /// Which provider of `calvin.toml` makes its machines.
    #[serde(default = "default_provider")]
    pub provider: String,
    /// What its instances may do at the same time.
    #[serde(default)]
    pub kind: FleetKind,
    /// The zones that its instances are spread over; one that nobody names if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneName>,
    /// Fleets that must serve what they should before this one begins anything new: a rollout, more
    /// instances, the replacement of one that is unhealthy. What is lost is made again all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<FleetName>,
    /// What each instance takes of the environment's limits, such as licences or connections.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uses: BTreeMap<LimitName, u32>,
    /// How an image is replaced.
    #[serde(default)]
    pub replace: ReplacePolicy,
    /// How an instance is drained.
    #[serde(default)]
    pub drain: DrainPolicy,
    /// How what is lost is repaired.
    #[serde(default)]
    pub repair: RepairPolicy,
    /// How much of it may change at once.
    #[serde(default)]
    pub budget: BudgetPolicy,
}

/// What the instances of a fleet may do at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FleetKind {
    /// They are interchangeable, and all serve.
    #[default]
    Service,
    /// Never two may be active: what serves is stopped first, then another starts.
    Exclusive,
    /// They vote: one is replaced at a time, while all others are healthy and know enough voters.
    Quorum,
}

impl fmt::Display for FleetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Service => "service",
            Self::Exclusive => "exclusive",
            Self::Quorum => "quorum",
        })
    }
}

fn default_provider() -> String {
    "process".to_owned()
}

impl FleetSpec {
    /// Reads `FLEET.toml`.
    ///
    /// # Errors
    /// What TOML, types or contradictions between keys refuse, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let spec: Self = parse_toml(file, text)?;
        spec.check()
            .map_err(|(key, message)| ConfigError::about(file, text, key, message))?;
        Ok(spec)
    }

    /// Checks what types cannot: the key that is wrong, and why.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.count == 0 || self.count > COUNT_MAX {
            return Err((
                "count",
                format!("count {} must be from 1 to {COUNT_MAX}", self.count),
            ));
        }
        self.check_sums()?;
        self.check_people()?;
        self.check_kind()?;
        let replace = &self.replace;
        if replace.healthy_deadline <= replace.min_healthy {
            return Err((
                "healthy_deadline",
                format!(
                    "healthy_deadline {} must be above min_healthy {}, or no instance can ever pass",
                    replace.healthy_deadline, replace.min_healthy
                ),
            ));
        }
        if replace.progress_deadline < replace.healthy_deadline {
            return Err((
                "progress_deadline",
                format!(
                    "progress_deadline {} must not be below healthy_deadline {}",
                    replace.progress_deadline, replace.healthy_deadline
                ),
            ));
        }
        Ok(())
    }

    /// How many must go on serving whatever is replaced: `min_serving`, or else what `unavailable`
    /// leaves of the count.
    #[must_use]
    pub fn min_serving(&self) -> u32 {
        let may_miss = self.replace.unavailable.of_at_most(self.count);
        let least = self.count.saturating_sub(may_miss);
        self.repair.min_serving.unwrap_or(least)
    }

    /// Keys that contradict, so that no replacement could ever begin.
    fn check_sums(&self) -> Result<(), (&'static str, String)> {
        let (count, replace) = (self.count, &self.replace);
        let (surge, unavailable) = (
            replace.surge.of(count),
            replace.unavailable.of_at_most(count),
        );
        if surge == 0 && unavailable == 0 {
            let text = format!(
                "surge {} and unavailable {} are both none of {count}: nothing could ever be replaced",
                replace.surge, replace.unavailable
            );
            return Err(("surge", text));
        }
        if let Some(least) = self.repair.min_serving {
            if least > count {
                let text = format!("min_serving {least} must not be above count {count}");
                return Err(("min_serving", text));
            }
            if surge == 0 && least > count - unavailable {
                let text = format!(
                    "min_serving {least} leaves no room: with surge 0, unavailable {} takes {unavailable} of count {count}",
                    replace.unavailable
                );
                return Err(("min_serving", text));
            }
        }
        let zones = u32::try_from(self.zones.len()).unwrap_or(u32::MAX).max(1);
        if replace.canary.saturating_mul(zones) > count {
            let text = format!(
                "canary {} in each of {zones} zones must not be above count {count}",
                replace.canary
            );
            return Err(("canary", text));
        }
        let meltdown = &self.repair.meltdown;
        if meltdown.count == 0 || meltdown.percent > 100 {
            let text = format!(
                "meltdown needs a count above 0 and a percent up to 100, not {} and {}",
                meltdown.count, meltdown.percent
            );
            return Err(("meltdown", text));
        }
        if self.repair.image_failures == 0 {
            let text = "image_failures must be above 0, or every image would be vetoed";
            return Err(("image_failures", text.to_owned()));
        }
        for (key, bound) in [
            ("in_flight", self.budget.in_flight),
            ("deletions", self.budget.deletions),
        ] {
            if bound == Some(0) {
                let text = format!("{key} must be above 0: leave it out for no bound");
                return Err((key, text));
            }
        }
        if self.uses.values().any(|amount| *amount == 0) {
            let text = "what an instance uses of a limit must be above 0: leave it out for none";
            return Err(("uses", text.to_owned()));
        }
        Ok(())
    }

    /// Keys about who decides, and when.
    fn check_people(&self) -> Result<(), (&'static str, String)> {
        let replace = &self.replace;
        if replace.approvals == 0 || replace.approvals > APPROVALS_MAX {
            let text = format!(
                "approvals {} must be from 1 to {APPROVALS_MAX}: to need none, leave approve empty",
                replace.approvals
            );
            return Err(("approvals", text));
        }
        if !replace.approve.is_empty() && replace.approval_timeout.0.is_zero() {
            let text = "approval_timeout must be above 0s where approve names a gate";
            return Err(("approval_timeout", text.to_owned()));
        }
        if replace.approve.contains(&Gate::Retire) && replace.surge.of(self.count) == 0 {
            let text = format!(
                "approve asks before blue is deleted, and with surge {} blue is deleted first: leave \"retire\" out of approve, or give surge",
                replace.surge
            );
            return Err(("approve", text));
        }
        if has_twins(&replace.approve) {
            let text = "approve names a gate twice";
            return Err(("approve", text.to_owned()));
        }
        if has_twins(&self.zones) {
            return Err(("zones", "zones names a zone twice".to_owned()));
        }
        if self.after.contains(&self.name) {
            let text = format!("fleet {} cannot come after itself", self.name);
            return Err(("after", text));
        }
        Ok(())
    }

    /// Keys that a kind of fleet does not go with.
    fn check_kind(&self) -> Result<(), (&'static str, String)> {
        let replace = &self.replace;
        match self.kind {
            FleetKind::Service => Ok(()),
            FleetKind::Exclusive => {
                if self.count == 1 && replace.canary == 0 {
                    return Ok(());
                }
                let text = format!(
                    "kind \"exclusive\" means one active instance: count {} must be 1 and canary {} must be 0",
                    self.count, replace.canary
                );
                Err(("kind", text))
            }
            FleetKind::Quorum => {
                if replace.canary == 0 && replace.unavailable.is_zero() {
                    return Ok(());
                }
                let text = format!(
                    "kind \"quorum\" replaces one member at a time, the new one first: canary {} and unavailable {} must be 0",
                    replace.canary, replace.unavailable
                );
                Err(("kind", text))
            }
        }
    }
}

/// Most persons that can be asked for.
const APPROVALS_MAX: u32 = 10;

fn has_twins<T: PartialEq>(list: &[T]) -> bool {
    list.iter()
        .enumerate()
        .any(|(at, one)| list.iter().skip(at + 1).any(|other| other == one))
}

#[cfg(test)]
mod tests;
