//! The engine's side: a catalogue that is told what is wanted and shows what was read back. It never
//! waits; the task does what takes time.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::ports::{Catalogue, CatalogueWord, NotPublished};
use calvin_model::{CatalogueEntry, CatalogueRole, Epoch, FleetName, InstanceId};
use calvin_planner::{CatalogueObserved, CheckObserved, Event, GossipObserved, LockSeen};
use tokio::time::Instant;

use super::{super::NamesPublisher, decide::Said, holds::holds, shared::Shared};

/// The catalogue of an environment that has Consul.
#[derive(Debug)]
pub struct ConsulCatalogue {
    pub(super) shared: Shared,
    pub(super) _names: NamesPublisher,
}

impl Catalogue for ConsulCatalogue {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        let roles = entries.iter();
        let roles = roles.map(|entry| (entry.instance.clone(), entry.role));
        let roles = roles.collect();
        self.shared.state().set.insert(fleet.clone(), roles);
    }

    /// Consul's own checks and the agents' do that.
    fn set_visible(&mut self, hidden: &[InstanceId]) {
        let _ = hidden;
    }

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        let state = self.shared.state();
        if !state.complete {
            return BTreeMap::new();
        }
        let now = Instant::now();
        let seen = state.seen.iter();
        seen.map(|(fleet, seen)| {
            let check = |(id, said): (&InstanceId, &Said)| {
                // All of them together are as old as the oldest, and where one is nothing, nothing.
                let oldest = |oldest: Duration, age: Option<Duration>| Some(oldest.max(age?));
                let age = state.ages(said, now).try_fold(Duration::ZERO, oldest);
                let age = age.unwrap_or(Duration::MAX);
                let passing = said.well;
                (id.clone(), CheckObserved { age, passing })
            };
            let mut roles = seen.roles.clone();
            // It was judged by what was wanted then. Where services differ it is not found as it is to be
            // now either.
            for (id, other) in &seen.mixed {
                let wanted = state.wanted.get(fleet).and_then(|fleet| fleet.get(id));
                if wanted.is_some() && roles.get(id) == wanted {
                    roles.insert(id.clone(), *other);
                }
            }
            let observed = CatalogueObserved {
                roles,
                visible: seen.visible.clone(),
                unconfirmed: Vec::new(),
                checks: seen.checks.iter().map(check).collect(),
            };
            (fleet.clone(), observed)
        })
        .collect()
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        self.shared.state().listed.clone()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        let new = self.shared.state().ghosts.insert(instance.clone());
        if new {
            self.shared.tell_task();
        }
    }

    fn publish(&mut self) -> Result<(), NotPublished> {
        let mut state = self.shared.state();
        if state.set != state.wanted {
            state.wanted = state.set.clone();
            // What was seen of a fleet was judged by what was wanted of it before.
            self.shared.tell_task();
        }
        let waiting = state.seen.iter().find_map(|(fleet, seen)| {
            let waits = seen.waits.as_ref()?;
            Some(format!("fleet {fleet} waits for {waits}"))
        });
        waiting.map_or(Ok(()), |why| Err(NotPublished(why)))
    }

    /// Everything is set anew by a run that speaks with another epoch.
    fn speak(&mut self, epoch: &Epoch) {
        let _ = epoch;
        let mut state = self.shared.state();
        state.set.clear();
        state.wanted.clear();
        state.seen.clear();
    }

    fn holds(&self) -> Option<String> {
        holds(&self.shared.state().signs())
    }

    fn word(&self) -> CatalogueWord {
        self.shared.state().word()
    }

    fn deeds(&mut self) -> Vec<Event> {
        self.shared.state().take_deeds()
    }

    fn gossip(&self) -> BTreeMap<InstanceId, GossipObserved> {
        let state = self.shared.state();
        if !state.complete {
            return BTreeMap::new();
        }
        let now = Instant::now();
        let seen = state.seen.values().flat_map(|seen| &seen.gossip);
        seen.filter_map(|(id, said)| {
            // Each of these answers says it by itself.
            let age = state.ages(said, now).flatten().min()?;
            let alive = said.well;
            Some((id.clone(), GossipObserved { age, alive }))
        })
        .collect()
    }

    fn locks(&self) -> BTreeMap<InstanceId, LockSeen> {
        self.shared.state().locks.seen(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::decide::Decision, *};

    #[test]
    fn gossip_and_checks_are_as_old_as_the_answer_that_is_shown_however_new_the_lock_is() {
        let shared = Shared::new(Arc::new(|| {}));
        let catalogue = ConsulCatalogue {
            shared: shared.clone(),
            _names: NamesPublisher::default(),
        };
        let session = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let key = "calvin/prod/coordinator".parse().unwrap();
        shared.locked(&key, &session, Instant::now());
        let fleet: FleetName = "web".parse().unwrap();
        let instance: InstanceId = "web-a".parse().unwrap();
        let said = Said {
            well: false,
            by: ["web".to_owned()].into(),
        };
        let seen = Decision {
            gossip: BTreeMap::from([(instance.clone(), said.clone())]),
            checks: BTreeMap::from([(instance.clone(), said)]),
            ..Decision::default()
        };
        let age_of_checks = || catalogue.read_back()[&fleet].checks[&instance].age;
        let now = Instant::now();
        let mut state = shared.state();
        state.complete = true;
        state.seen.insert(fleet.clone(), seen);
        // It is watched again, and was not answered yet.
        state.watches("web".to_owned());
        drop(state);
        assert!(catalogue.gossip().is_empty());
        assert_eq!(age_of_checks(), Duration::MAX);

        let mut state = shared.state();
        let number = state.gives("web", now);
        let reading = state.names.get_mut("web").unwrap();
        reading.shows(number, now, now);
        drop(state);
        assert!(catalogue.gossip()[&instance].age < Duration::from_secs(5));
        assert!(age_of_checks() < Duration::from_secs(5));
        // Something else was said a while ago, and waits: that it is dead may be over.
        let mut state = shared.state();
        state.gives("web", now - Duration::from_secs(5));
        drop(state);
        assert!(catalogue.gossip().is_empty());
        assert_eq!(age_of_checks(), Duration::MAX);
    }
}
