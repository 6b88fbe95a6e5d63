//! Exclusive fleets: who becomes active holds the fleet's lock, and is seen to.

use calvin_consul::{Consistency, Error, Seen, exclusive::lock_key, kv::Entry};
use calvin_model::InstanceId;
use tokio::time::Instant;

use super::Switcher;
use crate::catalogue::consul::{census::Known, decide::Needs};

impl Switcher {
    /// Takes what the watch of the locks says.
    pub(super) fn hear_locks(&self, seen: Result<Seen<Vec<Entry>>, Error>) {
        match seen {
            Ok(seen) => self.take_locks(&seen.read.value),
            // Once, until it is answered again.
            Err(error) => {
                if !std::mem::replace(&mut self.shared.state().locks.failing, true) {
                    let error = calvin_engine::chain(&error);
                    tracing::warn!(%error, "the locks of exclusive fleets could not be read; it is tried again");
                }
            }
        }
    }

    fn take_locks(&self, entries: &[Entry]) {
        let changed = {
            let mut state = self.shared.state();
            state.locks.take(&self.locks, entries, Instant::now())
        };
        if changed {
            self.shared.poke();
        }
    }

    /// Reads all locks, as the leader and the others have them.
    pub(super) async fn read_locks(&self) -> Result<(), Error> {
        let read = self
            .client
            .kv_list(&self.locks, Consistency::Consistent)
            .await?;
        self.take_locks(&read.value);
        Ok(())
    }

    /// What an instance needs to become active.
    pub(super) fn needs(&self, id: &InstanceId, known: &Known) -> Needs {
        if !known.exclusive {
            return Needs::Nothing;
        }
        match lock_key(&self.environment, &known.fleet) {
            Ok(key) => self.shared.state().locks.needs(key, &known.fleet, id),
            // A key can be made of every name that a fleet can have.
            Err(error) => Needs::Lacks(error.to_string()),
        }
    }
}
