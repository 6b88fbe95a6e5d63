//! A coordinator's agent service with a clock that the test moves, and agents that it plays.

mod deaf;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use calvin_engine::ports::{Admitted, AgentLink as _, AgentSeen};
use calvin_model::{
    CatalogueEntry, CatalogueRole, Epoch, Generation, InstanceId, NamesSnapshot, NamesVersion,
    Role, Wanted,
};
use calvin_proto::{
    convert::ToAgent,
    transport::{
        ConnectError, Trusted, client_config, connect, coordinator_dns_name, new_key, services,
        signing_request,
    },
    wire::{self, EnrolReply, EnrolRequest, RenewRequest, from_agent::Message},
};
use rustls::ClientConfig;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    api::agent::{Agents, AgentsOptions, serve_agents},
    identity::{AuditEntry, Identity, IdentityOptions, Now, REASON_HEADER},
    images::{ImageRecord, ImageStore},
    store::{Database, StoreFault},
};

/// No condition of these tests takes longer.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

const IMAGE: &str = "name = \"web\"\nversion = \"1.0\"\nbuild = \"b1\"\n";

pub(super) struct Bench {
    data: tempfile::TempDir,
    offset: Arc<AtomicU64>,
    pub(super) identity: Identity,
    pub(super) agents: Agents,
    address: SocketAddr,
    image: Arc<ImageRecord>,
    names: watch::Sender<Option<Arc<NamesSnapshot>>>,
    pokes: Arc<AtomicUsize>,
    /// What is wrong with the coordinator's disk.
    pub(super) fault: Arc<StoreFault>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

/// A private key, PEM.
pub(super) struct Key(String);

impl Key {
    pub(super) fn new() -> Self {
        Self(new_key().unwrap())
    }
}

/// What an agent holds.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) ca_pem: String,
    own: Option<(String, String)>,
}

impl Agent {
    fn config(&self) -> ClientConfig {
        let trusted = Trusted::from_pem(&self.ca_pem).unwrap();
        let own = self.own.as_ref();
        let own = own.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        client_config(&trusted, own).unwrap()
    }
}

pub(super) fn id(instance: &str) -> InstanceId {
    instance.parse().unwrap()
}

/// The word for tools.
pub(super) fn reason(status: &Status) -> String {
    let word = status.metadata().get(REASON_HEADER);
    word.map_or_else(
        || format!("no reason: {status:?}"),
        |word| word.to_str().unwrap().to_owned(),
    )
}

pub(super) async fn until(condition: impl Fn() -> bool, what: &str) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

impl Bench {
    pub(super) async fn start() -> Self {
        Self::start_days_ago(0).await
    }

