//! Spreads instances evenly over zones: where the next is made, and which are taken away.

use std::collections::{BTreeMap, VecDeque};

use calvin_model::{InstanceId, ZoneName};

use crate::{environment::EnvironmentState, state::FleetState};

/// How many instances there are in each zone that new ones may be made in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spread<'a> {
    /// In the order of the fleet file; those that are lost are left out.
    zones: Vec<(&'a ZoneName, usize)>,
    /// The fleet names zones, and all of them are lost.
    nowhere: bool,
}

/// Where the next instance is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this zone; where the provider likes if none is named.
    In(Option<ZoneName>),
    /// Nowhere: all zones of the fleet are lost.
    Nowhere,
}

impl<'a> Spread<'a> {
    /// Of the instances of a fleet that stay and that `counts` is true for.
    pub(crate) fn of(
        state: &'a FleetState,
        environment: &EnvironmentState,
        counts: impl Fn(&InstanceId) -> bool,
    ) -> Self {
        let mut spread = Self::empty(state, environment);
        if spread.zones.is_empty() {
            return spread;
        }
        for (id, instance) in &state.instances {
            if !instance.leaving() && counts(id) {
                spread.add(instance.zone.as_ref());
            }
        }
        spread
    }

    fn empty(state: &'a FleetState, environment: &EnvironmentState) -> Self {
        let usable = state.spec.zones.iter();
        let usable = usable.filter(|zone| !environment.lost_zones.contains_key(*zone));
        let zones: Vec<_> = usable.map(|zone| (zone, 0)).collect();
        let nowhere = zones.is_empty() && !state.spec.zones.is_empty();
        Self { zones, nowhere }
    }

    fn add(&mut self, zone: Option<&ZoneName>) {
        for (name, count) in &mut self.zones {
            if Some(*name) == zone {
                *count += 1;
            }
        }
    }

    /// The zone with the fewest, the first of the fleet file among equals; counts the new one.
    pub(crate) fn next(&mut self) -> Place {
        if self.nowhere {
            return Place::Nowhere;
        }
        // `min_by_key` returns the first of equals.
        let Some((zone, count)) = self.zones.iter_mut().min_by_key(|(_, count)| *count) else {
            return Place::In(None);
        };
        *count += 1;
        Place::In(Some((*zone).clone()))
    }

    /// The same zone, if new ones may be made there; otherwise the one with the fewest.
    pub(crate) fn same_or_next(&mut self, zone: Option<&ZoneName>) -> Place {
        if let Some((found, count)) = self.zones.iter_mut().find(|(name, _)| Some(*name) == zone) {
            *count += 1;
            return Place::In(Some((*found).clone()));
        }
        self.next()
    }
}

/// One instance that may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Which.
    pub(crate) id: InstanceId,
    /// Those of a lower rank go first, wherever they are.
    pub(crate) rank: u8,
    /// Where it is.
    pub(crate) zone: Option<ZoneName>,
}

/// Takes `number` of the candidates: by rank, within a rank from the zone that has most left, and
/// there in the order given. `there` are all instances by zone that count for what is left.
pub(crate) fn take_evenly(
    candidates: Vec<Candidate>,
    mut there: BTreeMap<Option<ZoneName>, usize>,
    number: usize,
) -> Vec<InstanceId> {
    let mut ranks: BTreeMap<u8, BTreeMap<Option<ZoneName>, VecDeque<InstanceId>>> = BTreeMap::new();
    for one in candidates {
        let zones = ranks.entry(one.rank).or_default();
        zones.entry(one.zone).or_default().push_back(one.id);
    }
    let mut taken = Vec::new();
    for mut zones in ranks.into_values() {
        while taken.len() < number {
            let fullest = zones.keys().max_by_key(|zone| {
                (
                    there.get(*zone).copied(),
                    std::cmp::Reverse((*zone).clone()),
                )
            });
            let Some(zone) = fullest.cloned() else {
                break;
            };
            let Some(queue) = zones.get_mut(&zone) else {
                break;
            };
            if let Some(id) = queue.pop_front() {
                taken.push(id);
                if let Some(left) = there.get_mut(&zone) {
                    *left = left.saturating_sub(1);
                }
            }
            if queue.is_empty() {
                zones.remove(&zone);
            }
        }
    }
    taken
}
