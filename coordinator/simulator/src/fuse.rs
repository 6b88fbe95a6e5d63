//! Lets the coordinator crash between two actions of one pass: after so many, nothing that it
//! does reaches the world any more.

use std::{cell::Cell, rc::Rc};

/// Shared by all ports that act.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fuse {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Actions handed out so far.
    count: Cell<u64>,
    /// The last one that reaches the world.
    last: Cell<Option<u64>>,
    burnt: Cell<bool>,
}

impl Fuse {
    /// Burns after so many actions.
    pub(crate) fn after(actions: u64) -> Self {
        let fuse = Self::default();
        fuse.inner.last.set(Some(actions));
        fuse
    }

    /// Counts one action. Says whether it reaches the world.
    pub(crate) fn burn(&self) -> bool {
        if self.inner.burnt.get() {
            return false;
        }
        self.inner.count.set(self.inner.count.get() + 1);
        let burnt = Some(self.inner.count.get()) == self.inner.last.get();
        self.inner.burnt.set(burnt);
        true
    }

    /// Whether the process has crashed.
    pub(crate) fn is_burnt(&self) -> bool {
        self.inner.burnt.get()
    }

    /// The next run of the process: it does not crash here again.
    pub(crate) fn renew(&self) {
        self.inner.burnt.set(false);
        self.inner.last.set(None);
    }

    /// Actions handed out so far.
    pub(crate) fn count(&self) -> u64 {
        self.inner.count.get()
    }
}
