//! The loop: one event, one decision, its consequences. Nothing here waits for anything else.

use std::{sync::Arc, time::Duration};

use calvin_lifecycle::{AgentRecord, Input, Lifecycle, Output};
use calvin_model::{Health, Report, Role};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    RunError,
    events::{Event, Inbox, runner_inputs},
    tasks::Pace,
};
use crate::{
    catalogue::{LockSeen, Own, Presence},
    clock::Clock,
    dns::Forwarder,
    health::Checks,
    hooks::Hooks,
    identity::KeeperStatus,
    provision::Provisioned,
    session::{Seen, SessionStatus},
    status::{Sources, build},
    workload::WorkloadOrder,
};

/// The lifecycle and what acts for it.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) lifecycle: Lifecycle,
    pub(super) clock: Clock,
    pub(super) started: Duration,
    pub(super) machine: Provisioned,
    pub(super) checks: Checks,
    pub(super) hooks: Hooks,
    pub(super) outbox: Outbox,
    pub(super) keeper_status: watch::Receiver<KeeperStatus>,
    pub(super) session_status: watch::Receiver<SessionStatus>,
    pub(super) dns_fault: watch::Receiver<Option<String>>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) lock: watch::Receiver<LockSeen>,
    /// How the machine is.
    pub(super) machine_now: MachineNow,
}

/// Whether the machine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MachineNow {
    /// As far as is known.
    GoesOn,
    /// Its runner stops it.
    Stops,
}

/// What the decisions go to; of each only the newest counts.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) records: watch::Sender<Option<AgentRecord>>,
    pub(super) orders: watch::Sender<Option<WorkloadOrder>>,
    pub(super) reports: watch::Sender<Option<Report>>,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) refuse: watch::Sender<Option<String>>,
    pub(super) pace: watch::Sender<Pace>,
    pub(super) own: watch::Sender<Option<Own>>,
}

impl Actor {
    /// Runs for as long as every subsystem does.
    pub(super) async fn run(&mut self, mut inbox: Inbox) -> Result<(), RunError> {
        for input in inbox.initial() {
            self.decide(input);
        }
        loop {
            let deadline = self.lifecycle.deadline().map(|at| self.clock.instant(at));
            match inbox.next(deadline).await {
                Event::Input(input) => self.decide(input),
                Event::Runner(state) => {
                    if state.stopping {
                        self.machine_now = MachineNow::Stops;
                    }
                    for input in runner_inputs(*state) {
                        self.decide(input);
                    }
                }
                Event::Status(request) => {
                    // Durations are counted to now.
                    self.decide(Input::Tick);
                    // Whoever asked may have gone.
                    drop(request.send(self.picture()));
                }
                Event::Nothing => {}
                Event::Closed => {
                    return Err(RunError::Ended {
                        name: "of a channel",
                    });
                }
            }
        }
    }

    fn decide(&mut self, input: Input) {
        let before = (self.lifecycle.role(), self.lifecycle.report_now().health);
        let outputs = self.lifecycle.handle(self.clock.now(), input);
        self.log_changes(before);
        for output in outputs {
            self.act(output);
        }
        let (epoch, generation) = self.lifecycle.seen();
        let seen = Seen {
            epoch: epoch.cloned(),
            generation,
            role: self.lifecycle.role(),
            health: self.lifecycle.report_now().health,
        };
        self.outbox
            .seen
            .send_if_modified(|known| replace(known, seen));
        let pace = match self.lifecycle.role() {
            Some(Role::Draining) => Pace::Draining,
            None | Some(Role::Standby | Role::Active | Role::Retired) => Pace::Idle,
        };
        self.outbox
            .pace
            .send_if_modified(|known| replace(known, pace));
        let mut own = Own::of(&self.lifecycle, &self.machine.manifest);
        // Nobody is to find a workload that is about to be gone.
        if let Some(own) = &mut own
            && own.presence == Presence::AsTold
            && self.machine_now == MachineNow::Stops
        {
            own.presence = Presence::Leaving;
        }
        // The lock is given back first: a session that ends with its node holds up the next holder.
        if let Some(own) = &mut own
            && own.presence == Presence::Gone
            && self.lock.borrow().fence.is_some()
        {
            own.presence = Presence::Leaving;
        }
        self.outbox
            .own
            .send_if_modified(|known| replace(known, own));
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Persist(record) => drop(self.outbox.records.send_replace(Some(record))),
            Output::StartWorkload => self.order(WorkloadOrder::Start),
            Output::StopWorkload => self.order(WorkloadOrder::Stop),
            Output::RunHook {
                run,
                kind,
                reason,
                timeout,
            } => self.hooks.start(run, kind, reason, timeout),
            Output::CancelHook(run) => self.hooks.cancel(run),
            Output::RunChecks(checks) => self.checks.run_only(&checks),
            Output::Report(report) => drop(self.outbox.reports.send_replace(Some(report))),
            Output::Refused(refusal) => warn!(%refusal, "refused what the coordinator said"),
            Output::EndSession(refusal) => {
                self.outbox.refuse.send_replace(Some(refusal.to_string()));
            }
        }
    }

    fn order(&self, order: WorkloadOrder) {
        debug!(?order, "workload");
        // Also when it is the same again: the runner may be another.
        self.outbox.orders.send_replace(Some(order));
    }

    fn log_changes(&self, before: (Option<Role>, Health)) {
        let report = self.lifecycle.report_now();
        if report.role_applied != before.0 {
            let role = report.role_applied.map(|role| role.to_string());
            info!(role, generation = %report.generation_applied, "role applied");
        }
        if report.health != before.1 {
            info!(health = %report.health, failing = ?report.failing, "health");
        }
    }

    fn picture(&self) -> crate::status::StatusView {
        build(&Sources {
            machine: &self.machine,
            lifecycle: &self.lifecycle,
            up: self.clock.now().saturating_sub(self.started),
            identity: self.keeper_status.borrow().clone(),
            session: self.session_status.borrow().clone(),
            dns_fault: self.dns_fault.borrow().clone(),
            forwarder: self.forwarder.seen(),
            lock: self.lock.borrow().clone(),
        })
    }
}

/// Replaces a value; says whether it is another one.
fn replace<T: PartialEq>(known: &mut T, new: T) -> bool {
    let changed = *known != new;
    *known = new;
    changed
}
