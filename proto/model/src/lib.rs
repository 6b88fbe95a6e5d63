//! The words that every part of Calvinverse shares, as types: names, ids, generations, roles,
//! health, reports and the files that people write.
//!
//! Pure on purpose: no clock, no random source, no IO. Parsing takes text, never a path, so that
//! the same code serves the command line, the coordinator, the agent and the simulator.

pub mod catalogue;
pub mod config;
pub mod duration;
pub mod epoch;
pub mod fleet;
pub mod health;
pub mod id;
pub mod image;
pub mod join;
pub mod mutant;
pub mod name;
pub mod operator;
pub mod provision;
pub mod report;
pub mod wanted;

pub use catalogue::{CatalogueEntry, CatalogueRole, CatalogueService, NamesSnapshot, NamesVersion};
pub use config::{ConfigError, parse_toml};
pub use duration::HumanDuration;
pub use epoch::{Epoch, EpochRefusal, Generation, RunId};
pub use fleet::FleetSpec;
pub use health::{Health, Source};
pub use id::{BootId, Digest, InstanceId, RolloutId};
pub use image::{ImageManifest, ImageRef};
pub use join::{ConsulJoin, Join, Registration, Secret};
pub use mutant::Mutant;
pub use name::{
    EnvironmentName, FleetName, ImageName, ImageVersion, LimitName, NameError, OperatorName,
    ServiceName, ZoneName,
};
pub use operator::OperatorRole;
pub use provision::Provision;
pub use report::{Connections, ConsulReport, DrainProgress, QuorumReport, Report, WorkloadState};
pub use wanted::{DrainOrder, DrainReason, Role, Wanted};
