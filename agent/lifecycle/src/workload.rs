//! Whether the workload is to run now.

use calvin_model::{Role, WorkloadState, image::Work};

use crate::{lifecycle::Lifecycle, output::Output, report::ChecksTold};

/// What the runner was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ordered {
    Run,
    Stop,
}

/// What is wanted of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Desire {
    Run,
    Stop,
    /// As it is: neither started nor stopped.
    Leave,
}

impl Lifecycle {
    pub(crate) fn workload_desire(&self) -> Desire {
        // Without an identity nothing is known that would justify to start or stop anything.
        let (Some(work), true) = (self.spec.work, self.enrolled) else {
            return Desire::Leave;
        };
        match (self.leaving_for(), self.role()) {
            // Its hook still needs it; `retire` stops it afterwards.
            (Some(Role::Retired), _) if !self.retire_hook_is_over() => Desire::Leave,
            (Some(Role::Retired), _) | (None, Some(Role::Retired)) => Desire::Stop,
            (Some(Role::Standby | Role::Active | Role::Draining) | None, role) => match work {
                Work::Boot => Desire::Run,
                Work::OnActive => self.pulled_work_desire(role),
            },
        }
    }

    fn pulled_work_desire(&self, role: Option<Role>) -> Desire {
        match self.leaving_for() {
            Some(Role::Standby) => return Desire::Stop,
            // Still active on disk; what was stopped on the way elsewhere must not start for it.
            Some(Role::Draining) => return Desire::Leave,
            Some(Role::Active | Role::Retired) | None => {}
        }
        match role {
            Some(Role::Active) => Desire::Run,
            // It finishes what it has; one that did not run has nothing to finish.
            Some(Role::Draining) => Desire::Leave,
            None | Some(Role::Standby | Role::Retired) => Desire::Stop,
        }
    }

    /// Nothing of the workload runs any more.
    pub(crate) fn workload_is_gone(&self) -> bool {
        self.spec.work.is_none() || self.workload.is_some_and(is_gone)
    }

    /// A workload that runs, was not told to stop, and was started once more ended in between: the
    /// runner's states are looked at one at a time, and the one of its end gave way to a newer.
    pub(crate) fn workload_was_started(&mut self, starts: u64) {
        let before = self.workload_starts.replace(starts);
        let more = before.is_some_and(|before| starts > before);
        if more && self.workload == Some(WorkloadState::Running) && !self.told_to_stop {
            self.workload_is(WorkloadState::Backoff);
        }
        if more {
            // That start was what came of the stop; the next one is not.
            self.told_to_stop = false;
        }
    }

    pub(crate) fn workload_is(&mut self, state: WorkloadState) {
        // While it runs the stop may be still to come.
        if state != WorkloadState::Running {
            self.told_to_stop = false;
        }
        if self.workload == Some(state) {
            return;
        }
        // What the checks said was about a process that is no more; what they say of the new one
        // is wanted soon.
        match state {
            WorkloadState::Starting => {
                self.forget_checks();
                self.checks_told = ChecksTold::Again;
            }
            WorkloadState::Backoff => self.forget_checks(),
            WorkloadState::NotWanted
            | WorkloadState::Running
            | WorkloadState::Stopping
            | WorkloadState::Stopped => {}
        }
        self.workload = Some(state);
        self.workload_changed = self.now;
        // The runner may be a new one that was told nothing: order again what it contradicts.
        let contradicts = match self.ordered {
            Some(Ordered::Run) => is_gone(state),
            Some(Ordered::Stop) => !is_gone(state) && state != WorkloadState::Stopping,
            None => false,
        };
        if contradicts {
            self.ordered = None;
        }
    }

    pub(crate) fn drive_workload(&mut self, outputs: &mut Vec<Output>) {
        let (order, output) = match self.workload_desire() {
            Desire::Run => (Ordered::Run, Output::StartWorkload),
            Desire::Stop => (Ordered::Stop, Output::StopWorkload),
            Desire::Leave => return,
        };
        if self.ordered != Some(order) {
            self.ordered = Some(order);
            self.told_to_stop |= order == Ordered::Stop;
            outputs.push(output);
        }
    }
}

fn is_gone(state: WorkloadState) -> bool {
    match state {
        WorkloadState::NotWanted | WorkloadState::Stopped => true,
        WorkloadState::Starting
        | WorkloadState::Running
        | WorkloadState::Backoff
        | WorkloadState::Stopping => false,
    }
}
