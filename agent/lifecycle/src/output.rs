//! What an agent must do.

use std::{fmt, time::Duration};

use calvin_model::{DrainReason, Report};

use crate::{record::AgentRecord, refusal::Refusal};

/// One thing to do. They are done in the order in which they come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Commit this record to disk, then say [`crate::Input::Committed`]. It comes again after a
    /// while if that is not said; a newer one replaces an older.
    Persist(AgentRecord),
    /// Have the workload run. Asking again is harmless.
    StartWorkload,
    /// Have the workload stopped. Asking again is harmless.
    StopWorkload,
    /// Run a hook and say [`crate::Input::HookEnded`].
    RunHook {
        /// Names this run.
        run: HookRun,
        /// Which hook.
        kind: HookKind,
        /// Why it drains; with `HookKind::Drain` only.
        reason: Option<DrainReason>,
        /// Time after which it is ended with all its children, as failed.
        timeout: Duration,
    },
    /// End a hook with all its children; nothing is expected to be said of it any more.
    CancelHook(HookRun),
    /// Run exactly these checks from now on (places in [`crate::Spec::checks`]): those that were
    /// not run until now at once.
    RunChecks(Vec<usize>),
    /// Send a report over the session.
    Report(Report),
    /// Something that a coordinator said changed nothing, and why.
    Refused(Refusal),
    /// End the session: its coordinator must not be listened to.
    EndSession(Refusal),
}

/// Names one run of a hook, so that the end of an older run is not taken for the newer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookRun(pub u64);

/// The four hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookKind {
    /// After it became standby.
    Standby,
    /// Before it counts as active.
    Active,
    /// When it is told to drain.
    Drain,
    /// Before its workload is stopped for good.
    Retire,
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Retire => "retire",
        })
    }
}
