//! The operator service: everything that `calvin` and other tools ask of a coordinator.
//!
//! Reads are answered from the engine's newest picture, so they work while the engine holds or
//! commits. Changes go to the engine as orders and are durable when they are answered. Each call
//! says which role it needs, in the one table that the trait's implementation is.

mod answer;
mod backup;
mod calls;
mod console;
mod doctor;
mod error;
mod fleets;
mod history;
mod identities;
mod images;
mod orders;
mod people;
mod picture;
mod recovery;
mod rollouts;
mod watch;
mod word;
mod zones;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use crate::{
    api::agent::Agents,
    config::ServeConfig,
    identity::Identity,
    images::ImageStore,
    provider::Machines,
    runtime::Desk,
    store::{Database, History},
};

pub use doctor::DiskLooks;
pub use error::{OperatorError, RULE_HEADER};
pub(crate) use picture::class;

/// The name of the one provider that there is in this version.
pub const PROCESS: &str = "process";

/// What the service answers from.
#[derive(Debug, Clone)]
pub struct OperatorParts {
    /// The coordinator's configuration.
    pub config: Arc<ServeConfig>,
    /// The way to the engine.
    pub desk: Desk,
    /// The way to the agents.
    pub agents: Agents,
    /// Who is who.
    pub identity: Identity,
    /// Recorded images.
    pub images: ImageStore,
    /// The machines of the process provider.
    pub machines: Arc<dyn Machines>,
    /// The history.
    pub history: History,
    /// The database, for backups.
    pub database: Arc<Database>,
    /// The database's file.
    pub store: PathBuf,
    /// Looks of the doctor at the disk.
    pub disk_looks: DiskLooks,
    /// Where operators reach this coordinator over the network.
    pub operator_address: Option<SocketAddr>,
}

/// The operator service. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct OperatorService {
    parts: Arc<OperatorParts>,
}

impl OperatorService {
    /// The service over these parts.
    #[must_use]
    pub fn new(parts: OperatorParts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }
}
