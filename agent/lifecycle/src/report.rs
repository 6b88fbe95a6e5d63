//! When to report, what to say, and which health the checks add up to.

use std::time::Duration;

use calvin_model::{Health, Report, Role, WorkloadState, image::CheckWhen};

use crate::{
    checks::{Check, Verdict},
    input::CheckOutcome,
    lifecycle::Lifecycle,
    output::Output,
    workload::Desire,
};

/// Sentences of failure in one report; the wire takes no more.
const FAILING_MAX: usize = 16;
/// Bytes of one sentence; the wire takes no more.
const SENTENCE_BYTES_MAX: usize = 256;

/// What was reported.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reporting {
    sequence: u64,
    /// The last report over this session, without what only time changes.
    sent: Option<Report>,
    sent_at: Duration,
}

/// Whether it was said which checks are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksTold {
    Never,
    Yes,
    /// It was, and all of them must begin anew.
    Again,
}

impl Reporting {
    /// A new session has heard nothing yet.
    pub(crate) fn forget_sent(&mut self) {
        self.sent = None;
    }
}

impl Lifecycle {
    pub(crate) fn expire_checks(&mut self) {
        for (check, rule) in self.checks.iter_mut().zip(&self.spec.checks) {
            check.expire(self.now, rule);
        }
        // At once: what comes in now must not bridge the gap.
        if self.value_now() == Health::Unknown {
            self.health.set(self.now, Health::Unknown);
        }
    }

    pub(crate) fn check_ran(&mut self, index: usize, outcome: CheckOutcome) {
        // One that stopped counting may still have been under way.
        if !self.counting.contains(&index) {
            return;
        }
        if let (Some(check), Some(rule)) = (self.checks.get_mut(index), self.spec.checks.get(index))
        {
            check.record(self.now, rule, outcome);
        }
    }

    pub(crate) fn forget_checks(&mut self) {
        for check in &mut self.checks {
            check.forget();
        }
    }

    /// Which checks count follows the role; those that begin to count start anew.
    pub(crate) fn drive_checks(&mut self, outputs: &mut Vec<Output>) {
        let role = self.role_for_checks();
        let counting: Vec<usize> = if self.enrolled {
            let counts = |when| counts_in(when, role);
            let rules = self.spec.checks.iter().enumerate();
            rules
                .filter(|(_, rule)| counts(rule.when))
                .map(|(index, _)| index)
                .collect()
        } else {
            Vec::new()
        };
        match self.checks_told {
            ChecksTold::Yes if counting == self.counting => return,
            // Stopped first, so that they all begin at once.
            ChecksTold::Again => outputs.push(Output::RunChecks(Vec::new())),
            ChecksTold::Yes | ChecksTold::Never => {}
        }
        if counting == self.counting {
            self.checks_told = ChecksTold::Yes;
            outputs.push(Output::RunChecks(counting));
            return;
        }
        for (index, check) in self.checks.iter_mut().enumerate() {
            if !(counting.contains(&index) && self.counting.contains(&index)) {
                check.forget();
            }
        }
        self.health.start_role();
        self.checks_told = ChecksTold::Yes;
        self.counting.clone_from(&counting);
        outputs.push(Output::RunChecks(counting));
    }

    fn role_for_checks(&self) -> Role {
        self.leaving_for()
            .or_else(|| self.role())
            .unwrap_or(Role::Standby)
    }

    /// Judges health; a flap is committed, so that the count survives a restart of the agent.
    pub(crate) fn judge(&mut self, outputs: &mut Vec<Output>) {
        let flaps = self.health.flaps();
        let value = self.value_now();
        self.health.set(self.now, value);
        if self.health.flaps() != flaps {
            self.persist(outputs, |_| {});
        }
    }

    fn value_now(&self) -> Health {
        if !self.enrolled || self.role_for_checks() == Role::Retired {
            return Health::Unknown;
        }
        let checks = self
            .counting
            .iter()
            .filter_map(|index| self.checks.get(*index));
        let mut verdict = self.workload_verdict();
        for check in checks {
            verdict = match (verdict, check.verdict()) {
                (Verdict::Failing, _) | (_, Verdict::Failing) => Verdict::Failing,
                (Verdict::Open, _) | (_, Verdict::Open) => Verdict::Open,
                (Verdict::Passing, Verdict::Passing) => Verdict::Passing,
            };
        }
        health_of(verdict)
    }

    /// The workload's process counts like a check, while it is to run.
    fn workload_verdict(&self) -> Verdict {
        let state = self.workload;
        match self.workload_desire() {
            Desire::Stop => Verdict::Passing,
            Desire::Run => match state {
                Some(WorkloadState::Running) => Verdict::Passing,
                Some(WorkloadState::Backoff) => Verdict::Failing,
                Some(
                    WorkloadState::Starting
                    | WorkloadState::Stopping
                    | WorkloadState::Stopped
                    | WorkloadState::NotWanted,
                )
                | None => Verdict::Open,
            },
            Desire::Leave => match state {
                Some(WorkloadState::Backoff) => Verdict::Failing,
                Some(
                    WorkloadState::Running
                    | WorkloadState::Starting
                    | WorkloadState::Stopping
                    | WorkloadState::Stopped
                    | WorkloadState::NotWanted,
                )
                | None => Verdict::Passing,
            },
        }
    }

