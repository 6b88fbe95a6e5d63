//! Why a coordinator does not start, or ends, because of Consul.

use std::{io, path::PathBuf};

use calvin_consul::{InvalidName, SetupError};
use calvin_model::EnvironmentName;

/// Why a coordinator does not start, or ends, because of Consul. What may pass is none: then it holds.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// One of the files that `[consul]` names.
    #[error("could not read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file holds more than machines can be told.
    #[error("{} has {bytes} bytes, and machines can be told {max} at most", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A file holds no key of gossip. What it holds is never shown.
    #[error(
        "{} holds no key of gossip ({why}): Consul takes 16, 24 or 32 bytes as base64, as `consul keygen` prints them; without encryption leave consul.gossip_key_file out", path.display()
    )]
    GossipKey {
        /// Which.
        path: PathBuf,
        /// What it holds instead.
        why: String,
    },
    /// What stands there cannot be used.
    #[error("could not use {what} for Consul")]
    Unusable {
        /// What.
        what: String,
        /// Why not.
        #[source]
        source: SetupError,
    },
    /// The environment's name cannot be in a key.
    #[error("could not name the environment's keys in Consul")]
    Key(#[from] InvalidName),
    /// The Consul at the address is another environment's.
    #[error(
        "the Consul at {address} is of datacenter {datacenter}, and this is the coordinator of environment {environment}: both must have one name; look at consul.address in calvin.toml"
    )]
    OtherDatacenter {
        /// Who was asked.
        address: String,
        /// What it says.
        datacenter: String,
        /// What it should say.
        environment: EnvironmentName,
    },
    /// Another coordinator has the lock.
    #[error(
        "another coordinator has the lock of environment {environment} in Consul: {holder}. It was waited for {waited_s} s, and one that had died would have lost it by then; stop that one (or let this one be), and start this one again"
    )]
    Locked {
        /// The environment.
        environment: EnvironmentName,
        /// Who has it.
        holder: String,
        /// How long was waited.
        waited_s: u64,
    },
}
