//! What is known of every instance: whether it may come in, what it is told, its live session and
//! its newest report.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use calvin_engine::ports::Admitted;
use calvin_model::{InstanceId, Join, NamesVersion, QuorumReport, Registration, Report, Wanted};
use tokio::sync::watch;
use tonic::Status;

/// How long a session that was told to end still counts as open: a round trip and a message of the
/// largest size. Nothing that it says is heard any more; an agent that takes no data could keep
/// its stream for ever, and with it its own retirement waiting.
const END_GRACE: Duration = Duration::from_secs(5);

use super::{joining::Joining, listening::HelloHeard};

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// `None` until the engine has said so for the first time.
    pub(super) admitted: Option<BTreeMap<InstanceId, Admitted>>,
    pub(super) entries: BTreeMap<InstanceId, Entry>,
    /// Revoked in this run.
    pub(super) revoked: BTreeSet<InstanceId>,
    /// What agents said that were not let in for what they have heard, or because nobody is.
    pub(super) heard: BTreeMap<InstanceId, HelloHeard>,
    /// Nobody is let in, for this reason.
    pub(super) listening: Option<String>,
    /// How each is to join, and to be registered.
    pub(super) joins: BTreeMap<InstanceId, Arc<Join>>,
    pub(super) registrations: BTreeMap<InstanceId, Registration>,
    sessions: u64,
}

/// One instance that was heard of in this run.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) report: Option<(Instant, Report)>,
    pub(super) live: Option<Live>,
    pub(super) ended: Option<Instant>,
    /// From where its newest session came.
    pub(super) from: Option<IpAddr>,
    /// What a person must look at, of its last attempt to come in.
    pub(super) notice: Option<Notice>,
}

/// Why an agent that is what it says it is was not let in.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) about: About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The instance.
    Instance,
    /// The coordinator itself: it is behind the world.
    Coordinator,
}

/// A session that lives.
#[derive(Debug)]
pub(super) struct Live {
    number: u64,
    since: Instant,
    wanted: watch::Sender<Wanted>,
    /// Absent where the agent cannot join Consul.
    pub(super) joining: Option<watch::Sender<Joining>>,
    end: watch::Sender<Option<Status>>,
    /// When it was told to end.
    ending: Option<Instant>,
    /// The snapshot that the agent reported in this session.
    pub(super) names: Option<NamesVersion>,
}

/// The session's end of what the registry holds of it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) joining: Option<watch::Receiver<Joining>>,
    /// The status that the session is to end with.
    pub(super) end: watch::Receiver<Option<Status>>,
}

/// Whether an agent can join Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Its hello says so.
    Consul,
    /// It would end its session for what it does not know.
    NoConsul,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It says something new.
    News,
    /// It says what the one before said.
    Same,
    /// It is not newer than one that came before, or its session is no longer the live one.
    Stale,
}

impl Live {
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it is still open, for all that matters.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.ending
            .is_none_or(|since| now.saturating_duration_since(since) < END_GRACE)
    }

    /// When it was told to end.
    pub(super) fn ending(&self) -> Option<Instant> {
        self.ending
    }

    fn end(&mut self, status: Status) {
        self.ending.get_or_insert_with(Instant::now);
        self.end.send_modify(|end| {
            // The first reason counts.
            end.get_or_insert(status);
        });
    }
}

impl Registry {
    /// Opens a session of an instance that is admitted at this moment; an older one of it ends.
    /// It begins with what is wanted now: what was told between its hello and here is in it.
    pub(super) fn open(
        &mut self,
        instance: &InstanceId,
        from: IpAddr,
        speaks: Speaks,
    ) -> Option<Opened> {
        if self.listening.is_some() {
            return None;
        }
        let wanted = self.admitted.as_ref()?.get(instance)?.wanted;
        self.sessions += 1;
        let number = self.sessions;
        let (wanted, receiver) = watch::channel(wanted);
        let (end, ending) = watch::channel(None);
        let joining = match speaks {
            Speaks::Consul => Some(watch::channel(self.joining(instance))),
            Speaks::NoConsul => None,
        };
        let (joining, joined) = joining.unzip();
        let live = Live {
            number,
            since: Instant::now(),
            wanted,
            joining,
            end,
            ending: None,
            names: None,
        };
        let entry = self.entries.entry(instance.clone()).or_default();
        entry.notice = None;
        entry.from = Some(from);
        if let Some(mut older) = entry.live.replace(live) {
            older.end(Status::aborted("a newer session of this instance began"));
        }
        Some(Opened {
            number,
            wanted: receiver,
            joining: joined,
            end: ending,
        })
    }

    /// Takes note that a session is gone.
    pub(super) fn closed(&mut self, instance: &InstanceId, number: u64) {
        let Some(entry) = self.entries.get_mut(instance) else {
            return;
        };
        if entry
            .live
            .as_ref()
            .is_some_and(|live| live.number == number)
        {
            entry.live = None;
            entry.ended = Some(Instant::now());
        }
    }

