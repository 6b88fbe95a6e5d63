//! How a wanted role is applied: which hook runs, what it waits for, when it counts as applied.
//!
//! | to | first | then | then it is applied |
//! |---|---|---|---|
//! | standby | pulled work is stopped and gone | hook `standby` | |
//! | active | hook `active` | | and pulled work starts |
//! | draining | | | and hook `drain` runs, until it ends well or the deadline is up |
//! | retired | hook `retire`, a few times at most | the workload is stopped and gone, the machine has left Consul, if that takes no longer than [`LEAVE_LIMIT`] | |
//!
//! A hook that fails is run again after a pause. A hook that runs is never cut short by a newer
//! wanted state (draining's is: it may take long by design); what is newest is applied after it.

use std::time::Duration;

use calvin_model::{Role, Wanted, image::Work};

use crate::{
    input::HookOutcome,
    lifecycle::Lifecycle,
    output::{HookKind, HookRun, Output},
    record::Applied,
};

/// A role that is being applied.
#[derive(Debug, Clone)]
pub(crate) struct Transition {
    pub(crate) target: Role,
    pub(crate) since: Duration,
    pub(crate) hook: HookStep,
    pub(crate) failures: u32,
    pub(crate) failure: Option<String>,
    /// Since when nothing of the work runs any more, on the way to retired.
    pub(crate) ended: Option<Duration>,
}

/// How far a transition's hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookStep {
    Before,
    Running(HookRun),
    Pause { until: Duration },
    Over,
}

/// First pause after a hook failed; doubles with each failure.
const HOOK_PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause. A hook that waits for something outside sees it within half a minute.
const HOOK_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Runs of a failing retire hook before the machine is given back without it: the coordinator
/// has decided, and what the hook cleans up must not keep a machine for ever.
const RETIRE_RUNS: u32 = 3;
/// How long the machine is given to leave Consul before it is retired all the same. Consul's client takes
/// three seconds so that others hear of it; a Consul that is away must not keep a machine.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// The pause after so many failures in a row.
pub(crate) fn hook_pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (HOOK_PAUSE_MIN * 2_u32.pow(doublings)).min(HOOK_PAUSE_MAX)
}

impl Transition {
    fn new(target: Role, now: Duration) -> Self {
        Self {
            target,
            since: now,
            hook: HookStep::Before,
            failures: 0,
            failure: None,
            ended: None,
        }
    }

    fn due_at(&self) -> Option<Duration> {
        match self.hook {
            HookStep::Pause { until } => Some(until),
            HookStep::Before | HookStep::Running(_) | HookStep::Over => None,
        }
    }

    pub(crate) fn hook_kind(&self) -> HookKind {
        match self.target {
            Role::Standby => HookKind::Standby,
            Role::Active => HookKind::Active,
            Role::Draining => HookKind::Drain,
            Role::Retired => HookKind::Retire,
        }
    }
}

impl Lifecycle {
    /// The role that it is on the way down to. What it did until now ends with the first step;
    /// on the way up to active nothing changes before the last.
    pub(crate) fn leaving_for(&self) -> Option<Role> {
        self.transition
            .as_ref()
            .map(|transition| transition.target)
            .filter(|target| *target != Role::Active)
    }

    pub(crate) fn retire_hook_is_over(&self) -> bool {
        self.transition.as_ref().is_some_and(|transition| {
            transition.target == Role::Retired && transition.hook == HookStep::Over
        })
    }

    /// No step of a role is taken before what was told is on disk.
    fn role_may_move(&self) -> bool {
        self.pending.is_none() && self.enrolled
    }

    /// When the next step is due. While none may be taken there is none: a pause that ended would
    /// be due again and again, and the commit brings its own deadline.
    pub(crate) fn transition_due_at(&self) -> Option<Duration> {
        let transition = self.transition.as_ref()?;
        let leave = transition.ended.map(|ended| ended + LEAVE_LIMIT);
        let due = [transition.due_at(), leave].into_iter().flatten().min();
        due.filter(|_| self.role_may_move())
    }

