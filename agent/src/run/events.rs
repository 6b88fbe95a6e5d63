//! Everything that can happen to the agent, in one place to wait.

use std::sync::Arc;

use calvin_lifecycle::{Input, QuorumOutcome};
use calvin_model::{Connections, ConsulReport, NamesVersion};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    catalogue::LockSeen, health::CheckResult, hooks::HookEnd, identity::Identity,
    session::SessionEvent, status::StatusRequest, workload::RunnerState,
};

/// What the subsystems say.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) session: mpsc::Receiver<SessionEvent>,
    pub(super) checks: mpsc::Receiver<CheckResult>,
    pub(super) hooks: mpsc::Receiver<HookEnd>,
    pub(super) commits: mpsc::Receiver<u64>,
    pub(super) requests: mpsc::Receiver<StatusRequest>,
    pub(super) runner: watch::Receiver<Option<RunnerState>>,
    pub(super) names: watch::Receiver<Option<NamesVersion>>,
    pub(super) names_unsaved: watch::Receiver<Option<String>>,
    pub(super) identity: watch::Receiver<Option<Arc<Identity>>>,
    pub(super) connections: watch::Receiver<Option<Option<Connections>>>,
    pub(super) consul: watch::Receiver<Option<ConsulReport>>,
    pub(super) lock: watch::Receiver<LockSeen>,
    /// Only where the image asks its members.
    pub(super) quorum: Option<mpsc::Receiver<QuorumOutcome>>,
}

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// For the lifecycle.
    Input(Input),
    /// The runner says how the workload is.
    Runner(Box<RunnerState>),
    /// Somebody asks how it is.
    Status(StatusRequest),
    /// What happened changes nothing.
    Nothing,
    /// A subsystem is gone: its task has ended too.
    Closed,
}

impl Inbox {
    /// What was there before the first event: an identity and names on disk.
    pub(super) fn initial(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(version) = *self.names.borrow_and_update() {
            inputs.push(Input::Names(version));
        }
        if self.identity.borrow_and_update().is_some() {
            inputs.push(Input::Enrolled);
        }
        inputs
    }

    fn consul_input(&mut self) -> Input {
        let report = self.consul.borrow_and_update().clone();
        let words = self.lock.borrow_and_update().words.clone();
        Input::Consul(with_lock(report, words))
    }

    /// Waits for the next event, until `deadline` if there is one.
    pub(super) async fn next(&mut self, deadline: Option<Instant>) -> Event {
        let tick = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let quorum = async {
            match &mut self.quorum {
                Some(outcomes) => outcomes.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.session.recv() => or_closed(event.map(session_input)),
            result = self.checks.recv() => or_closed(result.map(check_input)),
            end = self.hooks.recv() => or_closed(end.map(hook_input)),
            revision = self.commits.recv() => {
                or_closed(revision.map(|revision| Input::Committed { revision }))
            }
            request = self.requests.recv() => match request {
                Some(request) => Event::Status(request),
                None => Event::Closed,
            },
            changed = self.runner.changed() => match changed {
                Ok(()) => {
                    let state = self.runner.borrow_and_update().clone();
                    state.map_or(Event::Nothing, |state| Event::Runner(Box::new(state)))
                }
                Err(_) => Event::Closed,
            },
            changed = self.names.changed() => match changed {
                Ok(()) => maybe(self.names.borrow_and_update().map(Input::Names)),
                Err(_) => Event::Closed,
            },
            changed = self.names_unsaved.changed() => match changed {
                Ok(()) => {
                    let reason = self.names_unsaved.borrow_and_update().clone();
                    Event::Input(Input::NamesUnsaved(reason))
                }
                Err(_) => Event::Closed,
            },
            changed = self.identity.changed() => match changed {
                Ok(()) => {
                    let enrolled = self.identity.borrow_and_update().is_some();
                    maybe(enrolled.then_some(Input::Enrolled))
                }
                Err(_) => Event::Closed,
            },
            changed = self.connections.changed() => match changed {
                Ok(()) => {
                    let seen = self.connections.borrow_and_update().clone();
                    maybe(seen.map(Input::Connections))
                }
                Err(_) => Event::Closed,
            },
            changed = self.consul.changed() => match changed {
                Ok(()) => Event::Input(self.consul_input()),
                Err(_) => Event::Closed,
            },
            changed = self.lock.changed() => match changed {
                Ok(()) => Event::Input(self.consul_input()),
                Err(_) => Event::Closed,
            },
            outcome = quorum => or_closed(outcome.map(Input::Quorum)),
            () = tick => Event::Input(Input::Tick),
        }
    }
}

/// What is said of Consul: first why work waits for its lock, then what is wrong with the registration.
fn with_lock(report: Option<ConsulReport>, words: Option<String>) -> Option<ConsulReport> {
    let Some(words) = words else {
        return report;
    };
    let mut report = report.unwrap_or_default();
    report.fault = Some(match report.fault {
        Some(fault) => format!("{words}; {fault}"),
        None => words,
    });
    Some(report)
}

fn or_closed(input: Option<Input>) -> Event {
    input.map_or(Event::Closed, Event::Input)
}

fn maybe(input: Option<Input>) -> Event {
    input.map_or(Event::Nothing, Event::Input)
}

fn session_input(event: SessionEvent) -> Input {
    match event {
        SessionEvent::Up {
            welcome,
            clock_offset_ms,
        } => Input::SessionUp {
            epoch: welcome.epoch,
            report_interval: welcome.report_interval,
            clock_offset_ms,
        },
        SessionEvent::Down => Input::SessionDown,
        SessionEvent::Wanted(order) => Input::Wanted {
            epoch: order.epoch,
            wanted: order.wanted,
        },
    }
}

/// What the runner's state says to the lifecycle, in order.
pub(super) fn runner_inputs(state: RunnerState) -> [Input; 3] {
    let ended = || Some(format!("it ended by itself with {}", state.last_end?));
    let trouble = state.fault.clone().or_else(ended);
    [
        Input::WorkloadTrouble(trouble),
        Input::WorkloadStarts(state.starts),
        Input::Workload(state.workload),
    ]
}

fn check_input(result: CheckResult) -> Input {
    Input::Check {
        index: result.index,
        outcome: result.outcome,
    }
}

fn hook_input(end: HookEnd) -> Input {
    Input::HookEnded {
        run: end.run,
        outcome: end.outcome,
    }
}
