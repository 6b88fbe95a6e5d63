//! `FLEET.toml`: how many instances of which image, on which provider, and how to replace them.
//! Written by the operator, kept in git.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    config::{ConfigError, parse_toml},
    duration::HumanDuration,
    image::ImageTag,
    name::FleetName,
};

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
    /// How an image is replaced.
    #[serde(default)]
    pub replace: ReplacePolicy,
    /// How an instance is drained.
    #[serde(default)]
    pub drain: DrainPolicy,
    /// How what is lost is repaired.
    #[serde(default)]
    pub repair: RepairPolicy,
}

fn default_provider() -> String {
    "process".to_owned()
}

/// How an image is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplacePolicy {
    /// Instances of one wave: a number, a share such as `"20%"`, or `"100%"` for the whole set.
    pub surge: Surge,
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
}

impl Default for ReplacePolicy {
    fn default() -> Self {
        Self {
            surge: Surge::Percent(100),
            min_healthy: HumanDuration::from_secs(10),
            healthy_deadline: HumanDuration::from_secs(300),
            progress_deadline: HumanDuration::from_secs(600),
            settle: HumanDuration::from_secs(10),
            settle_max: HumanDuration::from_secs(300),
            on_settle_timeout: OnSettleTimeout::GoOn,
            bake: HumanDuration::from_secs(600),
            max_instance_failures: 0,
            keep_failed: HumanDuration::from_secs(3_600),
        }
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
}

impl Default for RepairPolicy {
    fn default() -> Self {
        Self {
            silent_after: HumanDuration::from_secs(300),
            unmanaged_after: HumanDuration::from_secs(900),
        }
    }
}

/// How many instances are replaced at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SurgeText", into = "SurgeText")]
pub enum Surge {
    /// This many.
    Count(NonZeroU32),
    /// This share of the fleet, 1 to 100, rounded up.
    Percent(u8),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SurgeText {
    Number(u32),
    Text(String),
}

/// Why a surge is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("surge {text} is not a number above 0 or a share from \"1%\" to \"100%\"")]
pub struct SurgeError {
    text: String,
}

impl Surge {
    /// Instances of one wave, for a fleet of `count`: at least one, at most all.
    #[must_use]
    pub fn of(self, count: u32) -> u32 {
        let wanted = match self {
            Self::Count(number) => number.get(),
            Self::Percent(share) => {
                let scaled = u64::from(count) * u64::from(share);
                u32::try_from(scaled.div_ceil(100)).unwrap_or(count)
            }
        };
        wanted.clamp(1, count.max(1))
    }
}

impl FromStr for Surge {
    type Err = SurgeError;

    fn from_str(text: &str) -> Result<Self, SurgeError> {
        let refusal = || SurgeError {
            text: format!("{:?}", text.chars().take(80).collect::<String>()),
        };
        if let Some(share) = text.strip_suffix('%') {
            let share: u8 = share.parse().map_err(|_| refusal())?;
            return if (1..=100).contains(&share) {
                Ok(Self::Percent(share))
            } else {
                Err(refusal())
            };
        }
        text.parse().map(Self::Count).map_err(|_| refusal())
    }
}

impl TryFrom<SurgeText> for Surge {
    type Error = SurgeError;

    fn try_from(text: SurgeText) -> Result<Self, SurgeError> {
        match text {
            SurgeText::Number(number) => {
                NonZeroU32::new(number)
                    .map(Self::Count)
                    .ok_or_else(|| SurgeError {
                        text: number.to_string(),
                    })
            }
            SurgeText::Text(text) => text.parse(),
        }
    }
}

impl From<Surge> for SurgeText {
    fn from(surge: Surge) -> Self {
        match surge {
            Surge::Count(number) => Self::Number(number.get()),
            Surge::Percent(_) => Self::Text(surge.to_string()),
        }
    }
}

impl fmt::Display for Surge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) => number.fmt(f),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_needs_only_name_image_and_count() {
        let spec = FleetSpec::parse(
            "web.toml",
            "name = \"web\"\nimage = \"web@1.0\"\ncount = 5\n",
        )
        .unwrap();
        assert_eq!(spec.replace, ReplacePolicy::default());
        assert_eq!(spec.replace.surge.of(spec.count), 5);
    }

    #[test]
    fn a_share_is_rounded_up_and_never_zero() {
        let of = |text: &str, count| text.parse::<Surge>().unwrap().of(count);
        assert_eq!(
            (of("20%", 5), of("20%", 1), of("1%", 3), of("50%", 3)),
            (1, 1, 1, 2)
        );
        assert_eq!((of("2", 5), of("9", 5), of("100%", 5)), (2, 5, 5));
        for bad in ["0", "0%", "101%", "-1", "x", ""] {
            assert!(bad.parse::<Surge>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_that_contradict_are_both_named() {
        let text =
            "name = \"web\"\nimage = \"web@1.0\"\ncount = 5\n[replace]\nmin_healthy = \"10m\"\n";
        let error = FleetSpec::parse("web.toml", text).unwrap_err().to_string();
        assert!(
            error.contains("healthy_deadline") && error.contains("min_healthy"),
            "{error}"
        );
    }
}
