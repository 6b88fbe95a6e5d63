//! `/healthz` and `/readyz`, for load balancers and supervisors; `/metrics`, for who keeps numbers.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{desk::Desk, metrics};

/// `/healthz` answers while the process does; `/readyz` while it also decides; `/metrics` always.
pub(super) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(numbers))
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

async fn numbers(State(desk): State<Desk>) -> Response {
    match metrics::text(&desk.view(), desk.pass_times()) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "could not write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
