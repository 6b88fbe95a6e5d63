//! Why something cannot be made or deleted now, for people.

use std::fmt;

use calvin_model::{HumanDuration, LimitName};

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// The fleet's own.
    Fleet,
    /// The environment's.
    Environment,
}

/// Why something cannot be made or deleted now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shortage {
    /// As many machines are being made as may be at the same time.
    InFlight {
        /// Whose budget.
        scope: Scope,
        /// How many are being made.
        making: u32,
        /// How many may be.
        bound: u32,
    },
    /// As many machines were deleted as may be within a time.
    Deletions {
        /// Whose budget.
        scope: Scope,
        /// How many were, or are about to be.
        done: u32,
        /// How many may be.
        bound: u32,
        /// Within which time.
        window: HumanDuration,
    },
    /// The provider has no more.
    Provider {
        /// Which one.
        name: String,
        /// How many it has that nobody has reserved.
        free: u32,
    },
    /// A declared limit is used up.
    Limit {
        /// Which one.
        name: LimitName,
        /// What is left of it.
        left: u64,
        /// Of how much.
        of: u32,
        /// How much each instance uses.
        each: u32,
    },
    /// Every zone of the fleet is lost.
    Zones,
}

impl Shortage {
    pub(super) fn in_flight(scope: Scope, making: u32, bound: u32) -> Self {
        Self::InFlight {
            scope,
            making,
            bound,
        }
    }

    pub(super) fn deletions(scope: Scope, done: u32, bound: u32, window: HumanDuration) -> Self {
        Self::Deletions {
            scope,
            done,
            bound,
            window,
        }
    }

    pub(super) fn provider(name: &str, free: u32) -> Self {
        let name = name.to_owned();
        Self::Provider { name, free }
    }

    pub(super) fn limit(name: &LimitName, left: u64, of: u32, each: u32) -> Self {
        let name = name.clone();
        Self::Limit {
            name,
            left,
            of,
            each,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fleet => "the fleet's",
            Self::Environment => "the environment's",
        })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight {
                scope,
                making,
                bound,
            } => write!(
                f,
                "{scope} budget in_flight is {bound}, and {making} are being made"
            ),
            Self::Deletions {
                scope,
                done,
                bound,
                window,
            } => write!(
                f,
                "{scope} budget is {bound} deletions in {window}, and {done} are taken"
            ),
            Self::Provider { name, free } => write!(f, "provider {name} has {free} free"),
            Self::Limit {
                name,
                left,
                of,
                each,
            } => write!(
                f,
                "limit {name} has {left} of {of} left, and each instance uses {each}"
            ),
            Self::Zones => f.pad("every zone of the fleet is lost"),
        }
    }
}
