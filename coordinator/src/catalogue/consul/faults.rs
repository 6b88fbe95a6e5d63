//! What cannot be done at Consul now, in words for people, and since when.
//!
//! Each vanishes when it works again. Trouble that may pass by itself is shown once it lasts.

mod board;

use std::{collections::BTreeSet, time::Duration};

use calvin_consul::{Error, MissingRule, Reason};
use calvin_engine::chain;
use tokio::time::Instant;

pub(super) use board::{About, Board, Show};

use crate::runtime::wall_ms_now;

/// A query that fails for longer than this is not a passing trouble.
pub(super) const FAILING_MAX: Duration = Duration::from_secs(15);

/// What one query failed with, last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// One sentence with its causes.
    pub(super) text: String,
    pub(super) kind: FaultKind,
    /// How long it has failed.
    pub(super) lasts: Duration,
}

/// What is to be done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// No leader, or no servers.
    NoLeader,
    /// The token lacks a rule that is known.
    Lacks,
    /// The token may not, or is not known.
    Denied,
    /// Too many requests.
    Limited,
    /// Somebody else changed it meanwhile.
    Disputed,
    /// Anything else: it may pass by itself.
    Other,
}

/// What failed last, and since when.
#[derive(Debug, Clone)]
pub(super) struct Failing {
    /// What was tried.
    tried: String,
    /// Why it failed, whatever it was about.
    why: String,
    kind: FaultKind,
    since: Since,
}

/// When something began: for how long it lasts, and for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    pub(super) at: Instant,
    pub(super) wall_ms: u64,
}

impl Since {
    pub(super) fn of(at: Instant) -> Self {
        let wall_ms = wall_ms_now();
        Self { at, wall_ms }
    }
}

impl FaultKind {
    pub(super) fn of(error: &Error) -> Self {
        match error.reason {
            Reason::NoLeader { .. } => Self::NoLeader,
            Reason::Denied { rule: Some(_), .. } => Self::Lacks,
            Reason::Denied { rule: None, .. } | Reason::Filtered { .. } | Reason::UnknownToken => {
                Self::Denied
            }
            Reason::RateLimited { .. } => Self::Limited,
            Reason::Invalid(_)
            | Reason::TooLarge { .. }
            | Reason::NotFound { .. }
            | Reason::TimedOut { .. }
            | Reason::Unreachable { .. }
            | Reason::Refused { .. }
            | Reason::Failed { .. }
            | Reason::Answer(_) => Self::Other,
        }
    }

    /// What a person does about it.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::NoLeader => {
                "look at Consul's servers (consul operator raft list-peers): most of them must run and reach each other"
            }
            Self::Lacks => {
                "`calvin consul policies coordinator` prints the whole policy: give it to the token in consul.token_file, or put another one into that file"
            }
            Self::Denied => {
                "give the token in consul.token_file what is missing, or put another one into that file"
            }
            Self::Limited => {
                "raise the limits of the Consul at consul.address for this address (limits.http_max_conns_per_client: two for each service that an instance on record has, and 20; limits.request_limits)"
            }
            Self::Disputed => {
                "look who else changes these services in Consul (consul catalog services, and the log of the coordinator)"
            }
            Self::Other => "look whether the Consul at consul.address runs and can be reached",
        }
    }

    /// Whether it is for a person to mend, however Consul is.
    fn is_denial(self) -> bool {
        match self {
            Self::Lacks | Self::Denied => true,
            Self::NoLeader | Self::Limited | Self::Disputed | Self::Other => false,
        }
    }

    /// Whether what lasts so long is waited for no longer.
    fn counts(self, lasts: Duration) -> bool {
        match self {
            Self::NoLeader | Self::Lacks | Self::Denied => true,
            Self::Limited | Self::Disputed | Self::Other => lasts > FAILING_MAX,
        }
    }
}

impl Fault {
    /// Whether it is waited for no longer.
    pub(super) fn counts(&self) -> bool {
        self.kind.counts(self.lasts)
    }

    pub(super) fn sentence(&self) -> String {
        format!("{}; {}", self.text, self.kind.advice())
    }
}

impl Failing {
    /// It failed again, or for the first time.
    pub(super) fn again(before: Option<&Self>, error: &Error, now: Instant) -> Self {
        Self {
            tried: error.to_string(),
            why: why(error),
            kind: FaultKind::of(error),
            since: Self::since(before, now),
        }
    }

    /// Consul did nothing of it, for this reason.
    fn stopped(before: Option<&Self>, why: &str, now: Instant) -> Self {
        Self {
            tried: String::new(),
            why: why.to_owned(),
            kind: FaultKind::Disputed,
            since: Self::since(before, now),
        }
    }

    fn since(before: Option<&Self>, now: Instant) -> Since {
        before.map_or_else(|| Since::of(now), |before| before.since)
    }

    pub(super) fn fault(&self) -> Fault {
        Fault {
            text: format!("{}: {}", self.tried, self.why),
            kind: self.kind,
            lasts: self.since.at.elapsed(),
        }
    }
}

/// Why it failed: a rule that is missing in plain words, and anything else with its causes.
fn why(error: &Error) -> String {
    match error.missing_rule() {
        Some(rule) => lacks(rule),
        None => chain(&error.reason),
    }
}

fn lacks(rule: &MissingRule) -> String {
    let MissingRule {
        resource, access, ..
    } = rule;
    let name = rule
        .name
        .as_ref()
        .map_or(String::new(), |name| format!(" {name}"));
    format!(
        "the coordinator's token may not {access} {resource}{name}: rule `{}` is missing",
        rule.hcl()
    )
}

/// A few of them by name, and how many more there are.
pub(super) fn named<'a>(names: &BTreeSet<&'a str>) -> String {
    /// More would not be read.
    const NAMED: usize = 3;
    let shown: Vec<&'a str> = names.iter().take(NAMED).copied().collect();
    let rest = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("{}{rest}", shown.join(", "))
}
