//! What is written down of a simulation: its trace, where one is kept, and the rules that were
//! broken. Shared by every part of the world, which is of one thread.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use crate::{
    check::{Rule, Violation, Violations},
    trace::{BREACH, Trace},
};

/// Whether a trace is kept: it costs more than the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is.
    Trace,
    /// Only what breaks a rule.
    Violations,
}

/// Shared by all parts.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    keep: Keep,
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    now: Duration,
    trace: Trace,
    violations: Violations,
}

impl Log {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            inner: Rc::default(),
        }
    }

    /// Whether lines are kept: what is only made for them need not be made.
    pub(crate) fn keeps_trace(&self) -> bool {
        self.keep == Keep::Trace
    }

    pub(crate) fn set_now(&self, now: Duration) {
        self.inner.borrow_mut().now = now;
    }

    pub(crate) fn line(&self, what: fmt::Arguments<'_>) {
        if self.keep == Keep::Trace {
            let inner = &mut *self.inner.borrow_mut();
            inner.trace.line(inner.now, what);
        }
    }

    pub(crate) fn broken(&self, rule: Rule, text: String) {
        self.line(format_args!("{BREACH}{rule}: {text}"));
        let inner = &mut *self.inner.borrow_mut();
        inner.violations.add(inner.now, rule, text);
    }

    /// Whether a rule was broken.
    pub(crate) fn is_broken(&self) -> bool {
        !self.inner.borrow().violations.list.is_empty()
    }

    /// All that was written down.
    pub(crate) fn take(&self) -> (Trace, Vec<Violation>) {
        let inner = &mut *self.inner.borrow_mut();
        (
            std::mem::take(&mut inner.trace),
            std::mem::take(&mut inner.violations.list),
        )
    }
}
