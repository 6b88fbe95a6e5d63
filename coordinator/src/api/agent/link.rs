//! The engine's side: what it says reaches the sessions, and what sessions say is shown to it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use calvin_engine::ports::{Admitted, AgentHeard, AgentLink, AgentSeen, NotAdopted};
use calvin_model::{Epoch, InstanceId, NamesVersion, Wanted};
use calvin_planner::{AgentObserved, SessionObserved};

use super::{Agents, registry::Entry};
use crate::{
    catalogue::AgentNames,
    identity::{CasKept, Refusal},
};

impl AgentLink for Agents {
    fn tell(&mut self, instance: &InstanceId, wanted: &Wanted) {
        self.registry().tell(instance, wanted);
    }

    fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>) {
        self.registry().admit(admitted);
        let forgotten = self
            .identity()
            .forget(|instance| admitted.contains_key(instance));
        if let Err(error) = forgotten {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "could not forget identities that are over");
        }
    }

    fn revoke(&mut self, instance: &InstanceId) {
        // Durable first: a session that was closed could come back.
        if let Err(error) = self.identity().revoke(instance) {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, %instance, "could not revoke an identity; it is tried again");
            return;
        }
        let refusal = Refusal::InstanceRetired {
            instance: instance.clone(),
        };
        let mut registry = self.registry();
        registry.revoked.insert(instance.clone());
        registry.end(instance, refusal.status());
    }

    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen> {
        let mut alarms = self.identity().alarms();
        let now = Instant::now();
        let registry = self.registry();
        let mut seen: BTreeMap<InstanceId, AgentSeen> = registry
            .entries
            .iter()
            .map(|(instance, entry)| (instance.clone(), look(entry, now)))
            .collect();
        for instance in &registry.revoked {
            let seen = seen.entry(instance.clone()).or_default();
            seen.revoked = !matches!(seen.session, SessionObserved::Alive(_));
        }
        let known = |instance: &InstanceId| {
            let admitted = registry.admitted.as_ref();
            admitted.is_some_and(|admitted| admitted.contains_key(instance))
        };
        alarms.retain(|instance, _| known(instance));
        for (instance, alarm) in alarms {
            seen.entry(instance).or_default().alarm = Some(alarm);
        }
        seen
    }

    fn report_interval(&self) -> Duration {
        self.shared.options.report_interval
    }

    fn only_listen(&mut self, why: Option<&str>) {
        self.identity().keep_cas(match why {
            Some(_) => CasKept::All,
            None => CasKept::Needed,
        });
        self.registry().only_listen(why);
    }

    fn heard(&self) -> BTreeMap<InstanceId, AgentHeard> {
        self.registry().all_heard()
    }

    fn adopt(&mut self, instances: &[InstanceId]) -> Result<(), NotAdopted> {
        self.adopt_heard(instances)
    }

    fn speak(&mut self, epoch: &Epoch) {
        self.set_epoch(epoch.clone());
    }
}

fn look(entry: &Entry, now: Instant) -> AgentSeen {
    let (open, ended) = match &entry.live {
        Some(live) if live.is_open(now) => (Some(live), None),
        Some(live) => (None, live.ending()),
        None => (None, entry.ended),
    };
    let session = match (open, ended) {
        (Some(live), _) => SessionObserved::Alive(now.saturating_duration_since(live.since())),
        (None, Some(ended)) => SessionObserved::Ended(now.saturating_duration_since(ended)),
        (None, None) => SessionObserved::Never,
    };
    AgentSeen {
        agent: entry.report.as_ref().map(|(at, report)| AgentObserved {
            age: now.saturating_duration_since(*at),
            report: report.clone(),
        }),
        session,
        from: entry.from,
        revoked: false,
        alarm: entry.notice.as_ref().map(|notice| notice.text.clone()),
    }
}

impl AgentNames for Agents {
    fn live_names(&self) -> BTreeMap<InstanceId, Option<NamesVersion>> {
        let registry = self.registry();
        let live = registry.entries.iter().filter_map(|(instance, entry)| {
            let live = entry.live.as_ref().filter(|live| live.ending().is_none())?;
            Some((instance.clone(), live.names))
        });
        live.collect()
    }
}
