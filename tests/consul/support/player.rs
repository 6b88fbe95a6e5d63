//! Agents that a test plays: each joins as it is told and registers its services with the Consul agent
//! of the server, as an agent does with the one of its machine. Of exclusive fleets they hold the lock
//! where a test lends them a client for that.

#[path = "player/locks.rs"]
mod locks;
#[path = "player/workload.rs"]
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use calvin_consul::{Client, Settings, agent::ServiceRegistration, catalog::Weights, registered};
use calvin_model::{
    BootId, CatalogueRole, Digest, DrainProgress, EnvironmentName, Generation, Health,
    ImageManifest, Join, Provision, Report, Role, Wanted, WorkloadState,
    image::{ServiceSpec, Work},
};
use calvin_proto::{
    convert::{self, FromAgent, Hello, ToAgent, join::CONSUL},
    limits::{PROTOCOL_MAX, PROTOCOL_MIN},
    transport::{self, Trusted},
    wire,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Datacenter, environment::Environment};

/// A boot that every machine has.
const BOOT: &str = "0a";
/// Time from one report to the next in tests, which wait for what follows from them.
const REPORTS: Duration = Duration::from_millis(200);
/// First and longest pause after a session that ended; doubled with each that failed.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// What an agent was told, for the test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) join: Option<Join>,
    /// Every role in which it was to be registered, in order.
    pub(crate) registered: Vec<CatalogueRole>,
    applied: Applied,
}

/// What it has registered.
#[derive(Debug, Clone, Copy, Default)]
enum Applied {
    #[default]
    Nothing,
    In(CatalogueRole),
    /// What was begun and did not end.
    Unknown,
}

/// Plays the agent of every machine of an environment, as they come, until it is dropped.
pub(crate) struct Player {
    heard: Arc<Mutex<BTreeMap<String, Heard>>>,
    /// Those that say and do nothing any more.
    dead: Arc<Mutex<BTreeSet<String>>>,
    /// Those of them whose work has ended.
    ended: Arc<Mutex<BTreeSet<String>>>,
    /// With what locks are taken; while it is none, nobody takes one.
    locks: Arc<Mutex<Option<Client>>>,
    _task: JoinSet<()>,
}

#[derive(Clone)]
struct Stage {
    /// Time from one report to the next.
    reports: Duration,
    machines: PathBuf,
    /// What clients with a token are made from.
    server: Settings,
    heard: Arc<Mutex<BTreeMap<String, Heard>>>,
    dead: Arc<Mutex<BTreeSet<String>>>,
    ended: Arc<Mutex<BTreeSet<String>>>,
    locks: Arc<Mutex<Option<Client>>>,
}

impl Player {
    pub(crate) fn start(environment: &Environment, datacenter: &Datacenter) -> Self {
        Self::start_reporting(environment, datacenter, REPORTS)
    }

    /// The same, with this time from one report to the next.
    pub(crate) fn start_reporting(
        environment: &Environment,
        datacenter: &Datacenter,
        reports: Duration,
    ) -> Self {
        let stage = Stage {
            reports,
            machines: environment.home().join("data/machines"),
            server: datacenter.settings(&datacenter.servers[0], None),
            heard: Arc::default(),
            dead: Arc::default(),
            ended: Arc::default(),
            locks: Arc::default(),
        };
        let (heard, dead) = (Arc::clone(&stage.heard), Arc::clone(&stage.dead));
        let (ended, locks) = (Arc::clone(&stage.ended), Arc::clone(&stage.locks));
        let mut task = JoinSet::new();
        task.spawn(play_all(stage));
        Self {
            heard,
            dead,
            ended,
            locks,
            _task: task,
        }
    }

    pub(crate) fn heard(&self, instance: &str) -> Heard {
        let heard = self.heard.lock().unwrap();
        heard.get(instance).cloned().unwrap_or_default()
    }

    /// From now on locks are taken with this client; without one nobody takes any.
    pub(crate) fn lend_locks(&self, client: Option<Client>) {
        *self.locks.lock().unwrap() = client;
    }

    /// The agent of this instance dies; what it registered stays.
    pub(crate) fn kill(&self, instance: &str) {
        self.dead.lock().unwrap().insert(instance.to_owned());
    }

    /// The same, and its runner ends its work.
    pub(crate) fn end(&self, instance: &str) {
        self.kill(instance);
        self.ended.lock().unwrap().insert(instance.to_owned());
    }
}

