//! The workload's process: wanted or not, running or waiting to be started again. Everything that
//! changes it goes through here; time is handed in.

use std::{
    io::{self, PipeWriter},
    time::{Duration, Instant},
};

use calvin_model::{WorkloadState, image::StopSignal};
use calvin_proto::machine::ProcessId;
use rustix::process::Signal;

use super::{backoff::Backoff, child, guard::Guard, lease::LeaseNow};
use crate::workload::{
    End, WorkloadSpec,
    protocol::{LEASE_OVER, RUNS_OTHERWISE},
};

/// The workload, from init's view.
#[derive(Debug)]
pub(super) struct Workload {
    spec: Option<WorkloadSpec>,
    backoff: Backoff,
    phase: Phase,
    /// To be started when it has stopped: it was wanted again before it was gone.
    next: Option<WorkloadSpec>,
    lease: LeaseNow,
    /// Ends it with its lease, whatever holds this up.
    guard: Option<Guard>,
    pub(super) starts: u64,
    pub(super) last_end: Option<End>,
    pub(super) fault: Option<String>,
}

#[derive(Debug)]
enum Phase {
    /// Not started in this boot.
    Idle,
    Running {
        process: ProcessId,
        since: Instant,
    },
    Backoff {
        until: Instant,
    },
    Stopping {
        process: ProcessId,
        kill_at: Instant,
        killed: bool,
    },
    /// It ended as told; what is left of its group is killed and not gone yet.
    Emptying {
        group: i32,
        look_at: Instant,
    },
    Stopped,
}

