//! What the agent waits for: for `calvin-agent explain`, which makes sentences of it.

use std::time::Duration;

use calvin_model::{Health, Role};

use crate::{
    drain::DrainHook, lifecycle::Lifecycle, output::HookKind, role::HookStep, workload::Desire,
};

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What.
    pub what: WaitingFor,
    /// How long already.
    pub since: Duration,
}

/// What an agent can wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingFor {
    /// An identity: the coordinator must answer the join token.
    Identity,
    /// A session with a coordinator.
    Session,
    /// The first wanted state.
    FirstOrder,
    /// The disk: what was told is not committed yet.
    Disk,
    /// The disk: the names that are served could not be kept on it yet.
    NamesOnDisk {
        /// Why.
        reason: String,
    },
    /// The machine's Consul client: it is not registered there as it should be.
    Consul {
        /// Why.
        reason: String,
    },
    /// A hook that runs.
    Hook {
        /// Which.
        kind: HookKind,
        /// For which role.
        role: Role,
    },
    /// The pause before a failed hook runs again.
    HookAgain {
        /// Which.
        kind: HookKind,
        /// Failures in a row.
        failures: u32,
        /// How it failed last.
        reason: String,
        /// Time left of the pause.
        left: Duration,
    },
    /// The workload must be gone before the role can be applied.
    WorkloadGone,
    /// The machine must have left Consul before it is retired.
    ConsulLeft {
        /// Time left, after which it is retired all the same.
        left: Duration,
    },
    /// The runner must say how the workload is.
    Runner,
    /// The workload is to run and does not yet.
    WorkloadRunning,
    /// The checks of the role.
    Checks {
        /// Those that do not pass, with the reason where there is one.
        open: Vec<(String, Option<String>)>,
    },
    /// Connections to close while it drains.
    Connections {
        /// How many are open; `None` where it cannot be counted.
        open: Option<u32>,
        /// Time left of the order.
        left: Duration,
    },
    /// The coordinator must decide what a drain that ran out of time means.
    DrainDecision,
}

impl Lifecycle {
    /// Everything that is waited for now, the first cause first. Empty when it does what it is
    /// told and is healthy.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut list = Vec::new();
        let mut wait = |what, from: Duration| {
            list.push(Waiting {
                what,
                since: self.now.saturating_sub(from),
            });
        };
        if !self.enrolled {
            wait(WaitingFor::Identity, self.started);
            return list;
        }
        if self.session.is_none() {
            wait(WaitingFor::Session, self.session_changed);
        }
        if let Some(pending) = &self.pending {
            wait(WaitingFor::Disk, pending.since);
        } else if self.record.wanted.is_none() && self.session.is_some() {
            wait(WaitingFor::FirstOrder, self.session_changed);
        }
        if let Some(unsaved) = &self.names_unsaved {
            let reason = unsaved.reason.clone();
            wait(WaitingFor::NamesOnDisk { reason }, unsaved.since);
        }
        let fault = self.consul.as_ref().and_then(|consul| consul.fault.clone());
        if let Some(reason) = fault {
            wait(WaitingFor::Consul { reason }, self.consul_changed);
        }
        self.wait_for_role(&mut wait);
        self.wait_for_drain(&mut wait);
        self.wait_for_workload(&mut wait);
        let open: Vec<_> = self
            .checks_now()
            .into_iter()
            .filter(|(_, health, _)| *health != Health::Healthy)
            .map(|(name, _, reason)| (name.to_owned(), reason.map(str::to_owned)))
            .collect();
        if !open.is_empty() {
            wait(WaitingFor::Checks { open }, self.health.since());
        }
        list
    }

    fn wait_for_role(&self, wait: &mut impl FnMut(WaitingFor, Duration)) {
        let Some(transition) = &self.transition else {
            return;
        };
        let kind = transition.hook_kind();
        let what = match transition.hook {
            HookStep::Before => WaitingFor::WorkloadGone,
            HookStep::Running(_) => WaitingFor::Hook {
                kind,
                role: transition.target,
            },
            HookStep::Pause { until } => WaitingFor::HookAgain {
                kind,
                failures: transition.failures,
                reason: transition.failure.clone().unwrap_or_default(),
                left: until.saturating_sub(self.now),
            },
            HookStep::Over if transition.target == Role::Retired && !self.workload_is_gone() => {
                WaitingFor::WorkloadGone
            }
            HookStep::Over => match self.leaves_consul_for() {
                Some(left) => WaitingFor::ConsulLeft { left },
                None => return,
            },
        };
        wait(what, transition.since);
    }

    fn wait_for_drain(&self, wait: &mut impl FnMut(WaitingFor, Duration)) {
        let Some(drain) = self.drain.as_ref().filter(|drain| !drain.done(self.now)) else {
            return;
        };
        if self.role() != Some(Role::Draining) {
            return;
        }
        let left = drain.deadline.saturating_sub(self.now);
        let what = if left.is_zero() {
            WaitingFor::DrainDecision
        } else {
            match drain.hook {
                DrainHook::None => WaitingFor::Connections {
                    open: self.connections.as_ref().map(|open| open.count),
                    left,
                },
                DrainHook::Running(_) => WaitingFor::Hook {
                    kind: HookKind::Drain,
                    role: Role::Draining,
                },
                DrainHook::Due { at } => WaitingFor::HookAgain {
                    kind: HookKind::Drain,
                    failures: drain.failures,
                    reason: drain.failure.clone().unwrap_or_default(),
                    left: at.saturating_sub(self.now),
                },
                DrainHook::Done => return,
                DrainHook::GivenUp => WaitingFor::DrainDecision,
            }
        };
        wait(what, drain.since);
    }

    fn wait_for_workload(&self, wait: &mut impl FnMut(WaitingFor, Duration)) {
        use calvin_model::WorkloadState;
        match (self.workload_desire(), self.workload) {
            (Desire::Run | Desire::Stop, None) => wait(WaitingFor::Runner, self.workload_changed),
            (Desire::Run, Some(state)) if state != WorkloadState::Running => {
                wait(WaitingFor::WorkloadRunning, self.workload_changed);
            }
            (Desire::Run | Desire::Stop, Some(_)) | (Desire::Leave, _) => {}
        }
    }
}
