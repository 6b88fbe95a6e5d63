//! Generation and epoch: the two numbers that make stale writers harmless.
//!
//! A *generation* only grows with each wanted state of one instance. An *epoch* grows with each
//! start of a coordinator. Agents keep the highest they have seen of both on disk and refuse what
//! is older, so a coordinator that was replaced, or woke up late, can no longer move anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::IdError;

/// Counts the wanted states of one instance, from 1. Zero means that none was seen.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of one coordinator process; random, so that two that took the same number differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Box<str>);

impl RunId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let hexadecimal = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if text.is_empty() || text.len() > 36 || !hexadecimal {
            return Err(IdError::Run {
                text: text.chars().take(80).collect(),
            });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for RunId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The coordinator that speaks: a number that grows with each start, and which run took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Grows with each start or change of leader; committed to the store before it is spoken.
    pub number: u64,
    /// The run that took the number.
    pub run: RunId,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (run {})", self.number, self.run)
    }
}

/// Why an agent does not listen to a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochRefusal {
    /// The speaker was replaced since.
    #[error("epoch {spoken} is older than epoch {seen}, which was seen already")]
    Older {
        /// What the speaker said.
        spoken: u64,
        /// The highest seen.
        seen: u64,
    },
    /// Two runs took the same number: one of them works on a copy of the store.
    #[error("epoch {number} is spoken by run {spoken}, but run {seen} has it already")]
    OtherRun {
        /// The number that both use.
        number: u64,
        /// Who speaks now.
        spoken: RunId,
        /// Who spoke first.
        seen: RunId,
    },
}

impl Epoch {
    /// Says whether one who has seen `self` may listen to `spoken`.
    ///
    /// # Errors
    /// An older number, or an equal one with another run id, is refused.
    pub fn admit(&self, spoken: &Epoch) -> Result<(), EpochRefusal> {
        if spoken.number < self.number {
            return Err(EpochRefusal::Older {
                spoken: spoken.number,
                seen: self.number,
            });
        }
        if spoken.number == self.number && spoken.run != self.run {
            return Err(EpochRefusal::OtherRun {
                number: spoken.number,
                spoken: spoken.run.clone(),
                seen: self.run.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u64, run: &str) -> Epoch {
        Epoch {
            number,
            run: run.parse().unwrap(),
        }
    }

    #[test]
    fn an_older_epoch_and_an_equal_one_of_another_run_are_refused() {
        let seen = epoch(5, "aa");
        assert!(seen.admit(&epoch(5, "aa")).is_ok());
        assert!(seen.admit(&epoch(6, "bb")).is_ok());
        assert_eq!(
            seen.admit(&epoch(4, "aa")),
            Err(EpochRefusal::Older { spoken: 4, seen: 5 })
        );
        assert!(matches!(
            seen.admit(&epoch(5, "bb")),
            Err(EpochRefusal::OtherRun { .. })
        ));
    }
}
