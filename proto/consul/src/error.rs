//! What can go wrong with a request to Consul, told apart by what one does about it.
//!
//! Consul answers with a status and a line of text, and most of what matters is in the text: a
//! server without a leader, a client without servers and a broken disk are all 500. The texts are
//! those of Consul 1.22 (`agent/structs/errors.go`, `acl/errors.go`, `agent/consul/rate`).

mod classify;
mod rule;

use std::{error::Error as StdError, time::Duration};

pub use classify::classify;
pub(crate) use classify::shown;
pub use rule::MissingRule;

use crate::names::InvalidName;

/// What was tried, on which object; why it failed is its source.
#[derive(Debug, thiserror::Error)]
#[error("could not {tried}")]
pub struct Error {
    /// Such as `read the health of service web`.
    pub tried: String,
    /// Why.
    #[source]
    pub reason: Reason,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Refused by this crate: nothing was sent.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// More than fits: nothing was sent.
    #[error("{text}")]
    TooLarge {
        /// How much, and how much fits.
        text: String,
    },
    /// What it names is not there (404).
    #[error("consul knows nothing of that name: {text}")]
    NotFound {
        /// What Consul said.
        text: String,
    },
    /// The token may not do this (403).
    #[error("the token may not do this{}", rule.as_ref().map(|rule| format!(": {rule}")).unwrap_or_else(|| format!(": {text}")))]
    Denied {
        /// The rule that is missing, where Consul named it.
        rule: Option<Box<MissingRule>>,
        /// What Consul said.
        text: String,
    },
    /// Part of the answer was left out, because the token may not see it. Such an answer looks
    /// exactly like one of an empty catalogue, so it is not given to anybody.
    #[error("consul left out what the token may not see; it needs {needs}")]
    Filtered {
        /// The rules that reading all of it takes.
        needs: &'static str,
    },
    /// The token itself is unknown: revoked, expired, or of another datacenter (403).
    #[error(
        "consul does not know the token: it was revoked, has expired, or is of another datacenter"
    )]
    UnknownToken,
    /// There is no leader, or no server can be reached by the Consul client that was asked.
    #[error("consul has no leader or no servers: {text}")]
    NoLeader {
        /// What Consul said.
        text: String,
    },
    /// A limit of requests or connections was reached (429, and 503 of the same limit).
    #[error("consul refuses more requests for now: {text}")]
    RateLimited {
        /// What Consul said.
        text: String,
    },
    /// No whole answer within the limit.
    #[error("no answer within {limit:?}")]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// No connection, or it broke: refused, reset, or TLS did not agree.
    #[error("could not talk to {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Consul refuses the request itself (another 4xx): too large, malformed, not allowed so.
    #[error("consul refuses the request with status {status}: {text}")]
    Refused {
        /// The status.
        status: u16,
        /// What Consul said.
        text: String,
    },
    /// Consul failed (another 5xx). Consul says 500 also to what it will never do, such as a token
    /// with an accessor that is taken: read the text.
    #[error("consul failed with status {status}: {text}")]
    Failed {
        /// The status.
        status: u16,
        /// What Consul said.
        text: String,
    },
    /// The answer is not what the documentation says.
    #[error("could not understand the answer")]
    Answer(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    pub(crate) fn new(tried: impl Into<String>, reason: impl Into<Reason>) -> Self {
        Self {
            tried: tried.into(),
            reason: reason.into(),
        }
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.reason, Reason::NotFound { .. })
    }

    /// The ACL rule that the token lacks, where Consul named one.
    #[must_use]
    pub fn missing_rule(&self) -> Option<&MissingRule> {
        if let Reason::Denied { rule, .. } = &self.reason {
            rule.as_deref()
        } else {
            None
        }
    }

    /// Whether the token is at fault: it may not, or is not known.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        match self.reason {
            Reason::Denied { .. } | Reason::Filtered { .. } | Reason::UnknownToken => true,
            Reason::Invalid(_)
            | Reason::TooLarge { .. }
            | Reason::NotFound { .. }
            | Reason::NoLeader { .. }
            | Reason::RateLimited { .. }
            | Reason::TimedOut { .. }
            | Reason::Unreachable { .. }
            | Reason::Refused { .. }
            | Reason::Failed { .. }
            | Reason::Answer(_) => false,
        }
    }

    /// Whether the same request may work later without anybody's doing. A write that failed so may
    /// have been done all the same: look before it is done again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.reason {
            Reason::NoLeader { .. }
            | Reason::RateLimited { .. }
            | Reason::TimedOut { .. }
            | Reason::Unreachable { .. } => true,
            // What stands before Consul says these; of a 500 nobody knows.
            Reason::Failed { status, .. } => (502..=504).contains(&status),
            Reason::Invalid(_)
            | Reason::TooLarge { .. }
            | Reason::NotFound { .. }
            | Reason::Denied { .. }
            | Reason::Filtered { .. }
            | Reason::UnknownToken
            | Reason::Refused { .. }
            | Reason::Answer(_) => false,
        }
    }
}
