//! A provider that has no room for more, and a fleet that serves.

use std::time::Duration;

use calvin_model::InstanceId;
use calvin_planner::{FaultKind, Life, Phase, ProviderFault};

use super::World;

/// How many machines the provider can make.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Room {
    /// As many as anybody wants, and it does not say so.
    #[default]
    Enough,
    /// So many in all, which shows when one more is asked for.
    Refuses(usize),
}

impl Room {
    pub(super) fn fault(self) -> Option<ProviderFault> {
        match self {
            Self::Enough => None,
            Self::Refuses(most) => Some(ProviderFault {
                message: format!("the quota of {most} machines is used up"),
                tries: 3,
                retry_in: Duration::from_secs(20),
                permanent: false,
                kind: FaultKind::Quota,
            }),
        }
    }
}

impl World {
    /// Whether there is no room for the machine of an instance that has none. What is ordered to be
    /// deleted is not tried to be made any more.
    pub(super) fn is_full_for(&self, instance: &InstanceId) -> bool {
        let records = self
            .fleets
            .values()
            .find_map(|one| one.instances.get(instance));
        if records.is_none_or(|record| record.life != Life::Making) {
            return false;
        }
        match self.room {
            Room::Enough => false,
            Room::Refuses(most) => {
                self.machines_there() >= most && !self.machines.contains_key(instance)
            }
        }
    }
}

/// A world whose fleet serves.
pub(crate) fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    world.run_to(Phase::Done);
    world.run_until(60, |world| {
        world.active("1.0").len() == world.web().instances.len()
    });
    world
}

/// Every instance that has a record.
pub(crate) fn ids(world: &World) -> Vec<InstanceId> {
    world.web().instances.keys().cloned().collect()
}
