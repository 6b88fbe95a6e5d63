//! The machine, its coordinator's line, and a datacenter that it can join.

mod token;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use calvin_consul::{Client, Settings};
use calvin_model::ImageManifest;
use calvin_proto::{
    machine::{InitRecord, LOCKS_VARIABLE, MachineFiles, ProcessId, processes::kill_all},
    wire::{self, to_agent::Message},
};
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::Status;

use self::token::{MachineToken, token};
pub(super) use crate::support::datacenter::MANAGEMENT;
use crate::{
    support::{Datacenter, datacenter::TIMEOUT, until, waiting::LIMIT},
    testing::{Coordinator, ENVIRONMENT, INSTANCE, Line, Reply, machine_toml, wanted, wire_epoch},
};

const EPOCH: u64 = 5;
const PORT: u16 = 8080;

/// A datacenter that hands certificates to clients, with the names of the agent's tests.
pub(super) async fn field() -> Datacenter {
    let more = json!({
        "datacenter": ENVIRONMENT,
        "domain": "build.example",
        "connect": { "enabled": true },
        "auto_encrypt": { "allow_tls": true },
        // A client asks for its certificate at this port, whatever port it was told for gossip.
        "ports": { "server": 8300 },
        // The certificates of these tests are for another datacenter.
        "tls": { "internal_rpc": { "verify_server_hostname": false } },
    });
    Datacenter::start(1, more).await
}

/// Who a machine is.
pub(super) struct Kit {
    /// One for each machine of these tests: its address is made of it.
    pub(super) number: u8,
    pub(super) instance: &'static str,
    /// Its `image.toml`.
    pub(super) image: String,
    /// Whether its fleet is exclusive.
    pub(super) exclusive: bool,
}

/// A machine with all its processes. They end when it is dropped.
pub(super) struct Machine {
    instance: &'static str,
    manifest: ImageManifest,
    exclusive: bool,
    pub(super) files: MachineFiles,
    address: IpAddr,
    init: Option<Child>,
    to_agent: mpsc::Sender<Result<wire::ToAgent, Status>>,
    /// The newest. A coordinator that does not read holds the agent up.
    reports: watch::Receiver<Option<wire::Report>>,
    token: MachineToken,
    join: wire::ConsulJoin,
    generation: u64,
    coordinator: Coordinator,
    _port: TcpListener,
    root: tempfile::TempDir,
}

/// The image of these machines, with this program as its Consul client.
pub(super) fn image(program: &str) -> String {
    image_with(&format!("program = {program:?}"))
}

/// The same, with this line about its Consul client.
pub(super) fn image_with(client: &str) -> String {
    format!(
        "name = \"web\"\nversion = \"1.0\"\n[workload]\ncommand = [\"sleep\", \"600\"]\n\
         [consul]\n{client}\n\
         [[service]]\nname = \"web\"\nport = {PORT}\ntags = [\"http\"]\n\
         tags_active = [\"route-/\"]\n\
         [[check]]\nname = \"port\"\ntcp = true\nport = {PORT}\ninterval = \"10s\"\n\
         [[check]]\nname = \"disk\"\nexec = [\"test\", \"!\", \"-e\", \"full\"]\n\
         interval = \"200ms\"\nfall = 3\n"
    )
}

pub(super) fn consul_program() -> String {
    let named = std::env::var_os("CALVIN_TEST_CONSUL").map(PathBuf::from);
    let named = named.expect("CALVIN_TEST_CONSUL names Consul");
    named.to_str().unwrap().to_owned()
}

/// The agent that was built beside these tests.
fn agent_program() -> PathBuf {
    let binaries = std::env::var_os("CALVIN_TEST_BINARIES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug"),
        PathBuf::from,
    );
    let program = binaries.join("calvin-agent");
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

/// The names of an image's services.
fn names(manifest: &ImageManifest) -> Vec<String> {
    let services = manifest.services.iter();
    services.map(|one| one.name.as_str().to_owned()).collect()
}

