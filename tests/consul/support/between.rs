//! Somebody between the coordinator and its Consul, who hears every transaction, and lets one wait or does
//! something first, as a test tells him.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use calvin_consul::{Client, Consistency, Key};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Method, Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    Datacenter,
    datacenter::MANAGEMENT,
    environment::Environment,
    home::of_environment,
    process::{free_ports, own_address},
};

/// A transaction that went through, and the status of the answer.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) ops: Vec<Value>,
    pub(crate) status: u16,
}

type Which = Box<dyn Fn(&[Value]) -> bool + Send>;

/// What is shared with the connections.
struct Stage {
    /// Where Consul answers without TLS.
    consul: SocketAddr,
    management: Client,
    hangs: watch::Sender<bool>,
    /// Before such a transaction the session that holds this lock is ended, each once.
    ends: Mutex<Vec<(Which, Key)>>,
    heard: Mutex<Vec<Transaction>>,
    /// How many are kept waiting, or were.
    hung: Mutex<usize>,
}

/// He.
pub(crate) struct Between {
    address: SocketAddr,
    stage: Arc<Stage>,
    _task: JoinSet<()>,
}

/// The datacenter of an environment, which answers without TLS too, and where it does.
pub(crate) async fn plain_datacenter() -> (Datacenter, SocketAddr) {
    let port = free_ports(own_address()).https;
    let mut more = of_environment();
    more["ports"] = json!({ "http": port });
    let datacenter = Datacenter::start(1, more).await;
    let address = SocketAddr::new(datacenter.servers[0].address, port);
    (datacenter, address)
}

impl Between {
    pub(crate) async fn start(datacenter: &Datacenter, consul: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stage = Arc::new(Stage {
            consul,
            management: datacenter.client(&datacenter.servers[0], Some(MANAGEMENT)),
            hangs: watch::Sender::new(false),
            ends: Mutex::default(),
            heard: Mutex::default(),
            hung: Mutex::default(),
        });
        let mut task = JoinSet::new();
        task.spawn(listen(listener, Arc::clone(&stage)));
        Self {
            address,
            stage,
            _task: task,
        }
    }

    /// Has the coordinator ask him. Must be called before it is started.
    pub(crate) fn is_asked_by(&self, environment: &Environment) {
        let file = environment.home().join("calvin.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let line = |line: &str| {
            if line.starts_with("address = \"https://") {
                format!("address = \"http://{}\"", self.address)
            } else {
                line.to_owned()
            }
        };
        let no_tls = |line: &&str| {
            let keys = ["ca_file", "certificate_file", "key_file"];
            !keys.iter().any(|key| line.starts_with(key))
        };
        let lines: Vec<String> = text.lines().filter(no_tls).map(line).collect();
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    }

    /// From now on transactions that write wait; what is waiting goes on when none does.
    pub(crate) fn hangs(&self, hangs: bool) {
        self.stage.hangs.send_replace(hangs);
    }

    pub(crate) fn hung(&self) -> usize {
        *self.stage.hung.lock().unwrap()
    }

    /// Before the next transaction like this, ends the session that holds a lock.
    pub(crate) fn ends_before(
        &self,
        which: impl Fn(&[Value]) -> bool + Send + 'static,
        lock: &str,
    ) {
        let lock = lock.parse().unwrap();
        self.stage
            .ends
            .lock()
            .unwrap()
            .push((Box::new(which), lock));
    }

    /// Every transaction so far.
    pub(crate) fn heard(&self) -> Vec<Transaction> {
        self.stage.heard.lock().unwrap().clone()
    }

    /// Registers something, as nobody but who may do everything can.
    pub(crate) async fn register(&self, entry: Value) {
        let body = Full::new(Bytes::from(entry.to_string()));
        let request = Request::put("/v1/catalog/register")
            .header("host", "consul")
            .header("x-consul-token", MANAGEMENT)
            .body(body)
            .unwrap();
        let answer = self.stage.forward(request).await;
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

async fn listen(listener: TcpListener, stage: Arc<Stage>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let stage = Arc::clone(&stage);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let stage = Arc::clone(&stage);
                async move { Ok::<_, hyper::Error>(stage.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // Who asked may be gone.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Stage {
    async fn forward(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.consul).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
        let writes = request.method() == Method::PUT && request.uri().path() == "/v1/txn";
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let ops: Vec<Value> = if writes {
            serde_json::from_slice(&body).unwrap()
        } else {
            Vec::new()
        };
        let writes = writes && !ops.iter().all(is_read);
        if writes {
            self.before(&ops).await;
        }
        let answer = self
            .forward(Request::from_parts(head, Full::new(body)))
            .await;
        if writes {
            let status = answer.status().as_u16();
            let mut heard = self.heard.lock().unwrap();
            heard.push(Transaction { ops, status });
        }
        answer.map(BodyExt::boxed)
    }

    async fn before(&self, ops: &[Value]) {
        let mut hangs = self.hangs.subscribe();
        if *hangs.borrow() {
            *self.hung.lock().unwrap() += 1;
            let _ = hangs.wait_for(|hangs| !hangs).await;
        }
        let found = {
            let mut ends = self.ends.lock().unwrap();
            let place = ends.iter().position(|(which, _)| which(ops));
            place.map(|place| ends.remove(place))
        };
        let Some((which, lock)) = found else { return };
        let read = self.management.kv_get(&lock, Consistency::Consistent);
        match read.await.unwrap().value.and_then(|entry| entry.session) {
            Some(session) => self.management.session_destroy(&session).await.unwrap(),
            // It is lost already: then this is not about the next one either.
            None => self.ends.lock().unwrap().push((which, lock)),
        }
    }
}

fn is_read(op: &Value) -> bool {
    let mut kinds = op.as_object().into_iter().flat_map(|op| op.values());
    kinds.any(|op| op["Verb"] == "get")
}