    /// Nothing of an instance that is retired, or about to be, works any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let hook_is_over = self.retire_hook_is_over() || self.role() == Some(Role::Retired);
        hook_is_over && self.workload_is_gone()
    }

    /// Time left for the machine to leave Consul, from which it is retired all the same; nothing
    /// where it need not, or has.
    pub(crate) fn leaves_consul_for(&self) -> Option<Duration> {
        let transition = self.transition.as_ref()?;
        let ended = transition.ended.filter(|_| self.consul.is_some())?;
        let left = (ended + LEAVE_LIMIT).saturating_sub(self.now);
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn drive_role(&mut self, outputs: &mut Vec<Output>) {
        if !self.role_may_move() {
            return;
        }
        let Some(wanted) = self.record.wanted else {
            return;
        };
        if !self.begin_transition(&wanted, outputs) {
            return;
        }
        // Two rounds: a hook that need not run is over within the first.
        while self.step_transition(outputs) {}
        let over = self
            .transition
            .as_ref()
            .is_none_or(|transition| transition.hook == HookStep::Over);
        let waits = match wanted.role {
            Role::Retired => {
                let gone = over && self.workload_is_gone();
                let now = self.now;
                if let Some(transition) = &mut self.transition {
                    transition.ended = gone.then(|| transition.ended.unwrap_or(now));
                }
                !gone || self.leaves_consul_for().is_some()
            }
            Role::Standby | Role::Active | Role::Draining => false,
        };
        if over && !waits {
            self.persist(outputs, |record| {
                record.applied = Some(Applied {
                    generation: wanted.generation,
                    role: wanted.role,
                });
            });
        }
    }

    /// Sees to it that a transition to the wanted role is under way, where one is needed. Says
    /// whether there is anything left to do.
    fn begin_transition(&mut self, wanted: &Wanted, outputs: &mut Vec<Output>) -> bool {
        if let Some(transition) = &self.transition {
            if transition.target == wanted.role {
                return true;
            }
            if matches!(transition.hook, HookStep::Running(_)) {
                return false;
            }
            // Half a transition must be undone: also back to the role that is still applied.
            self.start_transition(wanted.role, outputs);
            return true;
        }
        match self.record.applied {
            Some(applied) if applied.role == wanted.role => applied.generation != wanted.generation,
            Some(_) | None => {
                self.start_transition(wanted.role, outputs);
                true
            }
        }
    }

    fn start_transition(&mut self, target: Role, outputs: &mut Vec<Output>) {
        match target {
            Role::Standby | Role::Active => self.end_drain(outputs),
            Role::Retired => self.stop_drain_hook(outputs),
            Role::Draining => {}
        }
        let mut transition = Transition::new(target, self.now);
        // The drain hook is not part of becoming draining: it runs while it is.
        if target == Role::Draining {
            transition.hook = HookStep::Over;
        }
        self.transition = Some(transition);
    }

    /// One step; says whether another may be possible at once.
    fn step_transition(&mut self, outputs: &mut Vec<Output>) -> bool {
        let now = self.now;
        let pulls = self.spec.work == Some(Work::OnActive);
        let gone = self.workload_is_gone();
        let Some(transition) = &self.transition else {
            return false;
        };
        let kind = transition.hook_kind();
        match transition.hook {
            HookStep::Before => {
                if transition.target == Role::Standby && pulls && !gone {
                    return false;
                }
            }
            HookStep::Pause { until } => {
                if now < until {
                    return false;
                }
            }
            HookStep::Running(_) | HookStep::Over => return false,
        }
        let next = if self.spec.has(kind) {
            let run = self.next_hook_run();
            outputs.push(Output::RunHook {
                run,
                kind,
                reason: None,
                timeout: self.spec.hook_timeout,
            });
            HookStep::Running(run)
        } else {
            HookStep::Over
        };
        if let Some(transition) = &mut self.transition {
            transition.hook = next;
        }
        true
    }

    pub(crate) fn role_hook_ended(&mut self, run: HookRun, outcome: &HookOutcome) {
        let now = self.now;
        let Some(transition) = self
            .transition
            .as_mut()
            .filter(|transition| transition.hook == HookStep::Running(run))
        else {
            return;
        };
        match outcome {
            HookOutcome::Done => transition.hook = HookStep::Over,
            HookOutcome::Failed(reason) => {
                transition.failures += 1;
                transition.failure = Some(reason.clone());
                let given_up =
                    transition.target == Role::Retired && transition.failures >= RETIRE_RUNS;
                transition.hook = if given_up {
                    HookStep::Over
                } else {
                    HookStep::Pause {
                        until: now + hook_pause(transition.failures),
                    }
                };
            }
        }
    }

    /// What was applied is on disk: it counts from now on.
    pub(crate) fn role_applied(&mut self, before: Option<Role>) {
        let role = self.role();
        if self
            .transition
            .as_ref()
            .is_some_and(|transition| Some(transition.target) == role)
        {
            self.transition = None;
        }
        if role != before {
            self.health.start_role();
        }
        if role == Some(Role::Draining) {
            self.begin_drain();
        }
    }
}