/// Those that there are: tests run beside each other.
static NUMBERS: Mutex<BTreeSet<u8>> = Mutex::new(BTreeSet::new());

/// The address of the machine with this number.
pub(super) fn address_of(number: u8) -> IpAddr {
    let process = std::process::id();
    let address = format!("127.{}.{}.{number}", 64 + process / 256 % 32, process % 256);
    address.parse().unwrap()
}

async fn trust_domain(consul: &Client) -> String {
    let found = until("the authority", async || consul.trust_domain().await).await;
    // Some give out no certificates.
    found.unwrap_or_default()
}

/// Starts the machine in this directory of its host.
fn start_init(files: &MachineFiles, host: &Path) -> Child {
    let mut init = Command::new("setpriv");
    // Also where a test ends before it has a machine.
    init.args(["--pdeathsig", "KILL", "--"])
        .arg(agent_program());
    init.args(["init", "--machine"]).arg(files.root());
    init.env(LOCKS_VARIABLE, host.join("locks"));
    let silent = init.stdin(Stdio::null()).stdout(Stdio::null());
    silent.spawn().unwrap()
}

/// Reads what the agent says, for as long as it says something.
fn read(mut line: Line) -> watch::Receiver<Option<wire::Report>> {
    let (newest, reports) = watch::channel(None);
    tokio::spawn(async move {
        while let Ok(Some(said)) = line.from_agent.message().await {
            if let Some(wire::from_agent::Message::Report(report)) = said.message {
                newest.send_replace(Some(report));
            }
        }
    });
    reports
}

impl Machine {
    /// A machine that is enrolled and has been told how to join.
    pub(super) async fn start(datacenter: &Datacenter, number: u8) -> Self {
        Self::start_with(datacenter, number, &consul_program()).await
    }

    /// The same, with this program as its Consul client.
    pub(super) async fn start_with(datacenter: &Datacenter, number: u8, program: &str) -> Self {
        Self::start_of(datacenter, number, image(program)).await
    }

    /// The same, with more checks.
    pub(super) async fn start_checked(datacenter: &Datacenter, number: u8, checks: &str) -> Self {
        let image = format!("{}{checks}", image(&consul_program()));
        Self::start_of(datacenter, number, image).await
    }

    /// The same, of this image.
    pub(super) async fn start_of(datacenter: &Datacenter, number: u8, image: String) -> Self {
        let kit = Kit {
            number,
            instance: INSTANCE,
            image,
            exclusive: false,
        };
        Self::start_kit(datacenter, kit).await
    }

    /// The machine of this kit.
    pub(super) async fn start_kit(datacenter: &Datacenter, kit: Kit) -> Self {
        let Kit {
            number,
            instance,
            image,
            exclusive,
        } = kit;
        let server = &datacenter.servers[0];
        let management = datacenter.client(server, Some(MANAGEMENT));
        let manifest = ImageManifest::parse("image.toml", &image).unwrap();
        let token = token(&management, instance, &names(&manifest), "first").await;
        let new = NUMBERS.lock().unwrap().insert(number);
        assert!(new, "another test has a machine of number {number} too");
        let address = address_of(number).to_string();
        let mut coordinator = Coordinator::start(&[Reply::GrantTo(instance)]).await;
        let root = tempfile::tempdir().unwrap();
        let files = MachineFiles::new(root.path().canonicalize().unwrap().join(instance));
        fs::create_dir_all(files.image()).unwrap();
        fs::create_dir(root.path().join("locks")).unwrap();
        fs::write(files.image().join("image.toml"), image).unwrap();
        let provision = machine_toml(&coordinator.ca, coordinator.address, &address, 8653);
        fs::write(files.provision(), provision.replace(INSTANCE, instance)).unwrap();
        let address: IpAddr = address.parse().unwrap();
        let port = TcpListener::bind((address, PORT)).unwrap();
        let init = start_init(&files, root.path());
        let mut line = coordinator.line().await;
        let hello = line.begin(EPOCH).await;
        assert_eq!(hello.capabilities, ["consul"]);
        let serf = SocketAddr::new(server.address, server.ports.serf);
        let join = wire::ConsulJoin {
            datacenter: ENVIRONMENT.to_owned(),
            domain: "build.example".to_owned(),
            servers: vec![serf.to_string()],
            gossip_key: datacenter.gossip_key().to_owned(),
            ca_pem: datacenter.authority.pem.clone(),
            node: instance.to_owned(),
            token: token.secret.clone(),
            trust_domain: trust_domain(&management).await,
        };
        let mut machine = Self {
            instance,
            manifest,
            exclusive,
            files,
            address,
            init: Some(init),
            to_agent: line.to_agent.clone(),
            reports: read(line),
            token,
            join,
            generation: 0,
            coordinator,
            _port: port,
            root,
        };
        machine.want(wire::Role::Standby).await;
        machine.say_join().await;
        machine
    }

