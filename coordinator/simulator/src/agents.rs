//! The coordinator's end of the sessions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_engine::ports::{Admitted, AgentLink, AgentSeen};
use calvin_model::{InstanceId, Report, Wanted};
use calvin_planner::{AgentObserved, SessionObserved};

use crate::{
    event::{MachineNumber, SessionNumber},
    fuse::Fuse,
};

/// How often agents report when nothing changes.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// One live session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    pub(crate) machine: MachineNumber,
    pub(crate) since: Duration,
}

/// The coordinator's end.
#[derive(Debug)]
pub(crate) struct SimLink {
    fuse: Fuse,
    pub(crate) now: Duration,
    pub(crate) admitted: BTreeMap<InstanceId, Admitted>,
    pub(crate) sessions: BTreeMap<InstanceId, Session>,
    ended: BTreeMap<InstanceId, Duration>,
    reports: BTreeMap<InstanceId, (Duration, Report)>,
    /// What the world has not sent yet.
    pub(crate) outbox: Vec<(InstanceId, Wanted)>,
    /// Revoked for good; durable.
    pub(crate) revoked: BTreeSet<InstanceId>,
    /// Revoked, with a stream that the world has not closed yet.
    pub(crate) closing: Vec<SessionNumber>,
}

impl SimLink {
    pub(crate) fn new(fuse: Fuse) -> Self {
        Self {
            fuse,
            now: Duration::ZERO,
            admitted: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ended: BTreeMap::new(),
            reports: BTreeMap::new(),
            outbox: Vec::new(),
            revoked: BTreeSet::new(),
            closing: Vec::new(),
        }
    }

    /// The process that held this is gone. Gives the sessions that it had.
    pub(crate) fn crash(&mut self) -> Vec<Session> {
        self.admitted.clear();
        self.ended.clear();
        self.reports.clear();
        let sessions = std::mem::take(&mut self.sessions);
        sessions.into_values().collect()
    }

    /// The instance whose live session this is.
    pub(crate) fn instance_of(&self, number: SessionNumber) -> Option<&InstanceId> {
        self.sessions
            .iter()
            .find(|(_, session)| session.number == number)
            .map(|(instance, _)| instance)
    }

    /// Ends a session. Gives its instance, if it was live.
    pub(crate) fn end(&mut self, number: SessionNumber) -> Option<InstanceId> {
        let instance = self.instance_of(number)?.clone();
        self.sessions.remove(&instance);
        self.ended.insert(instance.clone(), self.now);
        Some(instance)
    }

    /// Notes a report. Says whether it tells anything that only time does not.
    pub(crate) fn note(&mut self, instance: &InstanceId, report: Report) -> bool {
        if let Some((at, before)) = self.reports.get_mut(instance) {
            if before.boot == report.boot && report.sequence <= before.sequence {
                return false;
            }
            let news = is_news(before, &report);
            *at = self.now;
            *before = report;
            return news;
        }
        self.reports.insert(instance.clone(), (self.now, report));
        true
    }
}

fn is_news(before: &Report, after: &Report) -> bool {
    before.boot != after.boot
        || before.generation_applied != after.generation_applied
        || before.health != after.health
        || before.flaps != after.flaps
        || before.names != after.names
        || before.workload != after.workload
        || before.drain.map(|drain| drain.done) != after.drain.map(|drain| drain.done)
}

impl AgentLink for SimLink {
    fn tell(&mut self, instance: &InstanceId, wanted: &Wanted) {
        if self.fuse.burn() && self.sessions.contains_key(instance) {
            self.outbox.push((instance.clone(), *wanted));
        }
    }

    fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>) {
        if self.fuse.is_burnt() {
            return;
        }
        self.admitted.clone_from(admitted);
        self.reports
            .retain(|instance, _| admitted.contains_key(instance));
        self.ended
            .retain(|instance, _| admitted.contains_key(instance));
    }

    fn revoke(&mut self, instance: &InstanceId) {
        if !self.fuse.burn() {
            return;
        }
        self.revoked.insert(instance.clone());
        if let Some(session) = self.sessions.get(instance) {
            self.closing.push(session.number);
        }
    }

    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen> {
        let seen = self.admitted.keys().map(|instance| {
            let agent = self
                .reports
                .get(instance)
                .map(|(at, report)| AgentObserved {
                    age: self.now.saturating_sub(*at),
                    report: report.clone(),
                });
            let session = match (self.sessions.get(instance), self.ended.get(instance)) {
                (Some(session), _) => {
                    SessionObserved::Alive(self.now.saturating_sub(session.since))
                }
                (None, Some(at)) => SessionObserved::Ended(self.now.saturating_sub(*at)),
                (None, None) => SessionObserved::Never,
            };
            let revoked = self.revoked.contains(instance) && !self.sessions.contains_key(instance);
            let seen = AgentSeen {
                agent,
                session,
                revoked,
                alarm: None,
            };
            (instance.clone(), seen)
        });
        seen.collect()
    }

    fn report_interval(&self) -> Duration {
        REPORT_INTERVAL
    }
}
