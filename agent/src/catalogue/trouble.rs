//! Why an instance is not registered as it should be, in words for people.

use calvin_consul::{Error, Reason, SetupError};

use super::unit::UnitError;
use crate::disk::DiskError;

/// Why the instance is not registered as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The client that is to be there already has no address of the right form.
    #[error("[consul] address {address:?} of image.toml cannot be used")]
    Address {
        address: String,
        #[source]
        source: SetupError,
    },
    /// What was said of the client cannot be used.
    #[error("the Consul client cannot be asked")]
    Setup(#[from] SetupError),
    /// What it needs could not be kept.
    #[error("could not keep the recovery token of the Consul client")]
    Disk(#[from] DiskError),
    /// It cannot be had running.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// It does not answer, or does not do it.
    #[error(transparent)]
    Consul(#[from] Error),
    /// It does not answer because it does not run.
    #[error("{0}")]
    NotRunning(String),
    /// It runs and does not answer.
    #[error("the Consul client does not answer; its output is in consul.log")]
    Silent(#[source] Box<Trouble>),
    /// It is of another environment.
    #[error(
        "the Consul client at {address} is of datacenter {found}, this machine is of environment \
         {wanted}: nothing is registered there"
    )]
    Datacenter {
        address: String,
        found: String,
        wanted: String,
    },
    /// The coordinator has this machine join another environment's.
    #[error("told to join datacenter {found}, and this machine is of environment {wanted}")]
    Environment { found: String, wanted: String },
    /// It is of another machine.
    #[error("the Consul client at {address} is of node {found}, and not of {wanted}")]
    Node {
        address: String,
        found: String,
        wanted: String,
    },
    /// It is not the one that was started here: that one knows the recovery token.
    #[error(
        "the Consul client at {address} is not this machine's: it does not know its recovery token"
    )]
    Stranger {
        address: String,
        #[source]
        source: Error,
    },
    /// It goes on with an older configuration.
    #[error("the Consul client has not taken over its configuration")]
    Configuration,
    /// The servers do not have what the client has.
    #[error(
        "service {id} is registered with the Consul client, and the servers do not show it: its \
         token may lack a rule, or they have not heard of it yet"
    )]
    Missing { id: String },
}

impl Trouble {
    /// Whether the client answers, and has no servers that do.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Consul(error) if matches!(error.reason, Reason::NoLeader { .. }))
    }

    /// Whether the client is not there, as far as one can tell.
    pub(super) fn is_away(&self) -> bool {
        let Self::Consul(error) = self else {
            return false;
        };
        matches!(
            error.reason,
            Reason::Unreachable { .. } | Reason::TimedOut { .. }
        )
    }
}
