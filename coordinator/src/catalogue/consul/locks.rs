//! What was read of the locks of exclusive fleets, and what that proves. Pure.
//!
//! The lock itself keeps two from being at work: whoever works holds it. That an instance does *not* hold
//! it is a word that its work is over, under conditions:
//!
//! - It held the lock once: the key's value names who acquired it last, also when it is free. Of others
//!   nobody knows whether their agents work with the lock at all.
//! - It lost it longer ago than a lease. A session that ends by itself ends after the lease; one that a
//!   person ends does not, and the workload runs until the lease is over or its agent finds out.
//! - It has not had it since. A key's lock index grows with each acquisition, so none is missed.
//!
//! Who has not heard yet that it is no longer to be active may take a free lock and work again. That is why
//! this is no proof that somebody else may work without the lock, and nobody does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use calvin_consul::{Key, Prefix, Pulse, SessionId, exclusive::LEASE, kv::Entry, txn::Op};
use calvin_model::{FleetName, InstanceId};
use calvin_planner::{LockHolder, LockSeen};
use tokio::time::Instant;

use super::decide::Needs;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    /// Nobody of ours, where a person took it.
    instance: Option<InstanceId>,
    session: SessionId,
}

/// One lock, as it was read last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Page {
    holder: Option<Holder>,
    /// Who is named as the last one who acquired it.
    last: Option<InstanceId>,
    index: u64,
    /// Everybody who is known to have held it; since when he is not seen to any more.
    lost: BTreeMap<InstanceId, Option<Instant>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Locks {
    /// Nothing before the first answer.
    pages: Option<BTreeMap<FleetName, Page>>,
    /// Who works with which lock.
    members: BTreeMap<FleetName, BTreeSet<InstanceId>>,
    /// When there was an answer last.
    pub(super) pulse: Pulse,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instance {
            Some(instance) => instance.fmt(f),
            None => write!(f, "session {}", self.session),
        }
    }
}

impl Page {
    fn take(&mut self, entry: Option<&Entry>, now: Instant) {
        let named: Option<InstanceId> =
            entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok());
        let index = entry.map_or(0, |entry| entry.lock_index);
        match (index.checked_sub(self.index), &named) {
            (Some(0), _) => {}
            // Whoever got it is named, be it that he has lost it again.
            (Some(1), Some(named)) => drop(self.lost.insert(named.clone(), None)),
            // Of more than one, it may have been anybody.
            (Some(_) | None, _) => self.lose_all(now),
        }
        let session = entry.and_then(|entry| entry.session.clone());
        let before = self.holder.take();
        self.holder = session.map(|session| match before {
            // Somebody wrote another name over his: it is his all the same.
            Some(before) if before.session == session => before,
            Some(_) | None => Holder {
                instance: named.clone(),
                session,
            },
        });
        if let Some(named) = &named {
            self.lost.entry(named.clone()).or_insert(None);
        }
        self.index = index;
        self.last = named;
        let holder = self.holder.as_ref().and_then(|one| one.instance.as_ref());
        for (instance, lost) in &mut self.lost {
            if holder == Some(instance) {
                *lost = None;
            } else {
                lost.get_or_insert(now);
            }
        }
    }

    /// How long an instance has not had it any more. Of a holder whom nobody knows, it may be that one.
    fn lost_for(&self, id: &InstanceId, now: Instant) -> Option<Duration> {
        let stranger = self
            .holder
            .as_ref()
            .is_some_and(|one| one.instance.is_none());
        let lost = self.lost.get(id).copied().flatten();
        lost.filter(|_| !stranger).map(|at| now.duration_since(at))
    }

    fn lose_all(&mut self, now: Instant) {
        for lost in self.lost.values_mut() {
            *lost = Some(now);
        }
    }
}

impl Locks {
    /// Takes an answer: every key below the prefix. Says whether anything is new.
    pub(super) fn take(&mut self, prefix: &Prefix, entries: &[Entry], now: Instant) -> bool {
        let first = self.pages.is_none();
        let pages = self.pages.get_or_insert_default();
        let before = pages.clone();
        let fleet_of = |entry: &Entry| -> Option<FleetName> {
            entry.key.strip_prefix(prefix.as_str())?.parse().ok()
        };
        let mut read: BTreeMap<FleetName, &Entry> = entries
            .iter()
            .filter_map(|entry| Some((fleet_of(entry)?, entry)))
            .collect();
        for (fleet, page) in pages.iter_mut() {
            page.take(read.remove(fleet), now);
        }
        for (fleet, entry) in read {
            let mut page = Page::default();
            page.take(Some(entry), now);
            pages.insert(fleet, page);
        }
        first || *pages != before
    }

    /// These instances are on record, and work with the locks of their fleets.
    pub(super) fn concern(&mut self, members: BTreeMap<FleetName, BTreeSet<InstanceId>>) {
        for (fleet, page) in self.pages.iter_mut().flatten() {
            let members = members.get(fleet);
            // Nobody is on record before the engine has begun.
            let last = page.last.clone();
            page.lost.retain(|id, _| {
                last.as_ref() == Some(id) || members.is_some_and(|members| members.contains(id))
            });
        }
        self.members = members;
    }

    /// What an instance of an exclusive fleet needs to become active.
    pub(super) fn needs(&self, key: Key, fleet: &FleetName, id: &InstanceId) -> Needs {
        let Some(pages) = &self.pages else {
            let what = format!("{id} to take the lock {key}, of which nothing was read yet");
            return Needs::Lacks(what);
        };
        match pages.get(fleet).and_then(|page| page.holder.as_ref()) {
            None => Needs::Lacks(format!("{id} to take the lock {key}, which nobody holds")),
            Some(holder) if holder.instance.as_ref() == Some(id) => {
                let session = holder.session.clone();
                Needs::Holds(Op::CheckSession { key, session })
            }
            Some(holder) => {
                Needs::Lacks(format!("{id} to take the lock {key}, which {holder} holds"))
            }
        }
    }

    /// What is seen of the lock of each instance.
    pub(super) fn seen(&self, now: Instant) -> BTreeMap<InstanceId, LockSeen> {
        let (Some(pages), Some(age)) = (&self.pages, self.pulse.age()) else {
            return BTreeMap::new();
        };
        let none = Page::default();
        let members = self.members.iter().flat_map(|(fleet, members)| {
            let page = pages.get(fleet).unwrap_or(&none);
            members.iter().map(move |id| (id, page))
        });
        members
            .map(|(id, page)| (id.clone(), seen(id, page, age, now)))
            .collect()
    }
}

fn seen(id: &InstanceId, page: &Page, age: Duration, now: Instant) -> LockSeen {
    let holder = match &page.holder {
        None => LockHolder::Nobody,
        Some(holder) if holder.instance.as_ref() == Some(id) => LockHolder::Itself,
        Some(holder) => LockHolder::Another(holder.to_string()),
    };
    let ended_for = page
        .lost_for(id, now)
        // It was read so for as long less the age of that.
        .filter(|lost_for| *lost_for >= LEASE + age)
        .map(|lost_for| lost_for.saturating_sub(LEASE));
    LockSeen {
        age,
        holder,
        ended_for,
    }
}

#[cfg(test)]
mod tests;
