//! One client of the load generator: asks for a page again and again, in one of two ways.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{counters::Counters, names::Names};

/// Longest time for one request, with its connection. A user would have gone by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest page that is read: the demo's have a few bytes.
const PAGE_BYTES_MAX: usize = 4096;

/// Requests on one kept-alive connection before it is given up for a new one: servers and
/// balancers limit it too (100 by default in Apache httpd).
const REQUESTS_PER_CONNECTION: u32 = 100;

#[derive(Debug)]
pub(super) struct Client {
    names: Arc<Names>,
    counters: Arc<Counters>,
    /// Counts up, so that the servers are asked in turn.
    turn: AtomicUsize,
}

/// A kept-alive connection.
struct Kept {
    server: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
    requests: u32,
}

/// How a request failed.
enum Failure {
    /// Before any byte of an answer came: on a connection that was idle before, the server may
    /// have closed it, and HTTP allows to ask again on another.
    Unanswered(String),
    /// In any other way.
    Answered(String),
}

impl Failure {
    fn into_text(self) -> String {
        match self {
            Self::Unanswered(why) | Self::Answered(why) => why,
        }
    }
}

impl Client {
    pub(super) fn new(names: Arc<Names>, counters: Arc<Counters>, first: usize) -> Self {
        Self {
            names,
            counters,
            turn: AtomicUsize::new(first),
        }
    }

    /// Each request on a connection of its own.
    pub(super) async fn ask_on_new_connections(self, offset: Duration, pause: Duration) {
        let mut ticks = ticks(offset, pause);
        loop {
            ticks.tick().await;
            let outcome = timeout(REQUEST_TIMEOUT, async {
                let server = self.choose().await?;
                let mut sender = self.connect(server).await?;
                ask(&mut sender, server, "close")
                    .await
                    .map_err(Failure::into_text)
            })
            .await;
            self.count(outcome);
        }
    }

    /// Requests on a connection that is kept for as long as its server is among those found.
    pub(super) async fn ask_on_kept_connections(self, offset: Duration, pause: Duration) {
        let mut ticks = ticks(offset, pause);
        let mut kept = None;
        loop {
            ticks.tick().await;
            let outcome = timeout(REQUEST_TIMEOUT, self.ask_kept(&mut kept)).await;
            if !matches!(outcome, Ok(Ok(_))) {
                kept = None;
            }
            self.count(outcome);
        }
    }

    async fn ask_kept(&self, slot: &mut Option<Kept>) -> Result<String, String> {
        let servers = self.names.servers().await?;
        if let Some(mut kept) = slot.take()
            && servers.contains(&kept.server)
            && kept.requests < REQUESTS_PER_CONNECTION
        {
            match ask(&mut kept.sender, kept.server, "keep-alive").await {
                Ok(version) => {
                    kept.requests += 1;
                    *slot = Some(kept);
                    return Ok(version);
                }
                Err(Failure::Unanswered(_)) => self.counters.reopened(),
                Err(Failure::Answered(why)) => return Err(why),
            }
        }
        let server = self.choose().await?;
        let mut sender = self.connect(server).await?;
        let version = ask(&mut sender, server, "keep-alive")
            .await
            .map_err(Failure::into_text)?;
        *slot = Some(Kept {
            server,
            sender,
            requests: 1,
        });
        Ok(version)
    }

    async fn choose(&self) -> Result<SocketAddr, String> {
        let servers = self.names.servers().await?;
        let index = self.turn.fetch_add(1, Ordering::Relaxed) % servers.len().max(1);
        servers
            .get(index)
            .copied()
            .ok_or_else(|| "the answer names no server".to_owned())
    }

    async fn connect(&self, server: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = TcpStream::connect(server)
            .await
            .map_err(|error| format!("connection to {server}: {error}"))?;
        self.counters.connected();
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("connection to {server}: {error}"))?;
        // Ends with the connection: when `sender` is dropped, or the server closes.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn count(&self, outcome: Result<Result<String, String>, tokio::time::error::Elapsed>) {
        match outcome {
            Ok(Ok(version)) => self.counters.answered(version),
            Ok(Err(why)) => self.counters.failed(why),
            Err(_) => self
                .counters
                .failed(format!("no answer in {REQUEST_TIMEOUT:?}")),
        }
    }
}

fn ticks(offset: Duration, pause: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + offset, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The version on the page.
async fn ask(
    sender: &mut SendRequest<Empty<Bytes>>,
    server: SocketAddr,
    connection: &'static str,
) -> Result<String, Failure> {
    let request = Request::get("/")
        .header(header::HOST, server.to_string())
        .header(header::CONNECTION, connection)
        .body(Empty::new())
        .map_err(|error| Failure::Answered(format!("request to {server}: {error}")))?;
    let unanswered = |error: hyper::Error| Failure::Unanswered(format!("{server}: {error}"));
    sender.ready().await.map_err(unanswered)?;
    let response = sender.send_request(request).await.map_err(unanswered)?;
    let status = response.status();
    let page = Limited::new(response.into_body(), PAGE_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| Failure::Answered(format!("{server}: half a page: {error}")))?
        .to_bytes();
    let version = String::from_utf8_lossy(&page).trim().to_owned();
    if status != StatusCode::OK {
        return Err(Failure::Answered(format!(
            "{server}: {version} answered {status}"
        )));
    }
    Ok(version)
}
