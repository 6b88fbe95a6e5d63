//! How an agent is to join Consul and to be registered there: the newest of both, sent to those that
//! can.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use calvin_model::{Epoch, InstanceId, Join, Registration};
use calvin_proto::convert::{Hello, RegistrationOrder, ToAgent, join::CONSUL};

use super::{
    Agents,
    registry::{Registry, Speaks},
};
use crate::catalogue::Machines;

/// What one agent is told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Joining {
    pub(super) join: Option<Arc<Join>>,
    pub(super) registration: Option<Registration>,
}

impl Speaks {
    pub(super) fn of(hello: &Hello) -> Self {
        if hello.capabilities.iter().any(|word| word == CONSUL) {
            Self::Consul
        } else {
            Self::NoConsul
        }
    }
}

impl Joining {
    /// What an agent that was told `before` has not been told. A token before the word to use it.
    pub(super) fn news(&self, before: &Self, epoch: &Epoch) -> Vec<ToAgent> {
        let mut news = Vec::new();
        if let Some(join) = self.join.as_ref().filter(|_| self.join != before.join) {
            news.push(ToAgent::Join(Join::clone(join)));
        }
        if let Some(registration) = self.registration
            && self.registration != before.registration
        {
            news.push(ToAgent::Registration(RegistrationOrder {
                epoch: epoch.clone(),
                registration,
            }));
        }
        news
    }
}

impl Registry {
    /// What an instance is told now.
    pub(super) fn joining(&self, instance: &InstanceId) -> Joining {
        Joining {
            join: self.joins.get(instance).cloned(),
            registration: self.registrations.get(instance).copied(),
        }
    }

    /// Lets every live session have what is new for it.
    fn spread_joining(&self) {
        for (instance, entry) in &self.entries {
            let live = entry.live.as_ref();
            if let Some(joining) = live.and_then(|live| live.joining.as_ref()) {
                let now = self.joining(instance);
                joining.send_if_modified(|told| {
                    let changed = *told != now;
                    *told = now;
                    changed
                });
            }
        }
    }
}

impl Machines for Agents {
    fn set_joins(&self, joins: BTreeMap<InstanceId, Arc<Join>>) {
        let mut registry = self.registry();
        if registry.joins != joins {
            registry.joins = joins;
            registry.spread_joining();
        }
    }

    fn set_registrations(&self, registrations: BTreeMap<InstanceId, Registration>) {
        let mut registry = self.registry();
        if registry.registrations != registrations {
            registry.registrations = registrations;
            registry.spread_joining();
        }
    }

    fn reachable(&self) -> BTreeSet<InstanceId> {
        let registry = self.registry();
        let listening = registry.entries.iter().filter(|(_, entry)| {
            let live = entry.live.as_ref();
            live.is_some_and(|live| live.joining.is_some() && live.ending().is_none())
        });
        listening.map(|(instance, _)| instance.clone()).collect()
    }
}
