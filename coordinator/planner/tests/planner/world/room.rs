//! What the world's provider has room for, where it puts what names no zone, and a fleet that serves.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::InstanceId;
use calvin_planner::{Capacity, FaultKind, FleetState, Phase, ProviderFault};

use super::World;

/// How many machines the provider can make.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Room {
    /// As many as anybody wants, and it does not say so.
    #[default]
    Enough,
    /// So many in all, and it says how many are left.
    Says(usize),
    /// So many in all, which shows when one more is asked for.
    Refuses(usize),
}

impl Room {
    pub(super) fn fault(self) -> Option<ProviderFault> {
        match self {
            Self::Enough | Self::Says(_) => None,
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
    pub(super) fn capacity(&self) -> Capacity {
        match self.room {
            Room::Enough | Room::Refuses(_) => Capacity::Unknown,
            Room::Says(most) => {
                let free = most.saturating_sub(self.machines_there());
                Capacity::Free(u32::try_from(free).unwrap())
            }
        }
    }

    /// Whether there is no room for the machine of an instance that has none.
    pub(super) fn is_full_for(&self, instance: &InstanceId) -> bool {
        match self.room {
            Room::Enough => false,
            Room::Says(most) | Room::Refuses(most) => {
                self.machines_there() >= most && !self.machines.contains_key(instance)
            }
        }
    }

    /// Gives what names no zone one of the fleet's, evenly, as a provider would that chooses.
    pub(super) fn spread(&self, fleet: &mut FleetState) {
        let lost = &self.environment.lost_zones;
        let zones = fleet.spec.zones.iter();
        let zones: Vec<_> = zones.filter(|zone| !lost.contains_key(*zone)).collect();
        let mut there: BTreeMap<_, usize> = zones.iter().map(|zone| (*zone, 0)).collect();
        for instance in fleet.instances.values() {
            if let Some(count) = instance.zone.as_ref().and_then(|it| there.get_mut(it)) {
                *count += 1;
            }
        }
        let unplaced = fleet.instances.values_mut();
        for instance in unplaced.filter(|it| it.zone.is_none()) {
            let fewest = there.iter_mut().min_by_key(|(_, count)| **count);
            if let Some((zone, count)) = fewest {
                *count += 1;
                instance.zone = Some((*zone).clone());
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