    /// Takes a report of a session.
    pub(super) fn heard(&mut self, instance: &InstanceId, number: u64, report: Report) -> Heard {
        let Some(entry) = self.entries.get_mut(instance) else {
            return Heard::Stale;
        };
        let live = entry.live.as_mut();
        let Some(live) = live.filter(|live| live.number == number && live.ending.is_none()) else {
            return Heard::Stale;
        };
        let before = entry.report.as_ref().map(|(_, before)| before);
        let same_boot = before.filter(|before| before.boot == report.boot);
        if same_boot.is_some_and(|before| report.sequence <= before.sequence) {
            return Heard::Stale;
        }
        let news = before.is_none_or(|before| !says_the_same(before, &report));
        live.names = report.names;
        entry.report = Some((Instant::now(), report));
        if news { Heard::News } else { Heard::Same }
    }

    /// Sends a wanted state to the live session, unless it was sent a newer one.
    pub(super) fn tell(&mut self, instance: &InstanceId, wanted: &Wanted) {
        let Some(live) = self
            .entries
            .get(instance)
            .and_then(|entry| entry.live.as_ref())
        else {
            return;
        };
        live.wanted.send_if_modified(|told| {
            let newer = wanted.generation > told.generation;
            if newer {
                *told = *wanted;
            }
            newer
        });
    }

    /// Ends the live session of an instance, if it has one.
    pub(super) fn end(&mut self, instance: &InstanceId, status: Status) {
        let entry = self.entries.get_mut(instance);
        if let Some(live) = entry.and_then(|entry| entry.live.as_mut()) {
            live.end(status);
        }
    }

    /// Ends this session of an instance, if it is still the live one.
    pub(super) fn end_session(&mut self, instance: &InstanceId, number: u64, status: Status) {
        let entry = self.entries.get_mut(instance);
        let live = entry.and_then(|entry| entry.live.as_mut());
        if let Some(live) = live.filter(|live| live.number == number) {
            live.end(status);
        }
    }

    /// Ends every session.
    pub(super) fn end_all(&mut self, status: &Status) {
        for entry in self.entries.values_mut() {
            if let Some(live) = &mut entry.live {
                live.end(status.clone());
            }
        }
    }

    /// Takes note of why an agent was not let in.
    pub(super) fn note(&mut self, instance: &InstanceId, notice: Notice) {
        let entry = self.entries.entry(instance.clone()).or_default();
        entry.notice = Some(notice);
    }

    /// Takes over who may come in. Sessions of others end, and what is known of instances that
    /// are gone is forgotten.
    pub(super) fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>) {
        for (instance, entry) in &mut self.entries {
            if !admitted.contains_key(instance)
                && let Some(live) = &mut entry.live
            {
                let text = format!("instance {instance} is no longer one of this environment");
                live.end(Status::permission_denied(text));
            }
        }
        self.entries
            .retain(|instance, entry| admitted.contains_key(instance) || entry.live.is_some());
        self.revoked
            .retain(|instance| admitted.contains_key(instance));
        for (instance, admitted) in admitted {
            self.tell(instance, &admitted.wanted);
        }
        self.joins.retain(|id, _| admitted.contains_key(id));
        self.registrations.retain(|id, _| admitted.contains_key(id));
        self.admitted = Some(admitted.clone());
    }

    /// What is to be shown of the coordinator itself.
    pub(super) fn notices(&self) -> Vec<String> {
        let notices = self.entries.values().filter_map(|entry| {
            let notice = entry.notice.as_ref()?;
            (notice.about == About::Coordinator).then(|| notice.text.clone())
        });
        notices.collect()
    }
}

/// Whether two reports differ only in what passes by itself.
fn says_the_same(before: &Report, now: &Report) -> bool {
    let plain = |report: &Report| Report {
        sequence: 0,
        health_for: std::time::Duration::ZERO,
        clock_offset_ms: None,
        connections: None,
        quorum: report.quorum.map(|quorum| QuorumReport {
            age: std::time::Duration::ZERO,
            ..quorum
        }),
        ..report.clone()
    };
    plain(before) == plain(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_takes_no_data_cannot_keep_its_session_open() {
        let instance: InstanceId = "web-a".parse().unwrap();
        let image = calvin_model::ImageRef {
            tag: "web@1.0".parse().unwrap(),
            digest: calvin_model::Digest::from_sha256([0; 32]),
        };
        let wanted = Wanted {
            generation: calvin_model::Generation(1),
            role: calvin_model::Role::Standby,
            drain: None,
        };
        let admitted = Admitted {
            fleet: "web".parse().unwrap(),
            image,
            wanted,
        };
        let mut registry = Registry::default();
        let from = IpAddr::from([10, 0, 0, 7]);
        assert!(
            registry.open(&instance, from, Speaks::NoConsul).is_none(),
            "nobody is admitted yet"
        );
        registry.admit(&BTreeMap::from([(instance.clone(), admitted)]));
        let opened = registry.open(&instance, from, Speaks::NoConsul).unwrap();
        assert_eq!(registry.entries[&instance].from, Some(from));
        let is_open = |registry: &Registry, later| {
            let live = registry.entries[&instance].live.as_ref().unwrap();
            live.is_open(Instant::now() + later)
        };
        assert!(is_open(&registry, END_GRACE * 100));
        registry.end(&instance, Status::aborted("first"));
        registry.end(&instance, Status::aborted("second"));
        assert!(is_open(&registry, Duration::ZERO));
        assert!(!is_open(&registry, END_GRACE));
        let reason = opened.end.borrow().as_ref().unwrap().message().to_owned();
        assert_eq!(reason, "first");
    }
}