/// Pause between two looks at a group that is being killed: the kernel takes a millisecond or two.
/// What waits in it for a disk that does not answer may take for ever, and has not stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Workload {
    /// One that was never started, and may need a lease.
    pub(super) fn guarded(guard: Guard) -> Self {
        Self {
            guard: Some(guard),
            ..Self::new()
        }
    }

    /// One that was never started. It never has a lease.
    pub(super) fn new() -> Self {
        Self {
            spec: None,
            backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
            phase: Phase::Idle,
            next: None,
            lease: LeaseNow::Over,
            guard: None,
            starts: 0,
            last_end: None,
            fault: None,
        }
    }

    /// Wants it to run. Returns why not.
    pub(super) fn start(&mut self, spec: WorkloadSpec, now: Instant) -> Option<String> {
        match &self.phase {
            Phase::Idle | Phase::Stopped => self.want(spec, now),
            // A running workload is never ended because somebody now thinks otherwise of it.
            Phase::Running { .. } if self.spec.as_ref() != Some(&spec) => {
                return Some(RUNS_OTHERWISE.to_owned());
            }
            Phase::Running { .. } => {}
            Phase::Backoff { .. } if self.spec.as_ref() != Some(&spec) => self.want(spec, now),
            Phase::Backoff { .. } => {}
            Phase::Stopping { .. } | Phase::Emptying { .. } => self.next = Some(spec),
        }
        None
    }

    fn want(&mut self, spec: WorkloadSpec, now: Instant) {
        self.backoff = Backoff::new(spec.restart_min.0, spec.restart_max.0);
        self.spec = Some(spec);
        self.phase = Phase::Backoff { until: now };
    }

    /// Wants it not to run.
    pub(super) fn stop(&mut self, signal: StopSignal, timeout: Duration, now: Instant) {
        self.next = None;
        let by = now + timeout;
        match &mut self.phase {
            Phase::Idle | Phase::Stopped | Phase::Emptying { .. } => {}
            Phase::Backoff { .. } => self.phase = Phase::Stopped,
            Phase::Running { process, .. } => {
                child::signal_group(process.pid, signal_of(signal));
                self.phase = Phase::Stopping {
                    process: *process,
                    kill_at: by,
                    killed: false,
                };
            }
            Phase::Stopping { kill_at, .. } => *kill_at = by.min(*kill_at),
        }
    }

    /// Stops it as its own spec says.
    pub(super) fn stop_as_specified(&mut self, now: Instant) {
        if let Some(spec) = &self.spec {
            let (signal, timeout) = (spec.stop_signal, spec.stop_timeout.0);
            self.stop(signal, timeout, now);
        }
    }

    /// Whether it is to run with a lease only.
    pub(super) fn needs_lease(&self) -> bool {
        self.spec.as_ref().is_some_and(|spec| spec.needs_lease)
    }

    /// How the lease of its work is now. Where it needs one and that is over, all of it is killed at
    /// once, however it was to be stopped: somebody else may have begun. Returns whether it was.
    pub(super) fn lease_is(&mut self, lease: LeaseNow, now: Instant) -> bool {
        self.lease = lease;
        if self.may_run() {
            return false;
        }
        match &mut self.phase {
            Phase::Running { process, .. } => {
                child::signal_group(process.pid, Signal::KILL);
                self.phase = Phase::Stopping {
                    process: *process,
                    kill_at: now,
                    killed: true,
                };
                self.next = self.spec.clone();
                self.fault = Some(LEASE_OVER.to_owned());
                true
            }
            Phase::Stopping {
                process,
                killed: killed @ false,
                ..
            } => {
                child::signal_group(process.pid, Signal::KILL);
                *killed = true;
                true
            }
            Phase::Stopping { killed: true, .. }
            | Phase::Emptying { .. }
            | Phase::Idle
            | Phase::Backoff { .. }
            | Phase::Stopped => false,
        }
    }

    fn may_run(&self) -> bool {
        self.lease == LeaseNow::Holds || !self.needs_lease()
    }

    /// Does what is due: starts it, or kills what does not stop. Returns whether anything changed.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        random: f64,
        output: impl FnOnce() -> io::Result<PipeWriter>,
    ) -> bool {
        let may_run = self.may_run();
        match &mut self.phase {
            Phase::Backoff { until } if *until <= now && may_run => {
                self.spawn(now, random, output);
                true
            }
            Phase::Stopping {
                process,
                kill_at,
                killed,
            } if *kill_at <= now && !*killed => {
                child::signal_group(process.pid, Signal::KILL);
                *killed = true;
                true
            }
            Phase::Emptying { group, look_at } if *look_at <= now => {
                if child::group_is_there(*group) {
                    *look_at = now + LOOK_AGAIN;
                    return false;
                }
                self.phase = Phase::Stopped;
                if let Some(spec) = self.next.take() {
                    self.want(spec, now);
                }
                true
            }
            Phase::Backoff { .. }
            | Phase::Stopping { .. }
            | Phase::Emptying { .. }
            | Phase::Idle
            | Phase::Running { .. }
            | Phase::Stopped => false,
        }
    }

    fn spawn(
        &mut self,
        now: Instant,
        random: f64,
        output: impl FnOnce() -> io::Result<PipeWriter>,
    ) {
        let Some(spec) = &self.spec else {
            self.phase = Phase::Idle;
            return;
        };
        let guard = self.guard.as_ref().filter(|_| spec.needs_lease);
        let announcement = guard.map(Guard::starting).transpose();
        let spawned = announcement
            .and_then(|announcement| child::spawn_workload(spec, output()?, announcement));
        if let Some(guard) = guard {
            match &spawned {
                Ok(process) => guard.started(process.pid),
                Err(_) => guard.release(),
            }
        }
        match spawned {
            Ok(process) => {
                self.starts += 1;
                self.fault = None;
                self.phase = Phase::Running {
                    process,
                    since: now,
                };
            }
            Err(error) => {
                self.fault = Some(format!(
                    "could not start {}: {error}",
                    spec.program.display()
                ));
                let until = now + self.backoff.pause_after(Duration::ZERO, random);
                self.phase = Phase::Backoff { until };
            }
        }
    }

    /// Its process has ended, and is not reaped yet. What is left of its group is ended with it.
    pub(super) fn ended(&mut self, end: End, now: Instant, random: f64) {
        self.last_end = Some(end);
        if let Some(guard) = &self.guard {
            guard.release();
        }
        match &self.phase {
            Phase::Running { process, since } => {
                child::signal_group(process.pid, Signal::KILL);
                let ran = now.duration_since(*since);
                let until = now + self.backoff.pause_after(ran, random);
                self.phase = Phase::Backoff { until };
            }
            Phase::Stopping { process, .. } => {
                child::signal_group(process.pid, Signal::KILL);
                // Others may begin its work when it has stopped, so it has when nobody of it is left.
                self.phase = Phase::Emptying {
                    group: process.pid,
                    look_at: now,
                };
            }
            Phase::Idle | Phase::Backoff { .. } | Phase::Emptying { .. } | Phase::Stopped => {}
        }
    }

    /// Its process, while there is one.
    pub(super) fn process(&self) -> Option<ProcessId> {
        match &self.phase {
            Phase::Running { process, .. } | Phase::Stopping { process, .. } => Some(*process),
            Phase::Idle | Phase::Backoff { .. } | Phase::Emptying { .. } | Phase::Stopped => None,
        }
    }

    /// What it is doing.
    pub(super) fn state(&self) -> WorkloadState {
        match &self.phase {
            Phase::Idle => WorkloadState::NotWanted,
            Phase::Running { .. } => WorkloadState::Running,
            // Wanted, and not tried yet.
            Phase::Backoff { .. } if self.last_end.is_none() && self.fault.is_none() => {
                WorkloadState::Starting
            }
            Phase::Backoff { .. } => WorkloadState::Backoff,
            Phase::Stopping { .. } | Phase::Emptying { .. } => WorkloadState::Stopping,
            Phase::Stopped => WorkloadState::Stopped,
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.phase {
            // Without its lease it waits for an order.
            Phase::Backoff { until } => self.may_run().then_some(*until),
            Phase::Emptying { look_at, .. } => Some(*look_at),
            Phase::Stopping {
                kill_at,
                killed: false,
                ..
            } => Some(*kill_at),
            Phase::Stopping { killed: true, .. }
            | Phase::Idle
            | Phase::Running { .. }
            | Phase::Stopped => None,
        }
    }

    /// Time until it is started again, while it waits for that.
    pub(super) fn restart_in(&self, now: Instant) -> Option<Duration> {
        match &self.phase {
            Phase::Backoff { until } if self.may_run() => {
                Some(until.saturating_duration_since(now))
            }
            Phase::Backoff { .. }
            | Phase::Emptying { .. }
            | Phase::Idle
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped => None,
        }
    }
}

fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
    }
}
