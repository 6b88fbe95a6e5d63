//! What a step takes of what all fleets share: machines that are made, machines that are deleted.

use calvin_model::InstanceId;

use super::{Granted, Pass};
use crate::{
    ledger::{Claim, Shortage},
    state::{Deletion, FleetState, Life},
};

impl Pass<'_> {
    /// Takes one machine to be made. Notes why not, where that cannot be.
    pub(super) fn take(&mut self, claim: Claim) -> bool {
        let state: &FleetState = self.changed.as_deref().unwrap_or(self.before);
        match self.ledger.make(self.fleet, state, claim) {
            Ok(()) => {
                self.granted = Granted::Some;
                true
            }
            Err(shortage) => {
                self.is_short(shortage);
                false
            }
        }
    }

    /// Notes that one more machine cannot be made or deleted now.
    pub(crate) fn is_short(&mut self, shortage: Shortage) {
        self.refused = Some(shortage.clone());
        let number = self.short.entry(shortage).or_default();
        *number = number.saturating_add(1);
    }

    /// Whether a machine may be deleted now, that is beside `leaving` which are on their way to it.
    /// Notes why not.
    ///
    /// What a person ordered (a fleet's deletion) and what a rollback removes is not asked about:
    /// the one is wanted at any speed, and the other undoes what was made a moment ago, while what
    /// it waits for is worse. Nor is what is lost by two sources or never was healthy: nothing is
    /// taken away, and another is made in its place. All of it counts.
    pub(crate) fn may_delete(&mut self, leaving: u32) -> bool {
        match self.ledger.may_delete(self.fleet, self.state(), leaving) {
            Ok(()) => true,
            Err(shortage) => {
                self.is_short(shortage);
                false
            }
        }
    }

    /// Instances that are on their way to be deleted, and not counted yet.
    pub(crate) fn draining(&self) -> u32 {
        let leaving = self.state().instances.values();
        let leaving = leaving.filter(|one| matches!(one.life, Life::Draining(_)));
        u32::try_from(leaving.count()).unwrap_or(u32::MAX)
    }

    /// Whether an instance is one of these.
    pub(crate) fn drains(&self, id: &InstanceId) -> bool {
        self.instance(id)
            .is_some_and(|one| matches!(one.life, Life::Draining(_)))
    }

    /// Counts a deletion, for as long as any budget asks for it.
    pub(super) fn count_deletion(&mut self) {
        self.granted = Granted::Some;
        self.ledger.deleted(self.fleet);
        if !self.ledger.counts_deletions(self.state()) {
            return;
        }
        let (now, window) = (self.now, self.ledger.window(self.state()));
        let deletions = &mut self.change().deletions;
        deletions.retain(|one| now.since(one.at) < window);
        match deletions.last_mut().filter(|last| last.at == now) {
            Some(last) => last.count = last.count.saturating_add(1),
            None => deletions.push(Deletion { at: now, count: 1 }),
        }
    }
}
