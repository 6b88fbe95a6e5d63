//! What the lock is decided on. Pure.

use calvin_model::WorkloadState;

use crate::workload::{RunnerState, WorkloadOrder};

/// Whether a workload needs the lock of its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::catalogue) enum Gate {
    /// Nobody has said yet.
    Unknown,
    /// It needs none.
    Free,
    /// It must not run without.
    Locked,
}

/// What the machine is known to be doing, and what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::catalogue) struct Facts {
    /// Whether the workload needs the lock.
    pub(in crate::catalogue) gate: Gate,
    /// What is wanted of the workload; nothing where it is to be left as it is.
    pub(in crate::catalogue) wanted: Option<WorkloadOrder>,
    /// What of it runs.
    pub(in crate::catalogue) work: Work,
}

/// What of the workload runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::catalogue) enum Work {
    /// The runner does not say.
    Unknown,
    /// Nothing, and nothing will without an order.
    Gone,
    /// Something that needs no lease.
    Free,
    /// Something that needs one.
    Leased,
}

impl Work {
    /// What a runner says.
    pub(in crate::catalogue) fn of(state: Option<&RunnerState>) -> Self {
        let Some(state) = state else {
            return Self::Unknown;
        };
        match state.workload {
            WorkloadState::NotWanted | WorkloadState::Stopped => Self::Gone,
            WorkloadState::Starting
            | WorkloadState::Running
            | WorkloadState::Backoff
            | WorkloadState::Stopping => match state.lease_left_ms {
                Some(_) => Self::Leased,
                None => Self::Free,
            },
        }
    }
}

impl Facts {
    /// Whether the workload is to run with the lock.
    pub(super) fn is_to_hold(&self) -> bool {
        self.gate == Gate::Locked && self.wanted == Some(WorkloadOrder::Start)
    }

    /// Whether something runs for which the lock must have been taken.
    pub(super) fn may_have_held(&self) -> bool {
        match self.gate {
            Gate::Locked | Gate::Unknown => self.work == Work::Leased,
            Gate::Free => false,
        }
    }

    /// Whether the lock, where it is held, is to be given back.
    pub(super) fn is_to_leave(&self) -> bool {
        match (self.gate, self.work) {
            (_, Work::Gone) => !self.is_to_hold(),
            (Gate::Free, Work::Free) => true,
            (
                Gate::Free | Gate::Locked | Gate::Unknown,
                Work::Free | Work::Leased | Work::Unknown,
            ) => false,
        }
    }
}
