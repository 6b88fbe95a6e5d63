//! What runs on the demo's machines: a web server with planned faults, and a load generator.
//!
//! Both are hidden subcommands of `calvin`, so that the demo needs nothing but the two binaries.
//! They know nothing of agents or coordinators: any program could stand in their place.

pub mod load;
pub mod web;

use std::{io, net::SocketAddr};

/// A workload of the demo.
#[derive(Debug, clap::Subcommand)]
pub enum WorkloadCommand {
    /// A web server that says which version it is.
    Web(web::WebArguments),
    /// Asks a service for its page, several hundred times a second, and counts.
    Load(load::LoadArguments),
}

/// Why a workload ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// Its address is taken, or not of this machine.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The signals that stop it could not be watched, or serving ended.
    #[error("could not {doing}")]
    Serve {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name servers' configuration was refused.
    #[error("could not use {server} as name server")]
    Resolver {
        /// The name server.
        server: SocketAddr,
        /// Why.
        #[source]
        source: hickory_resolver::net::NetError,
    },
}

/// Runs a workload until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot listen, or cannot go on.
pub async fn run(command: WorkloadCommand) -> Result<(), WorkloadError> {
    let stop = stop_signal()?;
    match command {
        WorkloadCommand::Web(arguments) => web::run(arguments, stop).await,
        WorkloadCommand::Load(arguments) => load::run(arguments, stop).await,
    }
}

async fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, WorkloadError> {
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| WorkloadError::Listen { address, source })
}

/// Ends when the process is told to stop. The signals are caught from when this returns.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, WorkloadError> {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| {
        signal(kind).map_err(|source| WorkloadError::Serve {
            doing: "watch for the signal to stop",
            source,
        })
    };
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests;
