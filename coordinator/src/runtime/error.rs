//! Why a coordinator does not start, or ended by itself.

use std::{io, net::SocketAddr, path::PathBuf};

use calvin_engine::StartError;

use crate::{
    api::agent, catalogue::ConsulError, identity::IdentityError, images::ImageError, provider,
    store,
};

/// Why a coordinator does not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// A listener.
    #[error(
        "could not listen on {address} for {what}{}",
        if source.kind() == io::ErrorKind::AddrInUse {
            ": another process does (ss -ltnp shows which); stop it, or choose another port in calvin.toml"
        } else if source.kind() == io::ErrorKind::AddrNotAvailable {
            ": it is not an address of this machine (ip address shows which are); choose one of these in calvin.toml"
        } else {
            ""
        }
    )]
    Listen {
        /// Who was to be served there.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The operators' socket.
    #[error("could not make the operators' socket {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The operators' socket would lie too deep.
    #[error(
        "the operators' socket {} has a path of {length} bytes, a socket may have {max}: choose a shorter data directory",
        path.display()
    )]
    SocketPath {
        /// Where it would be.
        path: PathBuf,
        /// The path's length.
        length: usize,
        /// The longest.
        max: usize,
    },
    /// Identities.
    #[error("could not open the identities of the environment")]
    Identity(#[from] IdentityError),
    /// Images.
    #[error("could not read the recorded images")]
    Images(#[from] ImageError),
    /// The agent's program.
    #[error(
        "there is no calvin-agent at {}: name it in provider.process.agent of calvin.toml",
        path.display()
    )]
    NoAgent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The place of this program.
    #[error("could not find this program's own path, beside which calvin-agent is looked for")]
    OwnPath(#[source] io::Error),
    /// The process provider.
    #[error("could not start the process provider")]
    Provider(#[from] provider::OpenError),
    /// Consul.
    #[error(transparent)]
    Consul(#[from] ConsulError),
    /// The engine.
    #[error("could not start the engine")]
    Engine(#[from] StartError),
    /// Its thread, or a signal handler.
    #[error("the system refused {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Agents cannot be served any more.
    #[error(transparent)]
    Agents(#[from] agent::ServeError),
    /// Operators cannot be served any more.
    #[error("could not serve operators")]
    Operators(#[source] tonic::transport::Error),
    /// The health endpoint cannot be served any more.
    #[error("could not serve health")]
    Health(#[source] io::Error),
    /// The engine can never decide again.
    #[error(
        "the engine has stopped for good: {reason}; look which of the two should run (ps, systemctl status), stop the other, and only then start this one again"
    )]
    EngineStopped {
        /// Why.
        reason: String,
    },
    /// A part of the coordinator panicked; the log says where.
    #[error("{what} has ended by a fault of ours; please report it with the log")]
    Panicked {
        /// Which part.
        what: &'static str,
    },
}
