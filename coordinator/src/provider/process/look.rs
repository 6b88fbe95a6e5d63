//! Looks which machines run. It costs one small read for each, so it is done often: this is how fast
//! a machine that was killed is noticed.

use std::time::Duration;

use calvin_proto::machine::ProcessId;

use super::{Context, state::Seen};

/// Time between two looks: below the engine's own quarter of a second.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Context {
    /// Looks until the provider is closed.
    pub(super) fn look_on(&self) {
        while self.shared.pause(LOOK_EVERY) {
            if self.look() {
                (self.on_change)();
            }
        }
    }

    /// Looks once; whether anything is different.
    pub(super) fn look(&self) -> bool {
        self.shared.reap();
        let mut seen = Vec::new();
        for (instance, machine) in self.shared.started() {
            let runs = machine.init.is_some_and(ProcessId::is_alive);
            let found = match self.directories.is_ours(&instance) {
                _ if runs => Seen::Runs,
                Ok(false) => Seen::Gone,
                // Only what is surely not there is gone.
                Ok(true) | Err(_) => Seen::Stands,
            };
            seen.push((instance, found));
        }
        self.shared.looked(&seen)
    }
}
