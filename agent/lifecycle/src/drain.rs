//! Draining: the hook or the connections say when nothing is left, and the order's time is the
//! end of waiting. What then happens is the coordinator's decision, by the fleet's policy.

use std::time::Duration;

use calvin_model::{Connections, DrainOrder, DrainProgress, DrainReason, Role};

use crate::{
    input::HookOutcome,
    lifecycle::Lifecycle,
    output::{HookKind, HookRun, Output},
    role::hook_pause,
};

/// Draining under way, or over.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub(crate) reason: DrainReason,
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
    pub(crate) hook: DrainHook,
    pub(crate) failures: u32,
    pub(crate) failure: Option<String>,
    /// No connection was open in any look since then.
    pub(crate) quiet_since: Option<Duration>,
}

/// How far the drain hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainHook {
    /// The image has none: the connections decide.
    None,
    Due {
        at: Duration,
    },
    Running(HookRun),
    Done,
    /// Ended by the deadline or by another role.
    GivenUp,
}

/// Connections must stay away this long. A client that makes one for each request has none open
/// between two; a second without any holds several requests of whoever still asks.
const QUIET: Duration = Duration::from_secs(1);

impl Drain {
    fn new(now: Duration, order: DrainOrder, hook: DrainHook) -> Self {
        Self {
            reason: order.reason,
            since: now,
            deadline: now + order.timeout,
            hook,
            failures: 0,
            failure: None,
            quiet_since: None,
        }
    }

    pub(crate) fn done(&self, now: Duration) -> bool {
        match self.hook {
            DrainHook::None => self.quiet_since.is_some_and(|since| since + QUIET <= now),
            DrainHook::Due { .. } | DrainHook::Running(_) | DrainHook::GivenUp => false,
            DrainHook::Done => true,
        }
    }

    pub(crate) fn due_at(&self, now: Duration) -> Option<Duration> {
        let hook_at = match self.hook {
            DrainHook::None => self.quiet_since.map(|since| since + QUIET),
            DrainHook::Due { at } => Some(at),
            DrainHook::Running(_) | DrainHook::Done | DrainHook::GivenUp => None,
        };
        // What lies in the past was acted on.
        [hook_at, Some(self.deadline)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}

impl Lifecycle {
    /// After a restart of the agent within one boot the order goes on, with its whole time: the
    /// coordinator counts its own.
    pub(crate) fn resume_drain(&mut self) {
        if self.role() == Some(Role::Draining) {
            self.begin_drain();
        }
    }

    /// Begins to drain; a newer order only moves the deadline.
    pub(crate) fn begin_drain(&mut self) {
        let Some(order) = self.record.wanted.and_then(|wanted| wanted.drain) else {
            return;
        };
        if let Some(drain) = &mut self.drain {
            drain.reason = order.reason;
            drain.deadline = self.now + order.timeout;
            if drain.hook == DrainHook::GivenUp {
                drain.hook = DrainHook::Due { at: self.now };
            }
            return;
        }
        let hook = if self.spec.has(HookKind::Drain) {
            DrainHook::Due { at: self.now }
        } else {
            DrainHook::None
        };
        self.drain = Some(Drain::new(self.now, order, hook));
    }

    /// Draining is off: the instance goes back to work.
    pub(crate) fn end_drain(&mut self, outputs: &mut Vec<Output>) {
        self.stop_drain_hook(outputs);
        self.drain = None;
    }

    /// Ends the hook if it runs; how far draining came is still reported.
    pub(crate) fn stop_drain_hook(&mut self, outputs: &mut Vec<Output>) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        match drain.hook {
            DrainHook::Running(run) => {
                outputs.push(Output::CancelHook(run));
                drain.hook = DrainHook::GivenUp;
            }
            DrainHook::Due { .. } => drain.hook = DrainHook::GivenUp,
            DrainHook::None | DrainHook::Done | DrainHook::GivenUp => {}
        }
    }

    pub(crate) fn drive_drain(&mut self, outputs: &mut Vec<Output>) {
        if self.role() != Some(Role::Draining) || self.transition.is_some() || !self.enrolled {
            return;
        }
        let now = self.now;
        let run = HookRun(self.hook_runs + 1);
        let Some(drain) = &mut self.drain else {
            return;
        };
        if now >= drain.deadline {
            self.stop_drain_hook(outputs);
            return;
        }
        if let DrainHook::Due { at } = drain.hook
            && at <= now
        {
            drain.hook = DrainHook::Running(run);
            outputs.push(Output::RunHook {
                run,
                kind: HookKind::Drain,
                reason: Some(drain.reason),
                timeout: drain.deadline - now,
            });
            self.hook_runs += 1;
        }
    }

    pub(crate) fn drain_hook_ended(&mut self, run: HookRun, outcome: &HookOutcome) {
        let now = self.now;
        let Some(drain) = self
            .drain
            .as_mut()
            .filter(|drain| drain.hook == DrainHook::Running(run))
        else {
            return;
        };
        match outcome {
            HookOutcome::Done => drain.hook = DrainHook::Done,
            HookOutcome::Failed(reason) => {
                drain.failures += 1;
                drain.failure = Some(reason.clone());
                drain.hook = DrainHook::Due {
                    at: now + hook_pause(drain.failures),
                };
            }
        }
    }

    pub(crate) fn connections_are(&mut self, connections: Option<Connections>) {
        let none_open = connections.as_ref().is_some_and(|open| open.count == 0);
        if let Some(drain) = &mut self.drain {
            drain.quiet_since = match (none_open, drain.quiet_since) {
                (true, None) => Some(self.now),
                (true, since @ Some(_)) => since,
                (false, _) => None,
            };
        }
        self.connections = connections;
    }

    pub(crate) fn drain_progress(&self) -> Option<DrainProgress> {
        self.drain.as_ref().map(|drain| DrainProgress {
            done: drain.done(self.now),
            connections: self.connections.as_ref().map(|open| open.count),
            time_left: drain.deadline.saturating_sub(self.now),
        })
    }
}
