//! The provider, as the coordinator sees it: a box for requests, and its last complete list. What
//! it does with requests is the world's business, and survives the coordinator.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::ports::{CreateOrder, Machine, MachineList, MachineTag, Provider};
use calvin_model::InstanceId;
use calvin_planner::{DeleteBasis, ProviderFault};

use crate::fuse::Fuse;

/// Its name in fleet specs.
pub(crate) const NAME: &str = "sim";

/// What was asked of it.
#[derive(Debug)]
pub(crate) enum Request {
    /// Make a machine.
    Create(CreateOrder),
    /// Delete a machine.
    Delete(InstanceId, DeleteBasis),
}

/// One coordinator's view of the provider.
#[derive(Debug)]
pub(crate) struct SimProvider {
    fuse: Fuse,
    /// Requests that the world has not taken yet.
    pub(crate) requests: Vec<Request>,
    /// The last complete list of this run.
    pub(crate) listed: Option<(Duration, Vec<Machine>)>,
    /// What the tags of all that it ever listed say.
    pub(crate) tags: BTreeMap<InstanceId, MachineTag>,
    /// What failed, and when it is tried again.
    pub(crate) faults: BTreeMap<InstanceId, (ProviderFault, Duration)>,
    pub(crate) now: Duration,
}

impl SimProvider {
    pub(crate) fn new(fuse: Fuse) -> Self {
        Self {
            fuse,
            requests: Vec::new(),
            listed: None,
            tags: BTreeMap::new(),
            faults: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }
}

impl Provider for SimProvider {
    fn create(&mut self, order: &CreateOrder) {
        if self.fuse.burn() {
            self.requests.push(Request::Create(order.clone()));
        }
    }

    fn delete(&mut self, instance: &InstanceId, basis: &DeleteBasis) {
        if self.fuse.burn() {
            self.requests
                .push(Request::Delete(instance.clone(), basis.clone()));
        }
    }

    fn tags(&self) -> BTreeMap<InstanceId, MachineTag> {
        self.tags.clone()
    }

    fn list(&self) -> MachineList {
        let Some((at, machines)) = &self.listed else {
            return MachineList::default();
        };
        let faults = self.faults.iter().map(|(instance, (fault, again_at))| {
            let mut fault = fault.clone();
            fault.retry_in = again_at.saturating_sub(self.now);
            (instance.clone(), fault)
        });
        MachineList {
            age: Some(self.now.saturating_sub(*at)),
            machines: machines.clone(),
            faults: faults.collect(),
        }
    }
}