    pub(crate) fn report_due_at(&self) -> Option<Duration> {
        let session = self.heard_session()?;
        Some(self.reporting.sent_at + session.report_interval)
    }

    pub(crate) fn report_if_due(&mut self, outputs: &mut Vec<Output>) {
        if self.heard_session().is_none() {
            return;
        }
        let mut report = self.report_now();
        let comparable = without_time(report.clone());
        let due = self.report_due_at().is_some_and(|at| at <= self.now);
        if !due && self.reporting.sent.as_ref() == Some(&comparable) {
            return;
        }
        // Microseconds of a clock that outlives the agent: also a restarted agent goes on above
        // what it said before, without a write to disk for each report.
        let micros = u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX);
        let sequence = self.reporting.sequence.saturating_add(1).max(micros);
        report.sequence = sequence;
        self.reporting = Reporting {
            sequence,
            sent: Some(comparable),
            sent_at: self.now,
        };
        outputs.push(Output::Report(report));
    }

    /// What a report would say now. Its sequence is that of the last one sent.
    #[must_use]
    pub fn report_now(&self) -> Report {
        let applied = self.record.applied;
        let session = self.session.as_ref();
        Report {
            boot: self.record.boot.clone(),
            sequence: self.reporting.sequence,
            generation_applied: applied
                .map(|applied| applied.generation)
                .unwrap_or_default(),
            role_applied: applied.map(|applied| applied.role),
            health: self.health.value(),
            health_for: self.now.saturating_sub(self.health.since()),
            flaps: self.health.flaps(),
            clock_offset_ms: session.map(|session| session.clock_offset_ms),
            workload: self.workload.unwrap_or(WorkloadState::NotWanted),
            names: self.names,
            drain: self.drain_progress(),
            failing: self.failing(),
            connections: self.connections.clone(),
            refused: self.refused.as_deref().map(|text| bounded(text.to_owned())),
            names_unsaved: self
                .names_unsaved
                .as_ref()
                .map(|unsaved| unsaved.reason.clone()),
            quorum: self.quorum_now(),
            consul: self.consul.clone(),
        }
    }

    fn failing(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.workload == Some(WorkloadState::Backoff) {
            sentences.push(match &self.workload_trouble {
                Some(trouble) => format!("the workload is started again: {trouble}"),
                None => "the workload ended by itself and is started again".to_owned(),
            });
        }
        if let Some(transition) = &self.transition
            && let Some(failure) = &transition.failure
        {
            let (kind, runs) = (transition.hook_kind(), transition.failures);
            sentences.push(format!("hook {kind} failed {runs} times: {failure}"));
        }
        if let Some(drain) = &self.drain
            && let Some(failure) = &drain.failure
        {
            sentences.push(format!(
                "hook drain failed {} times: {failure}",
                drain.failures
            ));
        }
        sentences.extend(self.counting.iter().filter_map(|index| {
            let name = &self.spec.checks.get(*index)?.name;
            failing_sentence(name, self.checks.get(*index)?)
        }));
        sentences.extend(self.quorum_trouble());
        sentences.truncate(FAILING_MAX);
        sentences.into_iter().map(bounded).collect()
    }

    /// What the workload's process says, as a check would.
    #[must_use]
    pub fn workload_health(&self) -> Health {
        health_of(self.workload_verdict())
    }

    /// Each check that counts now, with what it says and why.
    #[must_use]
    pub fn checks_now(&self) -> Vec<(&str, Health, Option<&str>)> {
        let row = |index: &usize| {
            let check = self.checks.get(*index)?;
            let health = health_of(check.verdict());
            Some((
                self.spec.checks.get(*index)?.name.as_str(),
                health,
                check.reason(),
            ))
        };
        self.counting.iter().filter_map(row).collect()
    }
}

fn health_of(verdict: Verdict) -> Health {
    match verdict {
        Verdict::Open => Health::Unknown,
        Verdict::Passing => Health::Healthy,
        Verdict::Failing => Health::Unhealthy,
    }
}

fn failing_sentence(name: &str, check: &Check) -> Option<String> {
    let reason = check.reason().unwrap_or("its last run passed");
    match check.verdict() {
        Verdict::Failing => Some(format!("check {name}: {reason}")),
        Verdict::Open | Verdict::Passing => None,
    }
}

fn counts_in(when: CheckWhen, role: Role) -> bool {
    match role {
        Role::Standby => when != CheckWhen::Active,
        Role::Active | Role::Draining => when != CheckWhen::Standby,
        Role::Retired => false,
    }
}

/// The same report without what changes by time alone: nothing to report by itself.
fn without_time(mut report: Report) -> Report {
    report.sequence = 0;
    report.health_for = Duration::ZERO;
    if let Some(quorum) = &mut report.quorum {
        quorum.age = Duration::ZERO;
    }
    match &mut report.drain {
        Some(drain) => drain.time_left = Duration::ZERO,
        // Clients come and go all the time; that is told with the next report. While it drains,
        // somebody waits for the last.
        None => report.connections = None,
    }
    report
}

pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > SENTENCE_BYTES_MAX {
        let mut end = SENTENCE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
