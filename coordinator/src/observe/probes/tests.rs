//! Probes against real listeners.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

use super::*;

/// Far above what two looks take.
const DEADLINE: Duration = Duration::from_secs(20);

struct Probing {
    port: ProbePort,
    changes: mpsc::UnboundedReceiver<()>,
    _task: JoinSet<()>,
}

impl Probing {
    fn start() -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        let (port, prober) = prober(Arc::new(move || {
            // Nobody waits any more once a test has what it wanted.
            let _ = sender.send(());
        }));
        let mut task = JoinSet::new();
        task.spawn(prober.run());
        Self {
            port,
            changes,
            _task: task,
        }
    }

    fn watch(&mut self, targets: &[(&str, SocketAddr, Option<&str>)]) {
        let target = |address, path: Option<&str>| ProbeTarget {
            address,
            http_path: path.map(str::to_owned),
            timeout: Duration::from_millis(500),
        };
        let targets = targets
            .iter()
            .map(|(id, address, path)| (id.parse().unwrap(), vec![target(*address, *path)]));
        self.port.watch(&targets.collect());
    }

    /// Waits until the instance's result is this.
    async fn until(&mut self, id: &str, passing: bool) -> ProbeObserved {
        let id = id.parse::<InstanceId>().unwrap();
        let seen = async {
            loop {
                let result = self.port.results().get(&id).copied();
                if let Some(result) = result.filter(|result| result.passing == passing) {
                    return result;
                }
                self.changes.recv().await.unwrap();
            }
        };
        timeout(DEADLINE, seen).await.unwrap()
    }
}

/// Answers each connection with this status, until it is dropped.
async fn http_server(status: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /health HTTP/1.1\r\n"));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_port_that_accepts_passes_and_one_that_closed_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut probing = Probing::start();
    probing.watch(&[("web-a", address, None)]);
    probing.until("web-a", true).await;
    drop(listener);
    let result = probing.until("web-a", false).await;
    assert_eq!(result.same_for, Duration::ZERO);
}

#[tokio::test]
async fn a_page_passes_by_its_status() {
    let (good, _good) = http_server("204 No Content").await;
    let (bad, _bad) = http_server("503 Service Unavailable").await;
    let mut probing = Probing::start();
    probing.watch(&[
        ("web-a", good, Some("/health")),
        ("web-b", bad, Some("/health")),
    ]);
    probing.until("web-a", true).await;
    probing.until("web-b", false).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut probing = Probing::start();
    probing.watch(&[("web-a", address, Some("/health"))]);
    probing.until("web-a", false).await;
}

#[tokio::test]
async fn what_is_no_longer_watched_has_no_result() {
    let (good, _good) = http_server("200 OK").await;
    let mut probing = Probing::start();
    probing.watch(&[("web-a", good, Some("/health"))]);
    probing.until("web-a", true).await;
    probing.watch(&[("web-b", good, Some("/health"))]);
    let gone: InstanceId = "web-a".parse().unwrap();
    assert!(!probing.port.results().contains_key(&gone));
    probing.until("web-b", true).await;
}

/// A port that is watched and not probed, and one look at it after the other, with what is recorded.
struct Looking {
    shared: Arc<Shared>,
    port: ProbePort,
    id: InstanceId,
    targets: Arc<[ProbeTarget]>,
}

impl Looking {
    fn start() -> Self {
        let (mut port, Prober(shared)) = prober(Arc::new(|| ()));
        let id: InstanceId = "web-a".parse().unwrap();
        let target = ProbeTarget {
            address: "127.0.0.1:1".parse().unwrap(),
            http_path: None,
            timeout: Duration::from_secs(1),
        };
        port.watch(&BTreeMap::from([(id.clone(), vec![target])]));
        let targets = Arc::clone(&shared.table().instances[&id].targets);
        Self {
            shared,
            port,
            id,
            targets,
        }
    }

    /// Whether the instance passes after one more look.
    fn after(&self, look: Attempt) -> Option<bool> {
        record(&self.shared, &self.id, &self.targets, look);
        Some(self.port.results().get(&self.id)?.passing)
    }
}

#[tokio::test]
async fn one_look_that_fails_is_no_fall_and_two_in_a_row_are() {
    let looking = Looking::start();
    assert_eq!(looking.after(Attempt::Failing), Some(false));
    assert_eq!(looking.after(Attempt::Passing), Some(true));
    assert_eq!(looking.after(Attempt::Failing), Some(true));
    assert_eq!(looking.after(Attempt::Passing), Some(true));
    assert_eq!(looking.after(Attempt::Failing), Some(true));
    assert_eq!(looking.after(Attempt::Failing), Some(false));
}

#[tokio::test]
async fn a_look_that_could_not_be_made_changes_nothing_and_lets_the_last_grow_old() {
    let looking = Looking::start();
    assert_eq!(looking.after(Attempt::Unknown), None);
    assert_eq!(looking.after(Attempt::Passing), Some(true));
    let last = || {
        looking.shared.table().instances[&looking.id]
            .seen
            .map(|seen| seen.last)
    };
    let passed = last();
    for _ in 0..3 {
        assert_eq!(looking.after(Attempt::Unknown), Some(true));
    }
    assert_eq!(last(), passed);
}