async fn play_all(stage: Stage) {
    let mut agents = JoinSet::new();
    let mut known = BTreeSet::new();
    loop {
        for machine in fs::read_dir(&stage.machines)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = machine.file_name().to_string_lossy().into_owned();
            let there = machine.path().join("provision.toml").is_file();
            if there && !name.starts_with('.') && known.insert(name.clone()) {
                let stage = stage.clone();
                agents.spawn(async move {
                    let _workload = workload::start(stage.machines.join(&name));
                    let [least, most] = PAUSES;
                    let mut pause = least;
                    // Its machine may be deleted at any moment, and its session ended.
                    while !stage.is_dead(&name) && stage.machines.join(&name).is_dir() {
                        match play(&stage, &name).await {
                            Ok(()) => pause = least,
                            // As it is to be, until its machine is removed.
                            Err(error) if error.to_string().contains("is retired") => {}
                            Err(error) => {
                                eprintln!("{name}: {error}");
                                pause = (pause * 2).min(most);
                            }
                        }
                        tokio::time::sleep(pause).await;
                    }
                    // Of one whose agent is dead the work goes on, unless a test ends it.
                    while stage.machines.join(&name).is_dir() && !stage.has_ended(&name) {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Stage {
    fn has_ended(&self, instance: &str) -> bool {
        self.ended.lock().unwrap().contains(instance)
    }

    fn is_dead(&self, instance: &str) -> bool {
        self.dead.lock().unwrap().contains(instance)
    }

    fn hear(&self, instance: &str, what: impl FnOnce(&mut Heard)) {
        what(
            self.heard
                .lock()
                .unwrap()
                .entry(instance.to_owned())
                .or_default(),
        );
    }
}

/// One machine with its agent.
struct Machine {
    stage: Stage,
    provision: Provision,
    manifest: ImageManifest,
    digest: Digest,
    client: Option<Client>,
    wanted: Option<Wanted>,
    /// Its fleet is exclusive.
    exclusive: bool,
    held: Option<locks::Held>,
    sequence: u64,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn play(stage: &Stage, instance: &str) -> Result<(), Failed> {
    let folder = stage.machines.join(instance);
    let text = fs::read_to_string(folder.join("provision.toml"))?;
    let image = fs::read(folder.join("image/image.toml"))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &image);
    let digest: [u8; 32] = digest.as_ref().try_into()?;
    let mut machine = Machine {
        stage: stage.clone(),
        provision: Provision::parse("provision.toml", &text)?,
        manifest: ImageManifest::parse("image.toml", &String::from_utf8(image)?)?,
        digest: Digest::from_sha256(digest),
        client: None,
        wanted: None,
        exclusive: false,
        held: None,
        sequence: 0,
    };
    // The same key asks again with the same token, and gets the same certificate.
    let key_file = folder.join("played.key");
    let key = match fs::read_to_string(&key_file) {
        Ok(key) => key,
        Err(_) => {
            let key = transport::new_key()?;
            fs::write(&key_file, &key)?;
            key
        }
    };
    machine.session(&key).await
}

impl Machine {
    async fn connect(
        &self,
        identity: Option<(&str, &str)>,
    ) -> Result<tonic::transport::Channel, Failed> {
        let trusted = Trusted::from_pem(&self.provision.ca_pem)?;
        let config = transport::client_config(&trusted, identity)?;
        let name = transport::coordinator_dns_name(&self.provision.environment);
        let address = self.provision.coordinators[0];
        Ok(transport::connect(address, &name, Arc::new(config)).await?)
    }

    async fn session(&mut self, key: &str) -> Result<(), Failed> {
        let request = wire::EnrolRequest {
            environment: self.provision.environment.to_string(),
            instance: self.provision.instance.to_string(),
            join_token: self.provision.join_token.clone(),
            csr_der: transport::signing_request(key)?,
        };
        let channel = self.connect(None).await?;
        let reply = transport::services::enrolment_client(channel)
            .enrol(request)
            .await?
            .into_inner();
        let channel = self.connect(Some((&reply.certificate_pem, key))).await?;
        let (send, messages) = mpsc::channel(64);
        send.send((&FromAgent::Hello(self.hello())).into()).await?;
        let mut told = transport::services::session_client(channel)
            .session(ReceiverStream::new(messages))
            .await?
            .into_inner();
        let mut due = interval(self.stage.reports);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let name = self.provision.instance.to_string();
        while !self.stage.is_dead(&name) {
            tokio::select! {
                message = told.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    // It died while the message was on its way.
                    if self.stage.is_dead(&name) { return Ok(()) }
                    self.hear(message.try_into().map_err(|error: convert::ConvertError| error.in_words())?)
                        .await?;
                }
                _ = due.tick() => {}
            }
            self.keep_lock().await?;
            let report = FromAgent::Report(self.report());
            if send.send((&report).into()).await.is_err() {
                // The session has ended: why, stands at the end of what is told.
                while told.message().await?.is_some() {}
                return Ok(());
            }
        }
        Ok(())
    }

    async fn hear(&mut self, told: ToAgent) -> Result<(), Failed> {
        let name = self.provision.instance.to_string();
        match told {
            ToAgent::Welcome(_) | ToAgent::Names(_) | ToAgent::Trust(_) => {}
            ToAgent::Wanted(order) => self.wanted = Some(order.wanted),
            ToAgent::Join(join) => {
                let token = join.consul.as_ref().and_then(|join| join.token.as_ref());
                let token = token.ok_or("a join without a token")?;
                let mut settings = self.stage.server.clone();
                settings.token = Some(token.expose().parse()?);
                self.client = Some(Client::new(settings)?);
                self.stage.hear(&name, |heard| heard.join = Some(join));
            }
            ToAgent::Registration(order) => {
                let role = order.registration.role;
                self.exclusive = order.registration.exclusive;
                self.stage.hear(&name, |heard| heard.registered.push(role));
                self.register(role).await?;
            }
        }
        Ok(())
    }

    /// Registers as told: the new name before the old one is left.
    async fn register(&self, role: CatalogueRole) -> Result<(), Failed> {
        let name = self.provision.instance.to_string();
        let mut before = Applied::Nothing;
        self.stage.hear(&name, |heard| {
            before = std::mem::replace(&mut heard.applied, Applied::Unknown);
        });
        for service in &self.manifest.services {
            self.register_service(service, before, role).await?;
        }
        self.stage
            .hear(&name, |heard| heard.applied = Applied::In(role));
        Ok(())
    }

    async fn register_service(
        &self,
        service: &ServiceSpec,
        before: Applied,
        role: CatalogueRole,
    ) -> Result<(), Failed> {
        let client = self
            .client
            .as_ref()
            .ok_or("told to register before it joined")?;
        let instance = &self.provision.instance;
        let name = registered::name(service, role);
        let left: Vec<String> = match before {
            Applied::Nothing => Vec::new(),
            Applied::In(before) => registered::name(service, before).into_iter().collect(),
            Applied::Unknown => vec![service.name.to_string(), registered::standby_name(service)],
        };
        if let Some(name) = &name {
            let id = registered::id(name, instance);
            // Where it is there already, its tags are those just read.
            let read = match before {
                Applied::Unknown => client.local_services().await?.remove(&id),
                Applied::Nothing | Applied::In(_) => None,
            };
            let tags = read.map_or_else(|| registered::tags(service, role), |read| read.tags);
            if matches!(before, Applied::Unknown) || !left.contains(name) {
                client
                    .register(&self.registration(service, name, tags))
                    .await?;
            }
        }
        for other in left.iter().filter(|other| Some(*other) != name.as_ref()) {
            client.deregister(&registered::id(other, instance)).await?;
        }
        Ok(())
    }

    fn registration(
        &self,
        service: &ServiceSpec,
        name: &str,
        tags: Vec<String>,
    ) -> ServiceRegistration {
        let address = self.provision.address;
        ServiceRegistration {
            id: registered::id(name, &self.provision.instance),
            name: name.to_owned(),
            tags,
            address: address.map_or_else(String::new, |it| it.to_string()),
            port: service.port,
            meta: registered::meta(service, &self.provision, BOOT),
            tagged_addresses: BTreeMap::new(),
            weights: Weights::default(),
            enable_tag_override: true,
            checks: Vec::new(),
        }
    }

    fn hello(&self) -> Hello {
        let environment: EnvironmentName = self.provision.environment.clone();
        Hello {
            version: "test".to_owned(),
            protocol: PROTOCOL_MIN..=PROTOCOL_MAX,
            capabilities: vec![CONSUL.to_owned()],
            boot: boot(),
            build: None,
            manifest: self.digest.clone(),
            epoch_seen: None,
            generation_seen: Generation(0),
            environment,
            instance: self.provision.instance.clone(),
            wall_ms: 0,
            role_applied: None,
            health: Health::Healthy,
        }
    }

    fn workload(&self, role: Option<Role>) -> WorkloadState {
        let work = self
            .manifest
            .workload
            .as_ref()
            .map(|workload| workload.work);
        match (work, role) {
            (_, Some(Role::Retired)) | (Some(Work::OnActive), Some(Role::Draining)) => {
                WorkloadState::Stopped
            }
            (Some(Work::OnActive), Some(Role::Standby) | None) => WorkloadState::NotWanted,
            (Some(Work::OnActive), Some(Role::Active))
            | (
                Some(Work::Boot) | None,
                Some(Role::Standby | Role::Active | Role::Draining) | None,
            ) => WorkloadState::Running,
        }
    }

    fn report(&mut self) -> Report {
        self.sequence += 1;
        let role = self.wanted.map(|wanted| wanted.role);
        Report {
            boot: boot(),
            sequence: self.sequence,
            generation_applied: self
                .wanted
                .map_or(Generation(0), |wanted| wanted.generation),
            role_applied: role,
            health: Health::Healthy,
            health_for: Duration::from_secs(60),
            flaps: 0,
            clock_offset_ms: None,
            workload: self.workload(role),
            names: None,
            drain: (role == Some(Role::Draining)).then_some(DrainProgress {
                done: true,
                connections: Some(0),
                time_left: Duration::ZERO,
            }),
            failing: Vec::new(),
            connections: None,
            refused: None,
            names_unsaved: None,
            quorum: None,
            consul: None,
        }
    }
}

fn boot() -> BootId {
    BOOT.parse().unwrap()
}
