//! The engine's ports with a place around each call that changes something outside. What only
//! looks is passed on as it is.

// A method that a port has by default would not reach the port behind.
#![warn(clippy::missing_trait_methods)]

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::{
    PortSet,
    ports::{
        Admitted, AgentHeard, AgentLink, AgentSeen, Batch, Catalogue, CatalogueWord, CreateOrder,
        MachineList, MachineTag, NotAdopted, NotPublished, Provider, Revision, Store, StoreError,
        Stored,
    },
};
use calvin_model::{CatalogueEntry, CatalogueRole, Epoch, FleetName, InstanceId, Wanted};
use calvin_planner::{Capacity, CatalogueObserved, DeleteBasis, Event, GossipObserved, LockSeen};

use super::CrashPoints;

/// A port with its places.
#[derive(Debug)]
struct Around<T> {
    points: CrashPoints,
    inner: T,
}

pub(super) fn around(points: &CrashPoints, ports: PortSet) -> PortSet {
    PortSet {
        store: points.boxed(ports.store),
        providers: ports
            .providers
            .into_iter()
            .map(|(name, provider)| {
                let provider: Box<dyn Provider + Send> = points.boxed(provider);
                (name, provider)
            })
            .collect(),
        catalogue: points.boxed(ports.catalogue),
        agents: points.boxed(ports.agents),
        ..ports
    }
}

impl CrashPoints {
    fn boxed<T>(&self, inner: T) -> Box<Around<T>> {
        Box::new(Around {
            points: self.clone(),
            inner,
        })
    }
}

impl Store for Around<Box<dyn Store + Send>> {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.inner.load()
    }

    fn commit(&mut self, expected: Revision, batch: &Batch) -> Result<Revision, StoreError> {
        // A checkpoint of the clock alone comes when five seconds are over; dying at it is dying at
        // any time, and would make every other number depend on how fast the machine is.
        if batch.epoch.is_none() && batch.fleets.is_empty() && batch.history.is_empty() {
            return self.inner.commit(expected, batch);
        }
        let lines = batch.history.iter().map(|line| line.event.text.as_str());
        let what = format!(
            "epoch {:?}, fleets {:?}: {}",
            batch.epoch.as_ref().map(|epoch| epoch.number),
            batch
                .fleets
                .keys()
                .map(FleetName::as_str)
                .collect::<Vec<_>>(),
            lines.collect::<Vec<_>>().join("; "),
        );
        // No commit repeats another: two that say nothing change different things.
        let kind = format!("commit on {}", expected.0);
        self.points
            .pass(kind, what, || self.inner.commit(expected, batch))
    }
}

impl Provider for Around<Box<dyn Provider + Send>> {
    fn create(&mut self, order: &CreateOrder) {
        let what = "machine to be made".to_owned();
        self.points.pass(format!("{}", order.instance), what, || {
            self.inner.create(order);
        });
    }

    fn delete(&mut self, instance: &InstanceId, basis: &DeleteBasis) {
        let what = "machine to be deleted".to_owned();
        self.points.pass(instance.to_string(), what, || {
            self.inner.delete(instance, basis);
        });
    }

    fn list(&self) -> MachineList {
        self.inner.list()
    }

    fn tags(&self) -> BTreeMap<InstanceId, MachineTag> {
        self.inner.tags()
    }

    fn capacity(&self) -> Capacity {
        self.inner.capacity()
    }
}

impl Catalogue for Around<Box<dyn Catalogue + Send>> {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        let roles: Vec<_> = entries
            .iter()
            .map(|entry| (entry.instance.as_str(), entry.role))
            .collect();
        self.points
            .pass(format!("roles of {fleet}"), format!("{roles:?}"), || {
                self.inner.set_roles(fleet, entries);
            });
    }

    fn set_visible(&mut self, hidden: &[InstanceId]) {
        self.points
            .pass("hidden".to_owned(), format!("{hidden:?}"), || {
                self.inner.set_visible(hidden);
            });
    }

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        self.inner.read_back()
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        self.inner.list()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        let what = "no entry".to_owned();
        self.points.pass(format!("ghost {instance}"), what, || {
            self.inner.remove_ghost(instance);
        });
    }

    fn publish(&mut self) -> Result<(), NotPublished> {
        // What there is to publish shows in the entries.
        let what = format!("{:?}", self.inner.list());
        self.points
            .pass("publish".to_owned(), what, || self.inner.publish())
    }

    fn speak(&mut self, epoch: &Epoch) {
        self.inner.speak(epoch);
    }

    fn holds(&self) -> Option<String> {
        self.inner.holds()
    }

    fn gossip(&self) -> BTreeMap<InstanceId, GossipObserved> {
        self.inner.gossip()
    }

    fn word(&self) -> CatalogueWord {
        self.inner.word()
    }

    fn deeds(&mut self) -> Vec<Event> {
        self.inner.deeds()
    }

    fn locks(&self) -> BTreeMap<InstanceId, LockSeen> {
        self.inner.locks()
    }
}

impl AgentLink for Around<Box<dyn AgentLink + Send>> {
    fn tell(&mut self, instance: &InstanceId, wanted: &Wanted) {
        self.points
            .pass(format!("tell {instance}"), format!("{wanted:?}"), || {
                self.inner.tell(instance, wanted);
            });
    }

    fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>) {
        let what = format!("{:?}", admitted.keys());
        self.points
            .pass("admit".to_owned(), what, || self.inner.admit(admitted));
    }

    fn revoke(&mut self, instance: &InstanceId) {
        let what = "for good".to_owned();
        self.points.pass(format!("revoke {instance}"), what, || {
            self.inner.revoke(instance);
        });
    }

    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen> {
        self.inner.observe()
    }

    fn report_interval(&self) -> Duration {
        self.inner.report_interval()
    }

    fn only_listen(&mut self, why: Option<&str>) {
        self.inner.only_listen(why);
    }

    fn heard(&self) -> BTreeMap<InstanceId, AgentHeard> {
        self.inner.heard()
    }

    fn adopt(&mut self, instances: &[InstanceId]) -> Result<(), NotAdopted> {
        let what = "identities".to_owned();
        self.points.pass(format!("adopt {instances:?}"), what, || {
            self.inner.adopt(instances)
        })
    }

    fn speak(&mut self, epoch: &Epoch) {
        self.inner.speak(epoch);
    }
}
