//! The load generator's counters.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

/// What the load generator counted since its start.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) by_version: BTreeMap<String, u64>,
    pub(crate) lookups: u64,
    pub(crate) lookups_failed: u64,
    #[expect(dead_code, reason = "shown when a test fails")]
    pub(crate) longest_gap_ms: u64,
    #[expect(dead_code, reason = "shown when a test fails")]
    pub(crate) newest_failures: Vec<String>,
}

/// Reads the counters of the load generator at this address.
pub(crate) async fn read(address: SocketAddr) -> Option<Counted> {
    let body = timeout(Duration::from_secs(2), get(address, "/counters"))
        .await
        .ok()??;
    serde_json::from_slice(&body).ok()
}

/// The page at this path, on a connection of its own; `None` unless it is there with status 200.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<Bytes> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    if response.status() != hyper::StatusCode::OK {
        return None;
    }
    Some(response.into_body().collect().await.ok()?.to_bytes())
}
