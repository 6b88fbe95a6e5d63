//! `calvin-agent init`: the first process of a machine without an init system of its own. It is the
//! parent of agent, workload and what runs beside it, so that none ends with another.
//!
//! One loop over descriptors, without an async runtime: it must stay small (there is one for each
//! machine, for as long as the machine lives), and where only one thread takes locks it may safely do
//! between fork and exec what its children need. A second one does nothing but end work whose lease is
//! over, also while the loop waits for a disk. What it must never do is end, so it takes no
//! input but bounded lines from the own user, and treats everything that fails after its start as
//! something to write down and go on from.

mod agent;
mod backoff;
mod child;
mod console;
mod guard;
mod lease;
mod machine;
mod prepare;
mod server;
mod sockets;
mod units;
mod workload;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use calvin_model::ConfigError;
use calvin_proto::machine::{RecordError, processes::StillThere};

pub use sockets::DnsSockets;

/// What `calvin-agent init` is given.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArguments {
    /// The machine's directory
    #[arg(long, value_name = "DIR")]
    pub machine: PathBuf,
    /// The program to start as the agent, in place of this one
    #[arg(long, value_name = "FILE", hide = true)]
    pub agent: Option<PathBuf>,
}

/// Why a machine was not started. Once it is up, nothing ends it but a signal.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The program started threads before it called [`run`].
    #[error("init needs to be the only thread of its process, and there are {count}")]
    Threads {
        /// How many.
        count: usize,
    },
    /// The kernel refused something that it is asked once.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the machine cannot be used.
    #[error("could not {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `provision.toml` is wrong.
    #[error(transparent)]
    Provision(#[from] ConfigError),
    /// A record of the machine cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The machine runs already.
    #[error("{} runs already, as pid {pid}", machine.display())]
    Running {
        /// Its directory.
        machine: PathBuf,
        /// The init that has it.
        pid: i32,
    },
    /// What an earlier start left could not be ended.
    #[error(transparent)]
    Leftovers(#[from] StillThere),
    /// Another machine has its address.
    #[error("address {address} is claimed by another machine of this host")]
    AddressTaken {
        /// The address.
        address: IpAddr,
    },
    /// Its DNS sockets cannot be bound.
    #[error("could not listen on {address}, where the agent is to answer DNS")]
    Dns {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts the machine and keeps it running until it is told to stop (SIGTERM or SIGINT): then the
/// workload is stopped, then the agent, and this returns.
///
/// To be called as the first thing of a process, before any thread is started.
///
/// # Errors
/// The machine was not started.
pub fn run(arguments: &InitArguments) -> Result<(), InitError> {
    let prepared = prepare::prepare(arguments)?;
    machine::Machine::start(prepared)?.run();
    Ok(())
}
