//! The connections of a client: one pool for whatever is asked, and one for queries that wait.

use std::{convert::Infallible, error::Error as StdError, time::Duration};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rs_consul::HttpsClient;
use tokio::time::timeout;

use crate::tls::{Tls, TlsError, connector};

/// The body of a request.
pub(super) type Body = BoxBody<Bytes, Infallible>;

/// An unused connection is closed after this; the next request is rarely further away in a busy time.
const IDLE: Duration = Duration::from_secs(30);
/// TCP asks after a silent peer this often, so that a request that waits notices a dead host.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// And then, without an answer, so often and so many times: a dead host is noticed after half a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Both pools of connections.
pub(super) struct Clients {
    pub(super) https: HttpsClient,
    /// For queries that wait, with connections of its own: it never sends by itself on a new one what it
    /// could not send on another.
    pub(super) waiting: HttpsClient,
}

impl Clients {
    pub(super) fn new(tls: Option<&Tls>, limit: Duration) -> Result<Self, TlsError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        http.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        http.set_connect_timeout(Some(limit));
        let connector = connector(tls, http)?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE);
        let https = builder.build::<_, Body>(connector.clone());
        let waiting = builder.retry_canceled_requests(false).build(connector);
        Ok(Self { https, waiting })
    }
}

/// Sends a request. None where it had no connection within `within`.
pub(super) async fn send(
    client: &HttpsClient,
    mut request: http::Request<Body>,
    within: Option<Duration>,
) -> Result<Option<http::Response<Incoming>>, legacy::Error> {
    let mut connected = capture_connection(&mut request);
    let late = async {
        match within {
            Some(within) => timeout(within, connected.wait_for_connection_metadata())
                .await
                .is_err(),
            None => false,
        }
    };
    tokio::select! {
        response = client.request(request) => response.map(Some),
        true = late => Ok(None),
    }
}

/// Whether nothing of a request was sent: a kept connection was found to be closed.
pub(super) fn is_unsent(error: &legacy::Error) -> bool {
    let hyper = StdError::source(error).and_then(|source| source.downcast_ref::<hyper::Error>());
    hyper.is_some_and(hyper::Error::is_canceled)
}
