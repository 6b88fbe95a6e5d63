//! Exclusive fleets: who becomes active holds the fleet's lock, and is seen to.

use calvin_consul::{Consistency, Error, exclusive::lock_key};
use calvin_model::InstanceId;

use super::Switcher;
use crate::catalogue::consul::{census::Known, decide::Needs};

impl Switcher {
    /// Reads all locks, as the leader and the others have them.
    pub(super) async fn read_locks(&self) -> Result<(), Error> {
        let read = self
            .client
            .kv_list(&self.locks, Consistency::Consistent)
            .await?;
        self.shared.take_locks(&self.locks, &read.value);
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
