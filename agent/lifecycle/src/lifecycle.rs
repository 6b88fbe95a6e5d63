//! The state machine: takes one input at a time, and says what must be done.
//!
//! Each input is handled in the same order: what got old is forgotten, the input is noted, the
//! role is driven one step further, health is judged, the workload and the checks follow, and a
//! report goes out if there is something to say. Nothing else changes state.

use std::{sync::Arc, time::Duration};

use calvin_model::{
    BootId, Connections, ConsulReport, Epoch, Generation, NamesVersion, Role, WorkloadState,
};

use crate::{
    checks::Check,
    drain::Drain,
    health::HealthTrack,
    input::Input,
    output::{HookRun, Output},
    quorum::Quorum,
    record::AgentRecord,
    report::{ChecksTold, Reporting, bounded},
    role::Transition,
    spec::Spec,
    workload::Ordered,
};

/// What an agent is in the middle of. Two with the same inputs are the same.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    pub(crate) spec: Arc<Spec>,
    pub(crate) started: Duration,
    pub(crate) now: Duration,
    /// What is on disk.
    pub(crate) record: AgentRecord,
    /// What is being committed, and when to ask for it again.
    pub(crate) pending: Option<Pending>,
    pub(crate) enrolled: bool,
    pub(crate) session: Option<Session>,
    pub(crate) session_changed: Duration,
    pub(crate) refused: Option<String>,
    pub(crate) names: Option<NamesVersion>,
    pub(crate) names_unsaved: Option<Unsaved>,
    pub(crate) workload: Option<WorkloadState>,
    pub(crate) workload_changed: Duration,
    pub(crate) workload_starts: Option<u64>,
    /// How it ended last, or why it could not be started.
    pub(crate) workload_trouble: Option<String>,
    pub(crate) ordered: Option<Ordered>,
    /// It was told to stop, and since then neither was it seen not to run nor was it started.
    pub(crate) told_to_stop: bool,
    pub(crate) checks: Vec<Check>,
    /// Places of the checks that count now.
    pub(crate) counting: Vec<usize>,
    pub(crate) checks_told: ChecksTold,
    pub(crate) health: HealthTrack,
    pub(crate) connections: Option<Connections>,
    pub(crate) quorum: Quorum,
    pub(crate) consul: Option<ConsulReport>,
    /// Since when there is what is wrong with it now.
    pub(crate) consul_changed: Duration,
    pub(crate) transition: Option<Transition>,
    pub(crate) drain: Option<Drain>,
    pub(crate) hook_runs: u64,
    pub(crate) reporting: Reporting,
}

/// A commit under way.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) record: AgentRecord,
    pub(crate) since: Duration,
    pub(crate) again_at: Duration,
}

/// A live session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) epoch: Epoch,
    pub(crate) report_interval: Duration,
    pub(crate) clock_offset_ms: i64,
}

/// The names that are served are not on disk.
#[derive(Debug, Clone)]
pub(crate) struct Unsaved {
    pub(crate) reason: String,
    pub(crate) since: Duration,
}

