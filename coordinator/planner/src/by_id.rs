//! What is known of each instance, found once in a pass. Steps go through the instances in the order
//! of their ids, again and again: whoever asks in that order is answered without a search.

use std::{
    cell::Cell,
    collections::{BTreeMap, btree_map::Range},
    iter::Peekable,
    ops::Bound,
};

use calvin_model::InstanceId;

use crate::{
    observed::{InstanceObserved, Observed},
    state::{FleetState, Instance},
};

/// One value for each instance of a fleet.
#[derive(Debug)]
pub(crate) struct ById<'a, T> {
    /// In the order of the ids, each once.
    rows: Vec<(&'a InstanceId, T)>,
    /// The row that was asked for last. It only shortens the way.
    last: Cell<usize>,
}

impl<'a, T> ById<'a, T> {
    /// Of rows in the order of the ids, each once.
    pub(crate) fn of(rows: impl Iterator<Item = (&'a InstanceId, T)>) -> Self {
        let rows: Vec<_> = rows.collect();
        debug_assert!(rows.is_sorted_by(|(one, _), (other, _)| one < other));
        Self {
            rows,
            last: Cell::new(0),
        }
    }

    pub(crate) fn get(&self, id: &InstanceId) -> Option<&T> {
        let (_, value) = self.rows.get(self.find(id)?)?;
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, id: &InstanceId) -> Option<&mut T> {
        let index = self.find(id)?;
        let (_, value) = self.rows.get_mut(index)?;
        Some(value)
    }

    fn find(&self, id: &InstanceId) -> Option<usize> {
        let last = self.last.get();
        let next = if last + 1 < self.rows.len() {
            last + 1
        } else {
            0
        };
        let is = |index: &usize| self.rows.get(*index).is_some_and(|(found, _)| *found == id);
        let near = [last, next].into_iter().find(is);
        let search = || {
            self.rows
                .binary_search_by(|(found, _)| (*found).cmp(id))
                .ok()
        };
        let index = near.or_else(search)?;
        self.last.set(index);
        Some(index)
    }
}

/// The instances of a fleet with what is seen of each, in the order of the ids.
pub(crate) fn with_seen<'a>(
    fleet: &'a FleetState,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a InstanceId, &'a Instance, Option<&'a InstanceObserved>)> {
    let mut seen: Option<Seen<'a>> = None;
    fleet.instances.iter().map(move |(id, instance)| {
        let seen = seen.get_or_insert_with(|| Seen::from(observed, id));
        (id, instance, seen.next(id))
    })
}

/// Observations of others that are gone past, one by one, before the next is searched for.
const PASSED: usize = 8;

/// Goes through what is seen in the order of the ids.
struct Seen<'a> {
    all: &'a BTreeMap<InstanceId, InstanceObserved>,
    rest: Peekable<Range<'a, InstanceId, InstanceObserved>>,
}

impl<'a> Seen<'a> {
    fn from(observed: &'a Observed, first: &InstanceId) -> Self {
        let all = &observed.instances;
        let rest = all.range((Bound::Included(first), Bound::Unbounded));
        Self {
            all,
            rest: rest.peekable(),
        }
    }

    /// What is seen of the next instance; ids only grow.
    fn next(&mut self, id: &InstanceId) -> Option<&'a InstanceObserved> {
        for _ in 0..PASSED {
            if self.rest.next_if(|(other, _)| *other < id).is_none() {
                let found = self.rest.next_if(|(other, _)| *other == id);
                return found.map(|(_, seen)| seen);
            }
        }
        let rest = self.all.range((Bound::Included(id), Bound::Unbounded));
        self.rest = rest.peekable();
        let found = self.rest.next_if(|(other, _)| *other == id);
        found.map(|(_, seen)| seen)
    }
}

#[cfg(test)]
mod tests {
    use calvin_model::FleetName;

    use super::*;

    fn id(fleet: &str, number: u64) -> InstanceId {
        let fleet: FleetName = fleet.parse().unwrap();
        InstanceId::new(&fleet, number)
    }

    #[test]
    fn each_is_found_in_whatever_order_it_is_asked_for() {
        let mut ids: Vec<InstanceId> = (0..50).map(|number| id("web", number * 3)).collect();
        ids.sort();
        let mut by_id = ById::of(ids.iter().zip(0..));
        let backwards = (0..50).rev();
        let twice = (0..50).flat_map(|index| [index, index]);
        let jumps = (0..200).map(|step| step * 7 % 50);
        for index in (0..50).chain(twice).chain(backwards).chain(jumps) {
            let asked = ids[index].clone();
            assert_eq!(by_id.get(&asked), Some(&i32::try_from(index).unwrap()));
            assert_eq!(by_id.get(&id("web", 1)), None);
        }
        *by_id.get_mut(&ids[7]).unwrap() = -1;
        assert_eq!(by_id.get(&ids[7]), Some(&-1));
        let nobody: ById<'_, i32> = ById::of(std::iter::empty());
        assert_eq!(nobody.get(&ids[0]), None);
    }

    #[test]
    fn what_is_seen_is_that_of_the_same_instance_whoever_lies_between() {
        let mut observed = Observed::default();
        // The ids of `web-b` lie among those of `web`, more of them than are gone past.
        for (fleet, step) in [("web", 3), ("web-b", 1), ("vault", 1), ("zoo", 1)] {
            for number in (0..100).step_by(step) {
                let seen = InstanceObserved {
                    alarm: Some(format!("{fleet} {number}")),
                    ..InstanceObserved::default()
                };
                observed.instances.insert(id(fleet, number), seen);
            }
        }
        for fleet in ["web", "web-b", "vault", "zoo", "nobody"] {
            let mut ids: Vec<InstanceId> = (0..100).map(|number| id(fleet, number)).collect();
            ids.sort();
            let mut seen = Seen::from(&observed, &ids[0]);
            for id in &ids {
                assert_eq!(seen.next(id), observed.instances.get(id), "{id}");
            }
        }
    }
}
