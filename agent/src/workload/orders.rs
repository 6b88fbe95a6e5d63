//! What is wanted of the workload, and what the runner is told of it.

use std::time::Duration;

use calvin_consul::exclusive::FENCE_VARIABLE;

use super::WorkloadSpec;

/// What the lifecycle wants of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadOrder {
    /// Have it run.
    Start,
    /// Have it stopped.
    Stop,
}

/// What the runner is to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Have it run.
    Start {
        /// The fencing number of the lock that it runs with; none where it needs no lock.
        fence: Option<u64>,
    },
    /// Have it stopped, as its image says.
    Stop,
    /// Have it killed.
    Kill,
}

/// The newest commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Commands {
    /// What to do with the workload.
    pub command: Option<Command>,
    /// Until when its work may run, where it needs a lease.
    pub lease: Option<Duration>,
    /// Another number: the command is to be given again, because the runner may be another.
    pub again: u64,
}

impl WorkloadSpec {
    /// As it is started with this fence, or without one.
    #[must_use]
    pub fn fenced(&self, fence: Option<u64>) -> Self {
        let mut spec = self.clone();
        if let Some(fence) = fence {
            spec.needs_lease = true;
            spec.env
                .insert(FENCE_VARIABLE.to_owned(), fence.to_string());
        }
        spec
    }
}
