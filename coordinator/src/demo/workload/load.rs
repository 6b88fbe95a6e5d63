//! A load generator that behaves as a client of a service should, and hides nothing.
//!
//! It asks for names as often as their TTL says, through its own machine's agent. Half of its
//! requests come on new connections: one that fails counts as failed, there is no second try.
//! The other half come on kept-alive connections; one that the server closed while it was idle is
//! opened again, which HTTP asks of every client (RFC 9112 section 9.3.1).

mod counters;
mod names;
mod requests;

pub use counters::Counted;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, routing::get};
use calvin_model::HumanDuration;
use tokio::task::JoinSet;

use self::{counters::Counters, names::Names, requests::Client};
use super::{WorkloadError, listen};

/// Clients of each kind. With 20 ms between two requests of one client, 8 of them make
/// 8 / 20 ms = 400 requests a second, which two cores carry beside a whole environment.
const CLIENTS_EACH: usize = 4;

/// What to ask, and where to look it up.
#[derive(Debug, clap::Args)]
pub struct LoadArguments {
    /// The service whose active instances are asked.
    #[arg(long)]
    pub service: String,
    /// The environment's DNS domain.
    #[arg(long, env = "CALVIN_DOMAIN")]
    pub domain: String,
    /// The name server: this machine's own agent.
    #[arg(long, env = "CALVIN_DNS")]
    pub dns: SocketAddr,
    /// Where to answer `/health` and `/counters`.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Time from one request of a client to its next.
    #[arg(long, default_value = "20ms")]
    pub pause: HumanDuration,
}

pub(super) async fn run(
    arguments: LoadArguments,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkloadError> {
    let listener = listen(arguments.listen).await?;
    let counters = Arc::new(Counters::new());
    let name = format!("active.{}.service.{}.", arguments.service, arguments.domain);
    let names = Arc::new(Names::new(&name, arguments.dns, Arc::clone(&counters))?);

    let mut tasks = JoinSet::new();
    tasks.spawn(ask_for_ever(
        names,
        Arc::clone(&counters),
        arguments.pause.0,
    ));

    let shown = Arc::clone(&counters);
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/counters", get(move || async move { Json(shown.read()) }));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
        .map_err(|source| WorkloadError::Serve {
            doing: "serve counters",
            source,
        })
}

/// Every client, from when the service is found for the first time.
async fn ask_for_ever(names: Arc<Names>, counters: Arc<Counters>, pause: Duration) {
    names.first().await;
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS_EACH * 2 {
        let client = Client::new(Arc::clone(&names), Arc::clone(&counters), index);
        // Spread over the pause, so that requests come evenly and not in bursts of eight.
        let offset = pause * u32::try_from(index).unwrap_or(0) / 8;
        if index % 2 == 0 {
            clients.spawn(client.ask_on_new_connections(offset, pause));
        } else {
            clients.spawn(client.ask_on_kept_connections(offset, pause));
        }
    }
    // They never end by themselves; they end with this task.
    while clients.join_next().await.is_some() {}
}
