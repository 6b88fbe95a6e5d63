//! Deletes one machine: everything on it is killed and seen to be gone, whoever of its init and
//! agent is still alive; then its directory goes. Its address is free with its last process.

use calvin_engine::chain;
use calvin_model::InstanceId;
use calvin_planner::FaultKind;
use calvin_proto::machine::{InitRecord, processes::kill_all};
use tracing::warn;

use super::{
    Context,
    directories::{DirectoryError, KILL_TIMEOUT},
    retry::Retry,
    state::Failure,
};

/// Why a machine was not deleted.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct DeleteError(#[from] DirectoryError);

impl DeleteError {
    /// A machine that is to be deleted is tried for ever: it may still do work.
    pub(super) fn into_failure(self) -> Failure {
        Failure {
            message: chain(&self),
            retry: Retry::Later,
            kind: FaultKind::Other,
        }
    }
}

impl Context {
    /// Deletes the machine of `instance`; what is gone already is no error.
    pub(super) fn delete(&self, instance: &InstanceId) -> Result<(), DeleteError> {
        Ok(self.end(instance)?)
    }

    /// Ends whatever there is of the machine of `instance`, started or not.
    pub(super) fn end(&self, instance: &InstanceId) -> Result<(), DirectoryError> {
        let files = self.directories.files(instance);
        if !self.directories.is_ours(instance)? {
            return Ok(());
        }
        let record = InitRecord::read(&files).unwrap_or_else(|error| {
            warn!(%instance, "its processes are found by their environment only: {error}");
            None
        });
        kill_all(files.root(), record.as_ref(), KILL_TIMEOUT)?;
        if let Err(error) = self.directories.keep_output(instance, &files) {
            // A full disk must not keep a machine alive.
            warn!(%instance, "its last output is lost: {}", chain(&error));
        }
        self.directories.remove(instance)
    }
}
