//! What the load generator counted, read over HTTP from its own address.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::workload::load::Counted;

/// Time from one reading to the next.
pub(super) const READING_INTERVAL: Duration = Duration::from_millis(250);

/// Readings that are shown: 60 columns at 250 ms are 15 s, about two acts' worth of screen.
const READINGS_KEPT: usize = 60;

/// Longest time for one reading, and most bytes of it: the counters are below 2 KiB.
const READING_TIMEOUT: Duration = Duration::from_secs(1);
const READING_BYTES_MAX: usize = 64 * 1024;

/// The newest counters, and how they came about.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    pub(super) counted: Counted,
    /// What came in between two readings, the newest last.
    pub(super) history: VecDeque<Reading>,
    /// Who answered between the newest two readings.
    pub(super) newest: BTreeMap<String, u64>,
}

/// What came in between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) requests: u64,
    pub(super) failed: u64,
}

impl Traffic {
    /// Takes a reading in.
    pub(super) fn take(&mut self, counted: Counted) {
        let reading = Reading {
            requests: counted.requests.saturating_sub(self.counted.requests),
            failed: counted.failed.saturating_sub(self.counted.failed),
        };
        if self.history.len() == READINGS_KEPT {
            self.history.pop_front();
        }
        self.history.push_back(reading);
        let before = |version: &String| self.counted.by_version.get(version).copied().unwrap_or(0);
        self.newest = counted
            .by_version
            .iter()
            .map(|(version, answers)| (version.clone(), answers.saturating_sub(before(version))))
            .collect();
        self.counted = counted;
    }

    /// Requests a second over the last second.
    pub(super) fn rate(&self) -> u64 {
        self.history
            .iter()
            .rev()
            .take(4)
            .map(|reading| reading.requests)
            .sum()
    }
}

/// Reads the counters; `None` if the load generator does not answer.
pub(super) async fn read(address: SocketAddr) -> Option<Counted> {
    timeout(READING_TIMEOUT, fetch(address))
        .await
        .ok()
        .flatten()
}

async fn fetch(address: SocketAddr) -> Option<Counted> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::get("/counters")
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    let body = Limited::new(response.into_body(), READING_BYTES_MAX)
        .collect()
        .await
        .ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}
