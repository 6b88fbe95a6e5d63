//! A client that asks for a page again and again, and counts what came of it and who answered. Half of
//! its requests come on new connections, where none is tried twice; the other half on kept ones, where
//! a connection that was closed while it was idle is opened again, which HTTP asks of every client
//! (RFC 9112 section 9.3.1).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::haproxy::SERVED_BY;
use crate::support::until;

/// Clients that ask at the same time, half of them on new connections.
const CLIENTS: usize = 8;
/// Time from an answer to the next request of a client. With it eight clients make some 700 requests
/// a second, and two processors have room for everything else.
const PAUSE: Duration = Duration::from_millis(10);
/// A request that takes longer failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Failures that are kept with their reason.
const KEPT: usize = 20;

/// What came of the requests so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Good answers by page: the version.
    pub(crate) by_page: BTreeMap<String, u64>,
    /// When each page came first.
    pub(crate) first: BTreeMap<String, Instant>,
    /// When each page came last.
    pub(crate) last: BTreeMap<String, Instant>,
    /// Failures by what answered: a version, or nothing.
    pub(crate) failed_by_page: BTreeMap<String, u64>,
    /// Good answers by HAProxy's server.
    pub(crate) by_server: BTreeMap<String, u64>,
    /// The first failures: when since the start, and what was seen.
    pub(crate) failures: Vec<(Duration, String)>,
}

/// Asks until it is dropped.
pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    _clients: JoinSet<()>,
}

/// A good answer, or what was wrong.
struct Answer {
    status: u16,
    page: String,
    server: String,
}

impl Load {
    /// Asks whoever listens here.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut clients = JoinSet::new();
        let start = Instant::now();
        for index in 0..CLIENTS {
            clients.spawn(ask_for_ever(address, index, Arc::clone(&seen), start));
        }
        Self {
            seen,
            _clients: clients,
        }
    }

    /// What came of it so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until there were so many requests more.
    pub(crate) async fn until_more(&self, more: u64) -> Seen {
        let before = self.seen().requests;
        until("requests", async || {
            let seen = self.seen();
            if seen.requests >= before + more {
                Ok(seen)
            } else {
                Err(seen)
            }
        })
        .await
    }

    /// Waits until so many requests were made altogether.
    pub(crate) async fn until_requests(&self, count: u64) -> Seen {
        let now = self.seen().requests;
        self.until_more(count.saturating_sub(now)).await
    }

    /// Fails if a request failed.
    pub(crate) fn assert_none_failed(&self, what: &str) {
        let seen = self.seen();
        assert_eq!(seen.failed, 0, "{what}: {seen:#?}");
    }
}

async fn ask_for_ever(address: SocketAddr, index: usize, seen: Arc<Mutex<Seen>>, start: Instant) {
    let mut kept = None;
    loop {
        let asked = async {
            match index % 2 {
                0 => ask_anew(address).await,
                _ => ask_kept(address, &mut kept).await,
            }
        };
        let answer = timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        if answer.is_err() {
            kept = None;
        }
        count(&mut seen.lock().unwrap(), answer, start);
        sleep(PAUSE).await;
    }
}

fn count(seen: &mut Seen, answer: Result<Answer, String>, start: Instant) {
    seen.requests += 1;
    let (page, why) = match answer {
        Ok(answer) if answer.status == 200 => {
            let now = Instant::now();
            seen.first.entry(answer.page.clone()).or_insert(now);
            seen.last.insert(answer.page.clone(), now);
            *seen.by_page.entry(answer.page).or_default() += 1;
            *seen.by_server.entry(answer.server).or_default() += 1;
            return;
        }
        Ok(answer) => {
            let why = format!("status {} of {:?}", answer.status, answer.server);
            (answer.page, why)
        }
        Err(why) => (String::new(), why),
    };
    seen.failed += 1;
    *seen.failed_by_page.entry(page).or_default() += 1;
    if seen.failures.len() < KEPT {
        seen.failures.push((start.elapsed(), why));
    }
}

type Sender = SendRequest<Empty<Bytes>>;

async fn connect(address: SocketAddr) -> Result<Sender, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("could not connect: {error}"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("could not speak: {error}"))?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask_anew(address: SocketAddr) -> Result<Answer, String> {
    let mut sender = connect(address).await?;
    ask(&mut sender, "close").await
}

async fn ask_kept(address: SocketAddr, kept: &mut Option<Sender>) -> Result<Answer, String> {
    if let Some(sender) = kept
        && sender.ready().await.is_ok()
    {
        match ask(sender, "keep-alive").await {
            Ok(answer) => return Ok(answer),
            // Closed while it was idle: nobody has seen the request.
            Err(why) if why.contains("connection closed before") || why.contains("canceled") => {}
            Err(why) => return Err(why),
        }
    }
    let sender = kept.insert(connect(address).await?);
    ask(sender, "keep-alive").await
}

async fn ask(sender: &mut Sender, connection: &str) -> Result<Answer, String> {
    let request = Request::get("/")
        .header(header::HOST, "web")
        .header(header::CONNECTION, connection)
        .body(Empty::new())
        .unwrap();
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("no answer: {error}"))?;
    let status = response.status().as_u16();
    let server = response.headers().get(SERVED_BY);
    let server = server.map_or(String::new(), |name| {
        String::from_utf8_lossy(name.as_bytes()).into_owned()
    });
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| format!("half an answer: {error}"))?;
    let page = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Answer {
        status,
        page,
        server,
    })
}
