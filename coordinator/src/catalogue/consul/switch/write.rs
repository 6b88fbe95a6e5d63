//! Changes the role tags of fleets, each in one transaction that checks the locks first.

use std::collections::{BTreeMap, BTreeSet};

use calvin_consul::{
    Consistency, Error,
    roles::{TagChange, TagsOutcome},
    txn::Op,
};
use calvin_model::FleetName;
use tokio::time::Instant;

use super::{
    Switcher,
    turns::{Pace, in_turn},
};
use crate::catalogue::consul::{decide::Decision, faults::About};

/// What became of a fleet's change.
#[derive(Debug)]
enum Changed {
    /// It was read back.
    Held,
    /// Not all of it was done, for this reason.
    Stopped(String),
    /// The lock is no longer ours.
    LockLost,
}

/// What came of the changes of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    /// Something is new, and more may follow from it.
    News,
    /// Nothing more can be done now.
    Nothing,
    /// Some had no turn: Consul does not answer, or it takes long.
    NotAll,
}

impl Switcher {
    /// Changes the tags of each fleet that is to switch.
    pub(super) async fn write(
        &mut self,
        decisions: &BTreeMap<FleetName, Decision>,
        pace: &Pace,
    ) -> Wrote {
        let switches = |fleet: &FleetName| {
            let decision = decisions.get(fleet);
            decision.is_some_and(|decision| !decision.changes.is_empty())
        };
        self.shared.keep_faults(|about| match about {
            About::Tags(fleet) => switches(fleet),
            About::Tokens
            | About::Token(..)
            | About::Debt(_)
            | About::Nodes
            | About::Locks
            | About::Leftovers => true,
        });
        let mut news = false;
        let mut failed = false;
        let fleets: BTreeSet<&FleetName> =
            decisions.keys().filter(|fleet| switches(fleet)).collect();
        let turns = in_turn(&fleets, self.switched.as_ref());
        for (place, fleet) in turns.iter().copied().enumerate() {
            if pace.is_over() {
                self.shared.tell_task();
                return Wrote::NotAll;
            }
            // Without the lock nothing is written.
            let Some(guard) = self.shared.guard() else {
                return Wrote::Nothing;
            };
            self.switched = Some(fleet.clone());
            let about = About::Tags(fleet.clone());
            match self.change(fleet, guard, &decisions[fleet]).await {
                Ok(Changed::Held) => {
                    self.shared.works(&about);
                    news = true;
                }
                Ok(Changed::Stopped(why)) => {
                    self.shared.stopped(&about, &why);
                    news = true;
                }
                Ok(Changed::LockLost) => {}
                // The others would wait for an answer as long as this one did, one after the other, and
                // meanwhile nobody would look at what is read.
                Err(error) if error.is_transient() => {
                    for fleet in &turns[place..] {
                        self.shared.failed(&About::Tags((*fleet).clone()), &error);
                    }
                    return Wrote::NotAll;
                }
                // A fleet whose change is refused holds up no other.
                Err(error) => {
                    self.shared.failed(&about, &error);
                    failed = true;
                }
            }
        }
        // What the others gave is looked at in the next second.
        if news && !failed {
            Wrote::News
        } else {
            Wrote::Nothing
        }
    }

    async fn change(
        &mut self,
        fleet: &FleetName,
        guard: Op,
        decision: &Decision,
    ) -> Result<Changed, Error> {
        let started = Instant::now();
        let changes = &decision.changes;
        let guards: Vec<Op> = std::iter::once(guard)
            .chain(decision.lock.clone())
            .collect();
        match self.client.change_tags(&guards, changes).await {
            Ok(TagsOutcome::Held(held)) => {
                for (change, service) in changes.iter().zip(&held.services) {
                    self.books.wrote(&change.node, service);
                }
                tracing::info!(%fleet, services = changes.len(), transactions = held.transactions, took = ?started.elapsed(), "role tags changed, and read back");
                Ok(Changed::Held)
            }
            Ok(TagsOutcome::Stopped { done, failures }) => {
                let why = failures
                    .first()
                    .map_or_else(String::new, |one| one.what.clone());
                if decision.lock.is_some() {
                    // Somebody else may have the lock by now, which is no fault.
                    tracing::info!(%fleet, done, why, "a change of role tags was stopped: lock and tags are read again");
                    self.read_locks().await?;
                } else {
                    tracing::warn!(%fleet, done, why, "a change of role tags was stopped: they are read again");
                }
                self.read_again(changes).await?;
                // Where the lock was lost nothing can be done before it is back.
                let mut failures = failures.iter();
                Ok(if failures.any(|one| one.op_index == usize::MAX) {
                    Changed::LockLost
                } else {
                    Changed::Stopped(why)
                })
            }
            Ok(TagsOutcome::Undone { places }) => {
                tracing::warn!(%fleet, services = places.len(), "role tags were read back otherwise than written: they are read again");
                self.read_again(changes).await?;
                Ok(Changed::Stopped(
                    "they were read back otherwise than written".to_owned(),
                ))
            }
            Err(error) => {
                // It may have been done all the same.
                if let Err(error) = self.read_again(changes).await {
                    tracing::debug!(%error, "nor could the tags be read again");
                }
                Err(error)
            }
        }
    }

    /// Reads the services of these changes, as the leader and the others have them.
    async fn read_again(&mut self, changes: &[TagChange]) -> Result<(), Error> {
        let names: BTreeSet<&str> = changes
            .iter()
            .map(|change| change.service.service.as_str())
            .collect();
        for name in names {
            let read = self
                .client
                .service_health(name, Consistency::Consistent)
                .await?;
            self.books.replace(name, read.value);
        }
        Ok(())
    }
}
