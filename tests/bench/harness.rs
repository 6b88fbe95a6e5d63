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

use std::{
    fs,
    ops::{Deref, DerefMut},
    path::PathBuf,
    process,
};

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// An environment that ends with the bench, however the bench ends.
pub(crate) struct Environment(environment::Environment);

impl Environment {
    /// Writes the files of an environment at this pace; starts nothing.
    pub(crate) fn prepare_at(pace: files::Pace) -> Self {
        let environment = environment::Environment::prepare_at(pace);
        for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            end_at(number, environment.home().to_owned());
        }
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

/// Ends the processes and the files of the environment at this signal, and then the bench with the
/// code that shells use for it (128 and the signal's number).
fn end_at(number: Signal, home: PathBuf) {
    let kind = SignalKind::from_raw(number as i32);
    let mut signals = signal(kind).expect("a signal can be listened to");
    tokio::spawn(async move {
        signals.recv().await;
        processes::end_all(&home);
        // Left in the temporary directory, it would be in nobody's way.
        let _ = fs::remove_dir_all(&home);
        process::exit(128 + number as i32);
    });
}
