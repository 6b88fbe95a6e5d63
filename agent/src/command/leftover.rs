//! Commands that were killed and do not end, because they wait in the kernel for something that
//! does not answer (state D: a file server that is away, a disk that is broken). Nothing ends such
//! a process; so that a check which meets it every few seconds leaves one and not thousands, the
//! same command is not started again before it has gone.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::CommandSpec;

/// At most one for each command of the image: checks and hooks.
static LEFT: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// A command of which one process is left. Its environment does not count: a drain's seconds are
/// others each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Leftover {
    pub(super) fn of(spec: &CommandSpec) -> Self {
        Self {
            program: spec.program.clone(),
            arguments: spec.arguments.clone(),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        left().contains(self)
    }

    pub(super) fn note(&self) {
        left().push(self.clone());
    }

    pub(super) fn forget(&self) {
        let mut left = left();
        if let Some(at) = left.iter().position(|known| known == self) {
            left.swap_remove(at);
        }
    }
}

fn left() -> std::sync::MutexGuard<'static, Vec<Leftover>> {
    // A list is whole after a panic too.
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}
