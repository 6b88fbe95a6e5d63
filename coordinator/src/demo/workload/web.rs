//! A web server whose page is its version, with the faults that the demo needs.
//!
//! It stops as a good server does: told to, it takes nothing new, finishes what it has, closes
//! the connections that wait for a next request, and ends.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use calvin_model::HumanDuration;

use super::{WorkloadError, listen};

/// How to serve.
#[derive(Debug, clap::Args)]
pub struct WebArguments {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// What its page says.
    #[arg(long)]
    pub version: String,
    /// Never answer well to health checks.
    #[arg(long)]
    pub never_healthy: bool,
    /// Break once it has taken traffic.
    #[arg(long, conflicts_with = "never_healthy")]
    pub bad_when_active: bool,
    /// For how long it goes well from its first page on, before it breaks. The default is longer
    /// than the demo's fleet settles, and shorter than it settles and bakes.
    #[arg(long, default_value = "2800ms", requires = "bad_when_active")]
    pub good_for: HumanDuration,
}

/// How a server goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NeverHealthy,
    BreaksUnderTraffic {
        /// For so long after the first page it goes well.
        good_for: Duration,
    },
}

#[derive(Debug)]
struct Server {
    version: String,
    fault: Fault,
    first_page: OnceLock<Instant>,
}

impl Server {
    fn broken(&self) -> bool {
        match self.fault {
            Fault::None | Fault::NeverHealthy => false,
            Fault::BreaksUnderTraffic { good_for } => self
                .first_page
                .get()
                .is_some_and(|first| first.elapsed() >= good_for),
        }
    }
}

pub(super) async fn run(
    arguments: WebArguments,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkloadError> {
    let fault = match (arguments.never_healthy, arguments.bad_when_active) {
        (true, _) => Fault::NeverHealthy,
        (false, true) => Fault::BreaksUnderTraffic {
            good_for: arguments.good_for.0,
        },
        (false, false) => Fault::None,
    };
    let server = Arc::new(Server {
        version: arguments.version,
        fault,
        first_page: OnceLock::new(),
    });
    let router = Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .with_state(server);
    let listener = listen(arguments.listen).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
        .map_err(|source| WorkloadError::Serve {
            doing: "serve pages",
            source,
        })
}

async fn page(State(server): State<Arc<Server>>) -> impl IntoResponse {
    server.first_page.get_or_init(Instant::now);
    let status = if server.broken() {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    let headers = [(header::CONTENT_TYPE, "text/plain")];
    (status, headers, server.version.clone())
}

async fn health(State(server): State<Arc<Server>>) -> impl IntoResponse {
    if server.fault == Fault::NeverHealthy {
        return (StatusCode::SERVICE_UNAVAILABLE, "never ready\n");
    }
    if server.broken() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "broke under traffic\n");
    }
    (StatusCode::OK, "ok\n")
}
