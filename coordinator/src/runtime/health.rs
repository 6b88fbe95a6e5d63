//! `/healthz` and `/readyz`, for load balancers and supervisors.

use axum::{Router, extract::State, http::StatusCode, routing::get};

use super::desk::Desk;

/// `/healthz` answers while the process does; `/readyz` while it also decides.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(desk)
}

async fn ready(State(desk): State<Desk>) -> (StatusCode, String) {
    match &desk.view().held {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(held) => {
            let text = format!("holds: {}\n", held.reason);
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}
