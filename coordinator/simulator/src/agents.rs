//! The coordinator's end of the sessions.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, rc::Rc, time::Duration};

use calvin_engine::ports::{Admitted, AgentHeard, AgentLink, AgentSeen, NotAdopted};
use calvin_model::{InstanceId, Report, Wanted};
use calvin_planner::{AgentObserved, SessionObserved};

use crate::{
    event::{MachineNumber, SessionNumber},
    fuse::Fuse,
    store::Disk,
};

/// One live session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    pub(crate) machine: MachineNumber,
    pub(crate) from: IpAddr,
    pub(crate) since: Duration,
}

/// What an agent said when it came last.
#[derive(Debug)]
struct Heard {
    at: Duration,
    machine: MachineNumber,
    said: AgentHeard,
}

/// The coordinator's end.
#[derive(Debug)]
pub(crate) struct SimLink {
    fuse: Fuse,
    disk: Rc<RefCell<Disk>>,
    report_interval: Duration,
    pub(crate) now: Duration,
    pub(crate) admitted: BTreeMap<InstanceId, Admitted>,
    pub(crate) sessions: BTreeMap<InstanceId, Session>,
    by_number: BTreeMap<SessionNumber, InstanceId>,
    /// From where each instance came last.
    from: BTreeMap<InstanceId, IpAddr>,
    ended: BTreeMap<InstanceId, Duration>,
    reports: BTreeMap<InstanceId, (Duration, Report)>,
    /// What the world has not sent yet.
    pub(crate) outbox: Vec<(InstanceId, Wanted)>,
    /// Nothing is told to anybody: the engine recovers.
    listens_only: bool,
    /// What agents said that were not let in.
    heard: BTreeMap<InstanceId, Heard>,
    /// Revoked, with a stream that the world has not closed yet.
    pub(crate) closing: Vec<SessionNumber>,
}

impl SimLink {
    pub(crate) fn new(fuse: Fuse, disk: Rc<RefCell<Disk>>, report_interval: Duration) -> Self {
        Self {
            fuse,
            disk,
            report_interval,
            now: Duration::ZERO,
            admitted: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_number: BTreeMap::new(),
            from: BTreeMap::new(),
            ended: BTreeMap::new(),
            reports: BTreeMap::new(),
            outbox: Vec::new(),
            listens_only: false,
            heard: BTreeMap::new(),
            closing: Vec::new(),
        }
    }

    /// Whether nothing is told to anybody.
    pub(crate) fn only_listens(&self) -> bool {
        self.listens_only
    }

    /// Whether the agent of an instance has come since nobody is let in.
    pub(crate) fn has_heard(&self, instance: &InstanceId) -> bool {
        self.heard.contains_key(instance)
    }

    /// Takes note of what an agent says that is not let in. Who was retired here is not listened to.
    pub(crate) fn hear(&mut self, instance: &InstanceId, machine: MachineNumber, said: AgentHeard) {
        if self.disk.borrow().revoked.contains(instance) {
            return;
        }
        let at = self.now;
        let heard = Heard { at, machine, said };
        self.heard.insert(instance.clone(), heard);
    }

    /// Begins a session; one that the instance had before is none any more.
    pub(crate) fn begin(&mut self, instance: &InstanceId, session: Session) {
        self.by_number.insert(session.number, instance.clone());
        self.from.insert(instance.clone(), session.from);
        if let Some(before) = self.sessions.insert(instance.clone(), session) {
            self.by_number.remove(&before.number);
        }
    }

    /// The instance whose live session this is.
    pub(crate) fn instance_of(&self, number: SessionNumber) -> Option<&InstanceId> {
        self.by_number.get(&number)
    }

    /// Ends a session. Gives its instance and machine, if it was live.
    pub(crate) fn end(&mut self, number: SessionNumber) -> Option<(InstanceId, MachineNumber)> {
        let instance = self.by_number.remove(&number)?;
        let session = self.sessions.remove(&instance)?;
        self.ended.insert(instance.clone(), self.now);
        Some((instance, session.machine))
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
        self.from
            .retain(|instance, _| admitted.contains_key(instance));
    }

    fn revoke(&mut self, instance: &InstanceId) {
        if !self.fuse.burn() {
            return;
        }
        self.disk.borrow_mut().revoked.insert(instance.clone());
        if let Some(session) = self.sessions.get(instance) {
            self.closing.push(session.number);
        }
    }

    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen> {
        let disk = self.disk.borrow();
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
            let revoked = disk.revoked.contains(instance) && !self.sessions.contains_key(instance);
            let seen = AgentSeen {
                agent,
                session,
                from: self.from.get(instance).copied(),
                revoked,
                alarm: None,
            };
            (instance.clone(), seen)
        });
        seen.collect()
    }

    fn report_interval(&self) -> Duration {
        self.report_interval
    }

    fn only_listen(&mut self, why: Option<&str>) {
        self.listens_only = why.is_some();
        self.heard.clear();
        self.admitted.clear();
        if self.listens_only {
            self.closing.extend(self.by_number.keys());
        }
    }

    fn heard(&self) -> BTreeMap<InstanceId, AgentHeard> {
        let heard = self.heard.iter().map(|(instance, heard)| {
            let mut said = heard.said.clone();
            said.age = self.now.saturating_sub(heard.at);
            (instance.clone(), said)
        });
        heard.collect()
    }

    fn adopt(&mut self, instances: &[InstanceId]) -> Result<(), NotAdopted> {
        let mut disk = self.disk.borrow_mut();
        for instance in instances {
            if let Some(heard) = self.heard.get(instance) {
                disk.keys.insert(instance.clone(), heard.machine);
            }
        }
        Ok(())
    }
}
