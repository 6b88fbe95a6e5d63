//! What can happen to an agent.

use std::time::Duration;

use calvin_model::{
    Connections, ConsulReport, Epoch, NamesVersion, QuorumReport, Wanted, WorkloadState,
};

use crate::output::HookRun;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The identity is sealed on disk: from this enrolment, or from an earlier boot.
    Enrolled,
    /// A coordinator said welcome.
    SessionUp {
        /// Who speaks.
        epoch: Epoch,
        /// How often to report when nothing changes.
        report_interval: Duration,
        /// This machine's wall clock minus the coordinator's.
        clock_offset_ms: i64,
    },
    /// The session ended.
    SessionDown,
    /// The coordinator's newest wanted state.
    Wanted {
        /// Who wants it.
        epoch: Epoch,
        /// What.
        wanted: Wanted,
    },
    /// A names snapshot is served.
    Names(NamesVersion),
    /// Why the names that are served could not be kept on disk so far; `None` once they are.
    NamesUnsaved(Option<String>),
    /// The record of this revision is on disk.
    Committed {
        /// Which one.
        revision: u64,
    },
    /// A check ran.
    Check {
        /// Its place in [`crate::Spec::checks`].
        index: usize,
        /// How it ended.
        outcome: CheckOutcome,
    },
    /// How often the runner has started the workload in this boot. Said before the state that comes
    /// of it: by it a crash is seen whose own state was never looked at.
    WorkloadStarts(u64),
    /// What the runner says of the workload: at each change, and whenever it is asked anew.
    Workload(WorkloadState),
    /// How the workload ended last, or why it could not be started, in a few words; `None` where
    /// it did neither. Said before the state that comes of it.
    WorkloadTrouble(Option<String>),
    /// A hook ended.
    HookEnded {
        /// Which run.
        run: HookRun,
        /// How.
        outcome: HookOutcome,
    },
    /// Who is connected to the services' ports; `None` where it cannot be counted.
    Connections(Option<Connections>),
    /// The quorum's command ended.
    Quorum(QuorumOutcome),
    /// How it is registered with its Consul client; `None` where it joins no Consul.
    Consul(Option<ConsulReport>),
    /// Time passed: the moment of [`crate::Lifecycle::deadline`] came.
    Tick,
}

/// How one run of a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// As it should.
    Pass,
    /// Not as it should, and why, in a few words.
    Fail(String),
}

/// How one run of the quorum's command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuorumOutcome {
    /// It said this; its age counts from now.
    Said(QuorumReport),
    /// It did not end well, or said nothing that can be read; and why, in a few words.
    Failed(String),
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookOutcome {
    /// With exit code 0.
    Done,
    /// Otherwise, and how, in a few words.
    Failed(String),
}