/// After so long a commit that was not confirmed is asked for again: long against a commit (some
/// milliseconds), short against an operator's patience with a disk that was full.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// An agent that starts at `now` in `boot`, with the record that an earlier run left.
    ///
    /// `now` is the machine's monotonic clock. It must go on growing over restarts of the agent
    /// within one boot (`CLOCK_BOOTTIME` does), because report sequences are taken from it.
    #[must_use]
    pub fn new(spec: Arc<Spec>, record: Option<AgentRecord>, boot: BootId, now: Duration) -> Self {
        let record = match record {
            Some(record) => record.in_boot(boot),
            None => AgentRecord::new(boot),
        };
        let mut lifecycle = Self {
            checks: vec![Check::default(); spec.checks.len()],
            health: HealthTrack::new(now, record.flaps),
            spec,
            started: now,
            now,
            record,
            pending: None,
            enrolled: false,
            session: None,
            session_changed: now,
            refused: None,
            names: None,
            names_unsaved: None,
            workload: None,
            workload_changed: now,
            workload_starts: None,
            workload_trouble: None,
            ordered: None,
            told_to_stop: false,
            counting: Vec::new(),
            checks_told: ChecksTold::Never,
            connections: None,
            quorum: Quorum::default(),
            consul: None,
            consul_changed: now,
            transition: None,
            drain: None,
            hook_runs: 0,
            reporting: Reporting::default(),
        };
        lifecycle.resume_drain();
        lifecycle
    }

    /// Notes one thing that happened at `now`, and says what must be done, in order.
    #[must_use = "what is not done now is not asked for again"]
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        // A clock that goes back would make durations grow over a break.
        self.now = self.now.max(now);
        let mut outputs = Vec::new();
        self.expire_checks();
        self.expire_quorum();
        self.note(input, &mut outputs);
        self.commit_again(&mut outputs);
        self.drive_role(&mut outputs);
        self.drive_drain(&mut outputs);
        self.drive_workload(&mut outputs);
        self.drive_checks(&mut outputs);
        self.judge(&mut outputs);
        self.report_if_due(&mut outputs);
        outputs
    }

    fn note(&mut self, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Enrolled => self.enrolled = true,
            Input::SessionUp {
                epoch,
                report_interval,
                clock_offset_ms,
            } => self.session_up(
                Session {
                    epoch,
                    report_interval,
                    clock_offset_ms,
                },
                outputs,
            ),
            Input::SessionDown => self.session_down(),
            Input::Wanted { epoch, wanted } => self.wanted(&epoch, wanted, outputs),
            Input::Names(version) => self.names = self.names.max(Some(version)),
            Input::NamesUnsaved(reason) => self.names_are_unsaved(reason),
            Input::Committed { revision } => self.committed(revision),
            Input::Check { index, outcome } => self.check_ran(index, outcome),
            Input::WorkloadStarts(starts) => self.workload_was_started(starts),
            Input::Workload(state) => self.workload_is(state),
            Input::WorkloadTrouble(trouble) => self.workload_trouble = trouble.map(bounded),
            Input::HookEnded { run, outcome } => {
                self.role_hook_ended(run, &outcome);
                self.drain_hook_ended(run, &outcome);
            }
            Input::Connections(connections) => self.connections_are(connections),
            Input::Quorum(outcome) => self.quorum_ran(outcome),
            Input::Consul(report) => self.consul_is(report),
            Input::Tick => {}
        }
    }

    fn names_are_unsaved(&mut self, reason: Option<String>) {
        let since = self.names_unsaved.as_ref().map(|unsaved| unsaved.since);
        self.names_unsaved = reason.map(|reason| Unsaved {
            reason: bounded(reason),
            since: since.unwrap_or(self.now),
        });
    }

    fn consul_is(&mut self, report: Option<ConsulReport>) {
        let report = report.map(|report| ConsulReport {
            registered: report.registered,
            fault: report.fault.map(bounded),
        });
        let fault = |report: &Option<ConsulReport>| {
            let fault = report.as_ref().map(|report| report.fault.is_some());
            fault.unwrap_or(false)
        };
        if fault(&report) != fault(&self.consul) {
            self.consul_changed = self.now;
        }
        self.consul = report;
    }

    /// When [`Input::Tick`] must come if nothing else happens; `None` if it need not.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let stale = self.counting.iter().filter_map(|index| {
            let check = self.checks.get(*index)?;
            check.stale_at(self.spec.checks.get(*index)?)
        });
        let others = [
            self.pending.as_ref().map(|pending| pending.again_at),
            self.report_due_at(),
            self.transition_due_at(),
            self.quorum_stale_at(),
            self.drain.as_ref().and_then(|drain| drain.due_at(self.now)),
        ];
        stale.chain(others.into_iter().flatten()).min()
    }

    /// The highest epoch and generation seen, for the session's first message.
    #[must_use]
    pub fn seen(&self) -> (Option<&Epoch>, Generation) {
        let record = self.newest_record();
        let generation = record.wanted.map(|wanted| wanted.generation);
        (record.epoch.as_ref(), generation.unwrap_or_default())
    }

    /// Whether the machine has an identity.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.enrolled
    }

    /// The role that is applied, if any is.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.record.applied.map(|applied| applied.role)
    }

    /// What is on disk of it.
    #[must_use]
    pub fn record(&self) -> &AgentRecord {
        &self.record
    }

    pub(crate) fn newest_record(&self) -> &AgentRecord {
        match &self.pending {
            Some(pending) => &pending.record,
            None => &self.record,
        }
    }

    /// Commits a change of the record. Until it is confirmed, no new step of a role begins.
    pub(crate) fn persist(
        &mut self,
        outputs: &mut Vec<Output>,
        change: impl FnOnce(&mut AgentRecord),
    ) {
        let since = self
            .pending
            .as_ref()
            .map_or(self.now, |pending| pending.since);
        let mut record = self.newest_record().clone();
        change(&mut record);
        record.revision += 1;
        record.flaps = self.health.flaps();
        outputs.push(Output::Persist(record.clone()));
        self.pending = Some(Pending {
            record,
            since,
            again_at: self.now + COMMIT_AGAIN,
        });
    }

    fn committed(&mut self, revision: u64) {
        if let Some(pending) = self
            .pending
            .take_if(|pending| pending.record.revision == revision)
        {
            let before = self.record.applied;
            self.record = pending.record;
            if self.record.applied != before {
                self.role_applied(before.map(|applied| applied.role));
            }
        }
    }

    fn commit_again(&mut self, outputs: &mut Vec<Output>) {
        let now = self.now;
        if let Some(pending) = &mut self.pending
            && pending.again_at <= now
        {
            pending.again_at = now + COMMIT_AGAIN;
            outputs.push(Output::Persist(pending.record.clone()));
        }
    }

    pub(crate) fn next_hook_run(&mut self) -> HookRun {
        self.hook_runs += 1;
        HookRun(self.hook_runs)
    }
}
