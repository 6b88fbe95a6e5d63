//! The environments of the end-to-end tests, for benches: the same files, so that a bench measures
//! what the tests prove. A bench that is interrupted ends its environment, too: a destructor does
//! not run then.

#![allow(dead_code, reason = "a bench uses a part of what tests need")]

#[path = "../e2e/support/environment.rs"]
pub(crate) mod environment;
#[path = "../e2e/support/files.rs"]
pub(crate) mod files;
#[path = "../e2e/support/observe.rs"]
pub(crate) mod observe;
#[path = "../e2e/support/operator.rs"]
pub(crate) mod operator;
#[path = "../e2e/support/processes.rs"]
pub(crate) mod processes;
#[path = "../e2e/support/traffic.rs"]
pub(crate) mod traffic;
#[path = "../e2e/support/waiting.rs"]
pub(crate) mod waiting;

#[path = "interrupt.rs"]
mod interrupt;

use std::ops::{Deref, DerefMut};

/// An environment that ends with the bench, however the bench ends.
pub(crate) struct Environment(environment::Environment);

impl Environment {
    /// Writes the files of an environment at this pace; starts nothing.
    pub(crate) fn prepare_at(pace: files::Pace) -> Self {
        let environment = environment::Environment::prepare_at(pace);
        interrupt::end_at_signals(environment.home(), processes::end_all);
        Self(environment)
    }
}

impl Deref for Environment {
    type Target = environment::Environment;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Environment {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
