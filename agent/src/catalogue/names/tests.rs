//! Which client names are asked of, with one that says of itself what the test says.

use std::sync::Arc;

use calvin_model::{ConsulReport, Provision, Secret};
use calvin_proto::{convert::RegistrationOrder, machine::MachineFiles};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{super::Own, *};
use crate::workload::{Runner, Variables};

const DEADLINE: Duration = Duration::from_secs(20);
const NODE: &str = "web-abcdefgh";

/// What a client says.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// Nothing: it closes the connection.
    Nothing,
    /// That it does not know the token.
    Denied,
    /// Its datacenter and its node.
    Is(&'static str, &'static str),
}

use Says::{Denied, Is, Nothing};

/// An agent's catalogue, with a client that answers, or does not.
struct Stage {
    says: watch::Sender<Says>,
    join: watch::Sender<Option<Join>>,
    report: watch::Receiver<Option<ConsulReport>>,
    target: watch::Receiver<Target>,
    /// Where the client answers DNS.
    client: SocketAddr,
    turns: u32,
    registration: watch::Sender<Option<RegistrationOrder>>,
    own: watch::Sender<Option<Own>>,
    _tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

/// Says it to each that asks who it is.
async fn answer(listener: TcpListener, says: watch::Receiver<Says>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let says = *says.borrow();
        let (status, body) = match says {
            Nothing => continue,
            Denied => ("403 Forbidden", "ACL not found".to_owned()),
            Is(datacenter, node) => {
                let config = serde_json::json!({ "Datacenter": datacenter, "NodeName": node });
                let body = serde_json::json!({ "Config": config });
                ("200 OK", body.to_string())
            }
        };
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(reply.as_bytes()).await;
    }
}

/// One of this process alone: the ports of a client are fixed.
fn address(number: u8) -> IpAddr {
    let process = std::process::id();
    let text = format!("127.{}.{}.{number}", 96 + process / 256 % 32, process % 256);
    text.parse().unwrap()
}

fn join(token: u32) -> Join {
    Join {
        consul: Some(ConsulJoin {
            datacenter: "build".parse().unwrap(),
            domain: "build.example".into(),
            servers: vec!["127.0.0.1:1".into()],
            gossip_key: None,
            ca_pem: String::new(),
            node: NODE.into(),
            token: Some(Secret::new(format!(
                "00000000-0000-0000-0000-0000000000{token:02}"
            ))),
            trust_domain: String::new(),
        }),
    }
}

fn manifest(more: &str) -> ImageManifest {
    let text = format!("name = \"web\"\nversion = \"1.0\"\n{more}");
    ImageManifest::parse("image.toml", &text).unwrap()
}

impl Stage {
    async fn start(whose: Whose, number: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let loopback = address(number);
        let listener = TcpListener::bind((loopback, 8500)).await.unwrap();
        let image = match whose {
            Whose::Own => String::new(),
            Whose::Given => format!("[consul]\naddress = \"http://{loopback}:8500\"\n"),
        };
        let provision = format!(
            "environment = \"build\"\ninstance = \"{NODE}\"\nfleet = \"web\"\n\
             coordinators = [\"127.0.0.1:1\"]\ndomain = \"build.example\"\njoin_token = \"\"\n\
             ca_pem = \"\"\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:{}\"\n",
            "01".repeat(32)
        );
        let provision = Provision::parse("provision.toml", &provision).unwrap();
        let files = MachineFiles::new(directory.path());
        std::fs::create_dir(files.state()).unwrap();
        let machine = Arc::new(Machine {
            variables: Variables::new(&provision, files.root()),
            provision: Arc::new(provision),
            manifest: manifest(&image),
            address: loopback,
            loopback,
            boot: "b1".parse().unwrap(),
            files,
        });
        // Nobody is there: the machine's own client cannot be had running.
        let (runner, _connection) = Runner::connect(directory.path().join("nobody"));
        let says = watch::Sender::new(Nothing);
        let said = watch::Sender::new(None);
        let report = watch::Sender::new(None);
        let forward = watch::Sender::new(Target::default());
        let mut stage = Self {
            join: said.clone(),
            report: report.subscribe(),
            target: forward.subscribe(),
            client: SocketAddr::new(loopback, DNS_PORT),
            turns: 0,
            registration: watch::Sender::new(None),
            own: watch::Sender::new(None),
            _tasks: JoinSet::new(),
            _directory: directory,
            says: says.clone(),
        };
        let ends = Ends {
            join: said.subscribe(),
            registration: stage.registration.subscribe(),
            own: stage.own.subscribe(),
            report,
            forward,
        };
        stage._tasks.spawn(answer(listener, says.subscribe()));
        let catalogue = Catalogue::new(machine, runner, ends);
        stage._tasks.spawn(catalogue.run());
        stage
    }

