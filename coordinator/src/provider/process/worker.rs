//! A worker: takes one instance at a time and makes or deletes its machine.

use tracing::{info, warn};

use super::{
    Context,
    state::{Failure, Job},
};

impl Context {
    /// Works until the provider is closed.
    pub(super) fn work(&self) {
        while let Some(job) = self.shared.next_job() {
            match &job {
                Job::Create(order) => match self.create(order) {
                    Ok((machine, child)) => {
                        info!(instance = %order.instance, address = %machine.address, "made a machine");
                        self.shared.created(&order.instance, machine, child);
                    }
                    Err(error) => self.failed(&job, error.into_failure()),
                },
                Job::Delete(instance) => match self.delete(instance) {
                    Ok(()) => {
                        info!(%instance, "deleted a machine");
                        self.shared.deleted(instance);
                    }
                    Err(error) => self.failed(&job, error.into_failure()),
                },
            }
            (self.on_change)();
        }
    }

    fn failed(&self, job: &Job, failure: Failure) {
        let instance = job.instance();
        match job {
            Job::Create(_) => warn!(%instance, "could not make a machine: {}", failure.message),
            Job::Delete(_) => warn!(%instance, "could not delete a machine: {}", failure.message),
        }
        self.shared.failed(instance, failure);
    }
}
