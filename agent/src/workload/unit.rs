//! What the runner runs beside the workload: processes with a name, such as the machine's Consul
//! client. They are started, kept running and stopped like the workload, and outlive the agent.

use std::{fmt, str::FromStr};

use calvin_model::WorkloadState;
use serde::{Deserialize, Serialize};

use super::protocol::End;

/// Longest name: it is part of a file's name, and people read it.
const NAME_MAX: usize = 32;
/// Names whose log would be somebody else's file.
const TAKEN: [&str; 3] = ["agent", "console", "init"];

/// The name of a unit: a-z, 0-9 and inner hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

/// Why a text is not the name of a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be the name of a unit")]
pub struct UnitNameError {
    /// The text, cut to its first 80 characters.
    pub text: String,
}

impl UnitName {
    /// That of the machine's Consul client.
    #[must_use]
    pub fn consul() -> Self {
        Self("consul".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = UnitNameError;

    fn from_str(text: &str) -> Result<Self, UnitNameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = !text.is_empty()
            && text.len() <= NAME_MAX
            && text.chars().all(plain)
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !TAKEN.contains(&text);
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(UnitNameError {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl TryFrom<String> for UnitName {
    type Error = UnitNameError;

    fn try_from(text: String) -> Result<Self, UnitNameError> {
        text.parse()
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A unit as its runner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// What it is doing, in the words for the workload.
    pub state: WorkloadState,
    /// Its process, while there is one.
    pub pid: Option<i32>,
    /// How often it was started in this boot.
    pub starts: u64,
    /// How it ended last in this boot.
    pub last_end: Option<End>,
    /// Why it could not be started, last.
    pub fault: Option<String>,
    /// Time until it is started again, milliseconds; while it waits for that.
    pub restart_in_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_no_other_file_of_the_machine_has() {
        assert_eq!("consul".parse(), Ok(UnitName::consul()));
        for good in ["consul", "io-2", "x"] {
            assert_eq!(good.parse::<UnitName>().unwrap().as_str(), good);
        }
        for bad in [
            "", "-a", "a-", "../a", "A", "console", "agent", "init", "a b",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(33).parse::<UnitName>().is_err());
    }
}
