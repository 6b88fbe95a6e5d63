//! What agent and runner say to each other on `run/init.sock`: one JSON object per line, each way.
//!
//! Orders say what is wanted, not what to do: the same one again changes nothing, so that an agent
//! that was restarted, or lost an answer, just asks again. A runner sends its state to each agent
//! that connects, and whenever it changes.

use std::collections::BTreeMap;

use calvin_model::{BootId, WorkloadState, image::StopSignal};
use serde::{Deserialize, Serialize};

use super::{
    WorkloadSpec,
    unit::{UnitName, UnitState},
};

/// Longest line. A spec is an image's command and environment, which its author wrote by hand:
/// `image.toml` is refused above 256 kB, and JSON escapes at most double what people write.
pub const LINE_BYTES_MAX: usize = 512 * 1024;

/// Why something that runs is not started in another way.
pub const RUNS_OTHERWISE: &str = "it runs already in another way; stop it first";

/// Why work that needs a lease does not run any more.
pub const LEASE_OVER: &str = "the lease of its work is over, and it was killed";

/// A line to the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the answer.
    pub id: u64,
    /// What is wanted.
    pub order: Order,
}

/// What an agent may want of the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The workload is to run, as this says.
    Start(Box<WorkloadSpec>),
    /// The workload is not to run.
    Stop {
        /// How it is asked to stop.
        signal: StopSignal,
        /// Time after which its process group is killed, milliseconds.
        timeout_ms: u64,
    },
    /// Work that needs a lease may run until then, or for as long as was ordered before.
    Lease {
        /// Time since the host's boot, with the time that it slept (`CLOCK_BOOTTIME`), milliseconds.
        until_ms: u64,
    },
    /// What has this name is to run beside the workload, as this says.
    StartUnit {
        /// Its name.
        name: UnitName,
        /// What to start.
        spec: Box<WorkloadSpec>,
    },
    /// What has this name is not to run.
    StopUnit {
        /// Its name.
        name: UnitName,
        /// How it is asked to stop.
        signal: StopSignal,
        /// Time after which its process group is killed, milliseconds.
        timeout_ms: u64,
    },
    /// Where the machine is being stopped: nobody finds its services any more.
    NotFound,
    /// The state is to be sent.
    Query,
}

/// A line to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The order of this id was taken, or why not.
    Answer {
        /// Of the request.
        id: u64,
        /// Why it was not taken.
        refused: Option<String>,
    },
    /// What the runner's state is now.
    State(Box<RunnerState>),
}

/// The workload as its runner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerState {
    /// The machine's boot.
    pub boot: BootId,
    /// The workload.
    pub workload: WorkloadState,
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
    /// Time left of the lease of its work, milliseconds; none where it needs no lease.
    #[serde(default)]
    pub lease_left_ms: Option<u64>,
    /// Its output.
    pub console: ConsoleCounts,
    /// What runs beside it, by name.
    #[serde(default)]
    pub units: BTreeMap<UnitName, UnitState>,
    /// The machine is being stopped: nobody is to find its services any more.
    #[serde(default)]
    pub stopping: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Where the workload's output went, in bytes: `read = kept + overwritten + failed`, at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleCounts {
    /// Read from the workload, with what the files held when the runner started.
    pub read: u64,
    /// In the files.
    pub kept: u64,
    /// Removed again from the files, to keep them within their bounds.
    pub overwritten: u64,
    /// Never written: the disk was full or failed.
    pub failed: u64,
}
