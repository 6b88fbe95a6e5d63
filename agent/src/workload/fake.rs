//! A runner that does what a test says.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{HumanDuration, image::StopSignal};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{Framed, LinesCodec};

use super::{
    Runner, WorkloadSpec,
    protocol::{Message, Order, Request},
};

/// Far above what anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A workload that nobody starts.
pub(crate) fn spec() -> WorkloadSpec {
    WorkloadSpec {
        program: "server".into(),
        arguments: Vec::new(),
        env: BTreeMap::new(),
        directory: "/".into(),
        stop_signal: StopSignal::Term,
        stop_timeout: HumanDuration::from_secs(1),
        restart_min: HumanDuration::from_secs(1),
        restart_max: HumanDuration::from_secs(1),
        needs_lease: false,
    }
}

/// Where it listens.
pub(crate) struct Fake {
    listener: UnixListener,
    _root: tempfile::TempDir,
}

/// One agent's connection to it.
pub(crate) type Lines = Framed<UnixStream, LinesCodec>;

impl Fake {
    /// One, and an agent's handle to it.
    pub(crate) fn new() -> (Self, Runner) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("init.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let fake = Self {
            listener,
            _root: root,
        };
        let (runner, connection) = Runner::connect(path);
        tokio::spawn(connection.run());
        (fake, runner)
    }

    pub(crate) async fn accept(&self) -> Lines {
        let accepted = tokio::time::timeout(DEADLINE, self.listener.accept());
        let (stream, _) = accepted.await.expect("nobody connects").unwrap();
        Framed::new(stream, LinesCodec::new())
    }
}

pub(crate) async fn request(lines: &mut Lines) -> Request {
    let line = tokio::time::timeout(DEADLINE, lines.next());
    let line = line.await.expect("nothing is asked").unwrap().unwrap();
    serde_json::from_str(&line).unwrap()
}

pub(crate) async fn tell(lines: &mut Lines, message: &Message) {
    lines
        .send(serde_json::to_string(message).unwrap())
        .await
        .unwrap();
}

/// The next order, which is taken, or refused with this reason.
pub(crate) async fn answered(lines: &mut Lines, refused: Option<&str>) -> Order {
    let Request { id, order } = request(lines).await;
    let refused = refused.map(str::to_owned);
    tell(lines, &Message::Answer { id, refused }).await;
    order
}
