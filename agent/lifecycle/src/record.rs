//! What the agent keeps on disk of its lifecycle.

use calvin_model::{BootId, Epoch, Generation, Role, Wanted};
use serde::{Deserialize, Serialize};

/// Format of the record that this version writes.
pub const RECORD_FORMAT: u32 = 1;

/// The durable part of the lifecycle: committed before the agent acts on it or answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRecord {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// Counts the commits.
    pub revision: u64,
    /// The highest epoch that was listened to.
    pub epoch: Option<Epoch>,
    /// The newest wanted state.
    pub wanted: Option<Wanted>,
    /// The newest that was fully applied, in the boot below.
    pub applied: Option<Applied>,
    /// The boot that `applied` and `flaps` belong to.
    pub boot: BootId,
    /// How often health turned from healthy to unhealthy in that boot.
    pub flaps: u64,
}

/// A wanted state that was fully applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// Its generation.
    pub generation: Generation,
    /// Its role.
    pub role: Role,
}

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a version that knows more.
    #[error("the record has format {found}, this version knows up to {RECORD_FORMAT}")]
    Format {
        /// The format found.
        found: u32,
    },
}

impl AgentRecord {
    /// The record of a machine that was told nothing yet.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self {
            format: RECORD_FORMAT,
            revision: 0,
            epoch: None,
            wanted: None,
            applied: None,
            boot,
            flaps: 0,
        }
    }

    /// Refuses a record of a newer version: it may hold refusals that this one would forget.
    ///
    /// # Errors
    /// A format that is not known.
    pub fn check(self) -> Result<Self, RecordError> {
        if self.format == RECORD_FORMAT {
            Ok(self)
        } else {
            Err(RecordError::Format { found: self.format })
        }
    }

    /// The same record at the start of `boot`. In a new boot nothing of the old one runs any
    /// more, so every role is applied again, hooks included; only what was retired stays so.
    pub(crate) fn in_boot(mut self, boot: BootId) -> Self {
        if self.boot != boot {
            self.boot = boot;
            self.flaps = 0;
            self.applied = self.applied.filter(|applied| applied.role == Role::Retired);
        }
        self
    }
}