    /// The client says this from now on, and is asked again.
    fn says(&mut self, says: Says) {
        self.turns += 1;
        self.says.send_replace(says);
        self.join.send_replace(Some(join(self.turns)));
    }

    async fn target_is(&mut self, wanted: Target) {
        let found = self.target.wait_for(|target| *target == wanted);
        let found = timeout(DEADLINE, found).await;
        assert!(matches!(found, Ok(Ok(_))), "{wanted:?}");
    }

    /// Waits until what is wrong, if anything is, is told with this word.
    async fn fault_has(&mut self, word: &str) {
        let has = |report: &Option<ConsulReport>| {
            let fault = report.as_ref().and_then(|report| report.fault.as_ref());
            fault.is_some_and(|fault| fault.contains(word))
        };
        let mut report = self.report.clone();
        let told = timeout(DEADLINE, report.wait_for(has)).await;
        let told = matches!(told, Ok(Ok(_)));
        assert!(told, "{word}: {:?}", self.report.borrow());
    }
}

#[tokio::test]
async fn names_are_asked_of_a_client_once_it_is_seen_to_be_of_the_environment_and_until_it_is_not()
{
    let mut stage = Stage::start(Whose::Given, 1).await;
    let client = Target::Client(stage.client);
    stage.says(Is("other", NODE));
    stage.fault_has("of datacenter other").await;
    assert_eq!(*stage.target.borrow(), Target::Memory);

    stage.says(Is("build", "whatever"));
    stage.target_is(client).await;
    // It is only silent now.
    stage.says(Nothing);
    stage.fault_has("who it is").await;
    assert_eq!(*stage.target.borrow(), client);

    stage.says(Is("other", NODE));
    stage.target_is(Target::Memory).await;
    stage.says(Is("build", "whatever"));
    stage.target_is(client).await;
    stage.join.send_replace(Some(Join { consul: None }));
    stage.target_is(Target::Snapshots).await;
}

#[tokio::test]
async fn the_machine_s_own_client_is_asked_for_names_though_it_cannot_be_had_running_as_it_should()
{
    let mut stage = Stage::start(Whose::Own, 2).await;
    stage.says(Is("build", "web-ffffffff"));
    stage.fault_has("the runner").await;
    assert_eq!(*stage.target.borrow(), Target::Memory);
    stage.says(Is("build", NODE));
    stage.target_is(Target::Client(stage.client)).await;
    // Another one in its place does not know what the machine's own knows.
    for other in [Is("build", "web-ffffffff"), Denied] {
        stage.says(other);
        stage.target_is(Target::Memory).await;
        stage.says(Is("build", NODE));
        stage.target_is(Target::Client(stage.client)).await;
    }
}

#[test]
fn at_a_start_names_come_out_of_memory_where_what_was_kept_says_consul() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let first = |image: &str| first_target(state, &manifest(image));
    assert_eq!(first(""), Target::Snapshots);
    let keep = |said: &Join| {
        let kept = serde_json::json!({ "format": 1, "said": said });
        std::fs::write(state.join("join.json"), kept.to_string()).unwrap();
    };
    keep(&join(1));
    assert_eq!(first(""), Target::Memory);
    assert_eq!(first("joins = []\n"), Target::Snapshots);
    keep(&Join { consul: None });
    assert_eq!(first(""), Target::Snapshots);
    std::fs::write(state.join("join.json"), "{").unwrap();
    assert_eq!(first(""), Target::Snapshots);
}

#[test]
fn the_dns_of_a_client_is_where_its_http_is() {
    for (address, host) in [
        ("http://127.9.0.1:8500", Some("127.9.0.1")),
        ("http://[::1]:8500", Some("::1")),
        ("http://localhost:8500", None),
    ] {
        let host = host.map(|host| host.parse::<IpAddr>().unwrap());
        assert_eq!(host_of(address), host);
    }
}
