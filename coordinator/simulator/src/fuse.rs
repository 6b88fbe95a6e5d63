//! Lets a run of the coordinator crash between two actions of one pass: after so many, nothing
//! that it does reaches the world any more.

use std::{cell::Cell, rc::Rc};

/// Shared by all ports of one run that act. Actions are counted over all runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fuse {
    plan: Rc<Plan>,
    burnt: Rc<Cell<bool>>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Actions handed out so far.
    count: Cell<u64>,
    /// The last one that reaches the world: whoever hands it out crashes.
    last: Cell<Option<u64>>,
}

impl Fuse {
    /// Burns after so many actions.
    pub(crate) fn after(actions: u64) -> Self {
        let fuse = Self::default();
        fuse.plan.last.set(Some(actions));
        fuse
    }

    /// Whoever hands out the next action but so many crashes.
    pub(crate) fn burn_after(&self, more: u64) {
        self.plan.last.set(Some(self.plan.count.get() + more + 1));
    }

    /// That of another run.
    pub(crate) fn of_another_run(&self) -> Self {
        Self {
            plan: Rc::clone(&self.plan),
            burnt: Rc::default(),
        }
    }

    /// Counts one action. Says whether it reaches the world.
    pub(crate) fn burn(&self) -> bool {
        if self.burnt.get() {
            return false;
        }
        let count = self.plan.count.get() + 1;
        self.plan.count.set(count);
        if self.plan.last.get() == Some(count) {
            self.plan.last.set(None);
            self.burnt.set(true);
        }
        true
    }

    /// Whether the run has crashed.
    pub(crate) fn is_burnt(&self) -> bool {
        self.burnt.get()
    }

    /// Actions handed out so far.
    pub(crate) fn count(&self) -> u64 {
        self.plan.count.get()
    }
}