    pub(super) async fn start_days_ago(days: u64) -> Self {
        let mut bench = Self::open(days, |_| ()).await;
        bench.speak();
        bench
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut IdentityOptions)) -> Self {
        let mut bench = Self::open(0, change).await;
        bench.speak();
        bench
    }

    /// The engine has not said anything yet.
    pub(super) async fn start_silent() -> Self {
        Self::open(0, |_| ()).await
    }

    async fn open(days_ago: u64, change: impl FnOnce(&mut IdentityOptions)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(&data.path().join("store.redb")).unwrap());
        let fault = Arc::clone(database.fault());
        let image = data.path().join("image");
        fs::create_dir(&image).unwrap();
        fs::write(image.join("image.toml"), IMAGE).unwrap();
        let images = ImageStore::open(Arc::clone(&database)).unwrap();
        let image = Arc::clone(images.add(&image, "process", "ann", 0).unwrap().record());

        // Seconds that the coordinator's clock is behind the real one, as far as the test moves it.
        let offset = Arc::new(AtomicU64::new(days_ago * 86_400));
        let behind = Arc::clone(&offset);
        let base = 10 * 365 * 86_400;
        behind.fetch_add(base, Ordering::SeqCst);
        let now: Now = Arc::new(move || {
            let behind = Duration::from_secs(behind.load(Ordering::SeqCst));
            SystemTime::now() + Duration::from_secs(base) - behind
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = IdentityOptions::new(
            "test".parse().unwrap(),
            data.path().to_owned(),
            vec![address],
        );
        change(&mut options);
        let identity = Identity::open(options, database, now).unwrap();
        let (names, feed) = watch::channel(None);
        let pokes = Arc::new(AtomicUsize::new(0));
        let poked = Arc::clone(&pokes);
        let agents = Agents::new(AgentsOptions {
            identity: identity.clone(),
            images,
            names: feed,
            report_interval: Duration::from_secs(1),
            poke: Arc::new(move || {
                poked.fetch_add(1, Ordering::SeqCst);
            }),
        });
        let (stop, stopped) = oneshot::channel();
        let served = agents.clone();
        let server = tokio::spawn(async move {
            let shutdown = async {
                // A bench that is dropped stops its server, too.
                let _ = stopped.await;
            };
            serve_agents(listener, served, shutdown).await.unwrap();
        });
        Self {
            data,
            offset,
            identity,
            agents,
            address,
            image,
            names,
            pokes,
            fault,
            stop: Some(stop),
            server: Some(server),
        }
    }

    pub(super) fn epoch() -> Epoch {
        Epoch {
            number: 5,
            run: "aa".parse().unwrap(),
        }
    }

    /// What the engine says at its start.
    pub(super) fn speak(&mut self) {
        self.agents.set_epoch(Self::epoch());
        let admitted =
            ["web-a", "web-b"].map(|instance| (id(instance), self.admitted(1, Role::Standby)));
        self.agents.admit(&BTreeMap::from(admitted));
    }

    fn admitted(&self, generation: u64, role: Role) -> Admitted {
        Admitted {
            fleet: "web".parse().unwrap(),
            image: self.image.image.clone(),
            wanted: Wanted {
                generation: Generation(generation),
                role,
                drain: None,
            },
        }
    }

    pub(super) fn want(&mut self, instance: &str, generation: u64, role: Role) {
        let wanted = self.admitted(generation, role).wanted;
        self.agents.tell(&id(instance), &wanted);
    }

    pub(super) fn publish(&self, number: u64) {
        let entry = CatalogueEntry {
            instance: id("web-a"),
            fleet: "web".parse().unwrap(),
            address: "127.0.0.9".parse().unwrap(),
            role: CatalogueRole::Active,
            services: Vec::new(),
        };
        self.names.send_replace(Some(Arc::new(NamesSnapshot {
            version: NamesVersion { epoch: 5, number },
            domain: "test.internal".into(),
            ttl: Duration::from_secs(1),
            entries: vec![entry],
        })));
    }

    pub(super) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let server = self.server.take().unwrap();
        tokio::time::timeout(DEADLINE, server)
            .await
            .unwrap()
            .unwrap();
    }

    /// Moves the coordinator's clock.
    pub(super) fn pass(&self, seconds: u64) {
        self.offset.fetch_sub(seconds, Ordering::SeqCst);
    }

    pub(super) fn pokes(&self) -> usize {
        self.pokes.load(Ordering::SeqCst)
    }

    /// The words of the audit, in order.
    pub(super) fn audit(&self) -> Vec<String> {
        let text = fs::read_to_string(self.data.path().join("audit.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<AuditEntry>(line).unwrap().what)
            .filter(|what| what != "ca_rotated" && what != "operator_added")
            .collect()
    }

    pub(super) async fn until(
        &self,
        condition: impl Fn(&BTreeMap<&str, AgentSeen>) -> bool,
        what: &str,
    ) {
        let look = || {
            let seen = self.agents.observe();
            let seen = seen
                .iter()
                .map(|(instance, seen)| (instance.as_str(), seen.clone()))
                .collect();
            condition(&seen)
        };
        until(look, what).await;
    }

    pub(super) fn token(&self, instance: &str) -> String {
        self.identity
            .join_token(&"web".parse().unwrap(), &id(instance), 1)
            .unwrap()
    }

    pub(super) fn nobody(&self) -> Agent {
        Agent {
            ca_pem: self.identity.ca_pem(),
            own: None,
        }
    }

    pub(super) fn operator(&self, name: &str) -> Agent {
        let key = Key::new();
        let csr = signing_request(&key.0).unwrap();
        let role = calvin_model::OperatorRole::Admin;
        let added = self
            .identity
            .add_operator(&name.parse().unwrap(), role, &csr, None, "local:0")
            .unwrap();
        Agent {
            ca_pem: added.ca_pem,
            own: Some((added.certificate_pem, key.0)),
        }
    }

    pub(super) async fn connect(&self, agent: &Agent) -> Result<Channel, ConnectError> {
        let config = Arc::new(agent.config());
        let name = coordinator_dns_name(&"test".parse().unwrap());
        connect(self.address, &name, config).await
    }

    pub(super) async fn enrol(
        &self,
        instance: &str,
        token: &str,
        key: &Key,
    ) -> Result<EnrolReply, Status> {
        let channel = self.connect(&self.nobody()).await.unwrap();
        let request = EnrolRequest {
            environment: "test".into(),
            instance: instance.into(),
            join_token: token.into(),
            csr_der: signing_request(&key.0).unwrap(),
        };
        let reply = services::enrolment_client(channel).enrol(request).await?;
        Ok(reply.into_inner())
    }

    pub(super) async fn enrolled(&self, instance: &str) -> Agent {
        let key = Key::new();
        let token = self.token(instance);
        let reply = self.enrol(instance, &token, &key).await.unwrap();
        Agent {
            ca_pem: reply.ca_pem,
            own: Some((reply.certificate_pem, key.0)),
        }
    }

    pub(super) async fn renewed(&self, agent: &Agent) -> Result<Agent, Status> {
        let channel = self.connect(agent).await.unwrap();
        let key = Key::new();
        let request = RenewRequest {
            csr_der: signing_request(&key.0).unwrap(),
        };
        let reply = services::enrolment_client(channel).renew(request).await?;
        let reply = reply.into_inner();
        Ok(Agent {
            ca_pem: reply.ca_pem,
            own: Some((reply.certificate_pem, key.0)),
        })
    }

    pub(super) fn hello(&self, instance: &str) -> wire::Hello {
        wire::Hello {
            version: "0.1.0".into(),
            protocol_min: 1,
            protocol_max: 1,
            boot_id: "b0".into(),
            build_id: "b1".into(),
            manifest_digest: self.image.manifest_digest.as_str().into(),
            environment: "test".into(),
            instance: instance.into(),
            ..wire::Hello::default()
        }
    }

    pub(super) async fn session(
        &self,
        agent: &Agent,
        hello: wire::Hello,
    ) -> Result<Session, Status> {
        let message = Some(Message::Hello(hello));
        self.session_with(agent, wire::FromAgent { message }).await
    }

    pub(super) async fn session_with(
        &self,
        agent: &Agent,
        first: wire::FromAgent,
    ) -> Result<Session, Status> {
        let channel = self.connect(agent).await.unwrap();
        Session::begin(channel, first).await
    }

    /// A session that has been told all that there is at its start.
    pub(super) async fn begun(&self, agent: &Agent, instance: &str) -> Session {
        let mut session = self.session(agent, self.hello(instance)).await.unwrap();
        loop {
            match session.next().await.unwrap() {
                ToAgent::Trust(_) => return session,
                ToAgent::Welcome(_)
                | ToAgent::Wanted(_)
                | ToAgent::Names(_)
                | ToAgent::Join(_)
                | ToAgent::Registration(_) => {}
            }
        }
    }

    pub(super) fn report_message(sequence: u64) -> wire::FromAgent {
        let report = wire::Report {
            boot_id: "b0".into(),
            sequence,
            health: wire::Health::Healthy.into(),
            workload: wire::WorkloadState::Running.into(),
            ..wire::Report::default()
        };
        wire::FromAgent {
            message: Some(Message::Report(report)),
        }
    }
}

/// An agent's end of a session.
#[derive(Debug)]
pub(super) struct Session {
    send: mpsc::Sender<wire::FromAgent>,
    inbound: Streaming<wire::ToAgent>,
}

impl Session {
    async fn begin(channel: Channel, first: wire::FromAgent) -> Result<Self, Status> {
        let (send, receive) = mpsc::channel(8);
        send.send(first).await.unwrap();
        let inbound = services::session_client(channel)
            .session(ReceiverStream::new(receive))
            .await?
            .into_inner();
        Ok(Self { send, inbound })
    }

    pub(super) async fn next(&mut self) -> Result<ToAgent, Status> {
        let message = tokio::time::timeout(DEADLINE, self.inbound.message())
            .await
            .expect("a message in time")?
            .expect("the session goes on");
        Ok(message.try_into().unwrap())
    }

    /// The status that it ends with.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub(super) async fn send(&self, message: wire::FromAgent) {
        // A session that has ended takes nothing more.
        let _ = self.send.send(message).await;
    }

    pub(super) async fn report(&self, sequence: u64) {
        self.send(Bench::report_message(sequence)).await;
    }

    pub(super) async fn report_names(&self, sequence: u64, number: u64) {
        let mut message = Bench::report_message(sequence);
        if let Some(Message::Report(report)) = &mut message.message {
            (report.names_epoch, report.names_number) = (5, number);
        }
        self.send(message).await;
    }
}