    /// Hears its agent in its next session, and tells it what it was told in the last.
    pub(super) async fn hear_again(&mut self) {
        let mut line = self.coordinator.line().await;
        line.begin(EPOCH).await;
        self.to_agent = line.to_agent.clone();
        self.reports = read(line);
        self.say_join().await;
    }

    pub(super) fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// The secret of its token.
    pub(super) fn token(&self) -> &str {
        &self.token.secret
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where its agent answers names.
    pub(super) fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.address, 8653)
    }

    async fn say(&self, message: Message) {
        let message = Some(message);
        let said = self.to_agent.send(Ok(wire::ToAgent { message })).await;
        said.unwrap();
    }

    async fn say_join(&self) {
        let join = wire::Join {
            consul: Some(self.join.clone()),
        };
        self.say(Message::Join(join)).await;
    }

    pub(super) async fn want(&mut self, role: wire::Role) {
        self.generation += 1;
        self.say(wanted(EPOCH, self.generation, role)).await;
    }

    /// Tells it how to be registered.
    pub(super) async fn register(&self, role: wire::CatalogueRole) {
        let registration = wire::Registration {
            epoch: Some(wire_epoch(EPOCH)),
            role: role.into(),
            exclusive: self.exclusive,
        };
        self.say(Message::Registration(registration)).await;
    }

    /// The next report for which this holds.
    pub(super) async fn hear(&mut self, good: impl Fn(&wire::Report) -> bool) -> wire::Report {
        let is_good = |report: &Option<wire::Report>| report.as_ref().is_some_and(&good);
        let mut reports = self.reports.clone();
        match timeout(LIMIT, reports.wait_for(is_good)).await {
            Ok(report) => report.unwrap().clone().unwrap(),
            Err(_) => panic!("last heard: {:?}", self.reports.borrow()),
        }
    }

    /// Waits until it says that it is registered so, and that nothing is wrong.
    pub(super) async fn registered(&mut self, role: wire::CatalogueRole) {
        self.hear(|report| {
            let consul = report.consul.as_ref();
            consul.is_some_and(|consul| consul.registered() == role && consul.fault.is_empty())
        })
        .await;
    }

    /// Its Consul client, asked with its own token.
    pub(super) fn client(&self) -> Client {
        self.client_with(&self.token.secret)
    }

    /// The same, with another token.
    pub(super) fn client_with(&self, token: &str) -> Client {
        self.client_as(Some(token))
    }

    /// The same, as whoever comes by, or with a token.
    pub(super) fn client_as(&self, token: Option<&str>) -> Client {
        Client::new(Settings {
            address: format!("http://{}:8500", self.address).parse().unwrap(),
            timeout: TIMEOUT,
            tls: None,
            token: token.map(|token| token.parse().unwrap()),
        })
        .unwrap()
    }

    pub(super) fn record(&self) -> InitRecord {
        InitRecord::read(&self.files).unwrap().unwrap()
    }

    /// The process of its Consul client.
    pub(super) fn client_process(&self) -> ProcessId {
        self.record().units["consul"]
    }

    /// Whether its Consul client runs; none is recorded between two starts.
    pub(super) fn has_client(&self) -> bool {
        let client = self.record().units.get("consul").copied();
        client.is_some_and(|client| client.is_alive())
    }

    /// Kills its Consul client, and removes all that it has kept before it is started again.
    pub(super) async fn wipe_client(&self) {
        let client = self.client_process();
        client.signal(Signal::KILL).unwrap();
        until("the client is gone", async || {
            if client.is_alive() { Err(()) } else { Ok(()) }
        })
        .await;
        fs::remove_dir_all(self.files.state().join("consul/data")).unwrap();
    }

    /// Kills its agent, and waits until the runner has started another one.
    pub(super) async fn kill_agent(&self) {
        let agent = self.record().agent.unwrap();
        agent.signal(Signal::KILL).unwrap();
        until("another agent", async || {
            let now = self.record().agent;
            let another = now.is_some_and(|now| now != agent && now.is_alive());
            another.then_some(()).ok_or(now)
        })
        .await;
    }

    /// Makes the command's check fail, or pass.
    pub(super) fn set_disk_full(&self, full: bool) {
        let path = self.files.image().join("full");
        if full {
            fs::write(path, "").unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// Tells it how to join servers that have lost all that they knew, as the coordinator does that finds
    /// no tokens any more.
    pub(super) async fn join_anew(&mut self, management: &Client) {
        self.join.trust_domain = trust_domain(management).await;
        self.rotate_token(management).await;
    }

    /// Gives it another token. Returns the old one.
    pub(super) async fn rotate_token(&mut self, management: &Client) -> MachineToken {
        let services = names(&self.manifest);
        let next = token(management, self.instance, &services, "second").await;
        self.join.token.clone_from(&next.secret);
        let old = std::mem::replace(&mut self.token, next);
        self.say_join().await;
        old
    }

    /// Its power fails.
    pub(super) fn cut(&mut self) {
        let record = self.record();
        kill_all(self.files.root(), Some(&record), TIMEOUT).unwrap();
        let mut init = self.init.take().unwrap();
        let _ = init.kill();
        init.wait().unwrap();
    }

    /// It is started again on its disk, after a cut.
    pub(super) async fn boot(&mut self) {
        assert!(self.init.is_none());
        self.init = Some(start_init(&self.files, self.root.path()));
        self.hear_again().await;
    }

    /// Takes it out of service for good, and waits until it says that it is.
    pub(super) async fn retire(&mut self) {
        self.want(wire::Role::Retired).await;
        self.hear(|report| report.role_applied() == wire::Role::Retired)
            .await;
    }

    /// What `calvin-agent explain` says.
    pub(super) fn explain(&self) -> String {
        self.says("explain")
    }

    /// What `calvin-agent status` says.
    pub(super) fn status(&self) -> String {
        self.says("status")
    }

    fn says(&self, what: &str) -> String {
        let output = Command::new(agent_program())
            .args([what, "--machine"])
            .arg(self.files.root())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stops it in good order.
    pub(super) async fn stop(&mut self) {
        self.record().init.signal(Signal::TERM).unwrap();
        let mut init = self.init.take().unwrap();
        until("the machine has stopped", async || {
            init.try_wait().unwrap().map(drop).ok_or(())
        })
        .await;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for path in [self.files.agent_log(), self.files.unit_log("consul")] {
                let text = fs::read_to_string(&path).unwrap_or_default();
                eprintln!("== {}\n{text}", path.display());
            }
        }
        let record = InitRecord::read(&self.files).ok().flatten();
        let _ = kill_all(self.files.root(), record.as_ref(), TIMEOUT);
        if let Some(mut init) = self.init.take() {
            let _ = init.kill();
            let _ = init.wait();
        }
    }
}
