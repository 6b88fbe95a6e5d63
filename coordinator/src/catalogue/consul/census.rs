//! Who there is: every instance on record with what its image serves, from the engine's newest picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use calvin_engine::View;
use calvin_model::{
    FleetName, InstanceId, Join, Registration,
    fleet::FleetKind,
    image::{Joins, ServiceSpec},
};
use calvin_planner::Life;

use crate::images::{ImageRecord, ImageStore};

/// The agents, as far as they join Consul and register there.
pub trait Machines: Debug + Send + Sync {
    /// How each is to join; who is not named is told nothing.
    fn set_joins(&self, joins: BTreeMap<InstanceId, Arc<Join>>);
    /// How each is to be registered; who is not named is told nothing.
    fn set_registrations(&self, registrations: BTreeMap<InstanceId, Registration>);
    /// Those that are connected and can be told so.
    fn reachable(&self) -> BTreeSet<InstanceId>;
}

/// One instance on record.
#[derive(Debug, Clone)]
pub(super) struct Known {
    image: Option<Arc<ImageRecord>>,
    pub(super) fleet: FleetName,
    pub(super) exclusive: bool,
    /// Its machine is being removed.
    pub(super) retires: bool,
    /// Its identity is revoked, and no stream of it is open.
    pub(super) revoked: bool,
}

/// Who runs a machine's Consul client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// The agent: the machine is a node of its own, called as the instance.
    Own,
    /// Somebody else, on a node that is called as he likes.
    Elsewhere,
}

/// Every instance on record, by fleet.
pub(super) type Census = BTreeMap<FleetName, BTreeMap<InstanceId, Known>>;

impl Known {
    /// Whether its image is recorded here; without that nobody knows what it serves.
    pub(super) fn is_recorded(&self) -> bool {
        self.image.is_some()
    }

    /// What it registers with Consul; nothing where its image leaves Consul out.
    pub(super) fn services(&self) -> &[ServiceSpec] {
        match &self.image {
            Some(image) if joins_consul(image) => &image.manifest.services,
            Some(_) | None => &[],
        }
    }

    /// Who runs its Consul client, where its image is recorded here.
    pub(super) fn client(&self) -> Option<Client> {
        self.image.as_ref().map(|image| client_of(image))
    }

    /// Whether its machine joins Consul, and has nothing to be found there by.
    pub(super) fn serves_nothing(&self) -> bool {
        self.joins() && self.services().is_empty()
    }

    /// Whether its machine joins Consul.
    pub(super) fn joins(&self) -> bool {
        self.image.as_ref().is_some_and(|image| joins_consul(image))
    }
}

/// Whether machines of an image join Consul.
pub(super) fn joins_consul(image: &ImageRecord) -> bool {
    image.manifest.joins.contains(&Joins::Consul)
}

/// Who runs the Consul clients of an image's machines.
pub(super) fn client_of(image: &ImageRecord) -> Client {
    let consul = image.manifest.consul.as_ref();
    if consul.is_some_and(|consul| consul.address.is_some()) {
        Client::Elsewhere
    } else {
        Client::Own
    }
}

/// Takes the census.
pub(super) fn census(view: &View, images: &ImageStore) -> Census {
    let fleets = view.fleets.iter();
    let fleets = fleets.map(|(name, fleet)| {
        let exclusive = match fleet.spec.kind {
            FleetKind::Exclusive => true,
            FleetKind::Service | FleetKind::Quorum => false,
        };
        let instances = fleet.instances.iter().map(|(id, instance)| {
            let seen = view.observed.instances.get(id);
            let known = Known {
                image: images.get(&instance.build.image.tag),
                fleet: name.clone(),
                exclusive,
                retires: matches!(instance.life, Life::Retiring(_)),
                revoked: seen.is_some_and(|seen| seen.revoked),
            };
            (id.clone(), known)
        });
        (name.clone(), instances.collect())
    });
    fleets.collect()
}

/// Who works with the lock of his exclusive fleet. Where the machine of one of them joins no Consul, that one
/// works without, and the lock says nothing of anybody.
pub(super) fn members(census: &Census) -> BTreeMap<FleetName, BTreeSet<InstanceId>> {
    let mut members: BTreeMap<FleetName, BTreeSet<InstanceId>> = BTreeMap::new();
    for (fleet, instances) in census {
        let with_lock = instances.values().all(|one| one.exclusive && one.joins());
        if with_lock && !instances.is_empty() {
            members.insert(fleet.clone(), instances.keys().cloned().collect());
        }
    }
    members
}

#[cfg(test)]
pub(super) mod tests;
