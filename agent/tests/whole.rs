//! The whole machine with its real processes: init, agent and workload, and a coordinator on the
//! real wire in the test.
#![allow(
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests, and what they share"
)]

#[path = "../src/testing.rs"]
mod testing;

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use calvin_proto::{
    machine::{InitRecord, LOCKS_VARIABLE, MachineFiles, processes::kill_all},
    wire::{self, to_agent::Message},
};
use hickory_proto::{
    op::{Message as DnsMessage, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use rustix::process::Signal;
use testing::{Coordinator, INSTANCE, Reply, Validity, machine_toml, wanted, wire_epoch};
use tokio::{net::UdpSocket, time::timeout};

const DEADLINE: Duration = Duration::from_secs(30);
const IMAGE: &str = r#"
name = "web"
version = "1.0"
[workload]
command = ["sh", "-c", "touch up; exec sleep 600"]
work = "boot"
[[service]]
name = "web"
port = 8080
[[check]]
name = "up"
exec = ["test", "-e", "up"]
interval = "1s"
"#;

struct Machine {
    files: MachineFiles,
    dns: SocketAddr,
    root: tempfile::TempDir,
    init: Option<Child>,
}

impl Machine {
    fn new(coordinator: &Coordinator, image: &str) -> Self {
        let process = std::process::id();
        let address = format!("127.{}.{}.200", 64 + process / 256 % 60, process % 256);
        let root = tempfile::tempdir().unwrap();
        let files = MachineFiles::new(root.path().canonicalize().unwrap().join(INSTANCE));
        fs::create_dir_all(files.image()).unwrap();
        fs::create_dir(root.path().join("locks")).unwrap();
        fs::write(files.image().join("image.toml"), image).unwrap();
        let provision = machine_toml(&coordinator.ca, coordinator.address, &address, 8653);
        fs::write(files.provision(), provision).unwrap();
        Self {
            dns: format!("{address}:8653").parse().unwrap(),
            files,
            root,
            init: None,
        }
    }

    fn start(&mut self) {
        let init = Command::new(env!("CARGO_BIN_EXE_calvin-agent"))
            .args(["init", "--machine"])
            .arg(self.files.root())
            .env(LOCKS_VARIABLE, self.root.path().join("locks"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.init = Some(init);
    }

    fn record(&self) -> InitRecord {
        InitRecord::read(&self.files).unwrap().unwrap()
    }

    fn resident_kib(pid: i32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap();
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.files.agent_log()).unwrap_or_default();
            eprintln!("{log}");
        }
        let record = InitRecord::read(&self.files).ok().flatten();
        let ended = kill_all(self.files.root(), record.as_ref(), DEADLINE);
        if let Some(mut init) = self.init.take() {
            let _ = init.kill();
            let _ = init.wait();
        }
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn names(machine: &Machine) -> Message {
    let service = wire::NamesService {
        name: "web".into(),
        port: 8080,
        tags: Vec::new(),
    };
    let entry = wire::NamesEntry {
        instance: INSTANCE.into(),
        fleet: "web".into(),
        address: machine.dns.ip().to_string(),
        role: wire::CatalogueRole::Active.into(),
        services: vec![service],
    };
    Message::Names(wire::Names {
        epoch: 5,
        number: 1,
        domain: "build.example".into(),
        ttl_ms: 1000,
        entries: vec![entry],
    })
}

/// Asks the machine's agent once, and waits for its answer.
async fn look_up(machine: &Machine, name: &str) -> Vec<String> {
    let mut query = DnsMessage::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let socket = UdpSocket::bind((machine.dns.ip(), 0)).await.unwrap();
    socket
        .send_to(&query.to_vec().unwrap(), machine.dns)
        .await
        .unwrap();
    let mut reply = [0; 512];
    let length = timeout(DEADLINE, socket.recv(&mut reply))
        .await
        .unwrap()
        .unwrap();
    let reply = DnsMessage::from_vec(&reply[..length]).unwrap();
    reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

#[tokio::test]
async fn a_machine_joins_serves_and_outlives_its_agent() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let mut machine = Machine::new(&coordinator, IMAGE);
    let began = Instant::now();
    machine.start();
    let mut line = coordinator.line().await;
    line.begin(5).await;
    let healthy = |report: &wire::Report| {
        report.health() == wire::Health::Healthy
            && report.workload() == wire::WorkloadState::Running
    };
    line.hear_report(healthy).await;
    // Printed and not judged: this is a debug build on a busy machine; the bench judges.
    eprintln!("start to first healthy report: {:?}", began.elapsed());
    let record = machine.record();
    let (agent, init) = (record.agent.unwrap(), record.init);
    eprintln!(
        "resident: agent {} KiB, init {} KiB",
        Machine::resident_kib(agent.pid),
        Machine::resident_kib(init.pid)
    );

    line.say(wanted(5, 1, wire::Role::Standby)).await;
    line.say(wanted(5, 2, wire::Role::Active)).await;
    line.say(names(&machine)).await;
    line.hear_report(|report| report.generation_applied == 2 && report.names_number == 1)
        .await;
    let address = machine.dns.ip().to_string();
    assert_eq!(
        look_up(&machine, "active.web.service.build.example.").await,
        std::slice::from_ref(&address)
    );

    agent.signal(Signal::KILL).unwrap();
    // It waits in the socket that init holds, until the next agent answers from its disk.
    assert_eq!(
        look_up(&machine, "web.service.build.example.").await,
        [address]
    );
    let mut line = coordinator.line().await;
    let hello = line.begin(5).await;
    assert_eq!(hello.generation_seen, 2);
    let report = line.hear_report(healthy).await;
    assert_eq!(
        (report.generation_applied, report.role_applied()),
        (2, wire::Role::Active)
    );
    assert_eq!(
        machine.record().workload,
        record.workload,
        "it was not touched"
    );
}

#[tokio::test]
async fn pulled_work_starts_when_no_lock_is_needed_outlives_its_coordinator_and_retires() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let mut machine = Machine::new(&coordinator, &IMAGE.replace("boot", "on_active"));
    // Another address than the other test's: both run at once.
    let other = machine.dns.ip().to_string().replace(".200", ".201");
    let provision = machine_toml(&coordinator.ca, coordinator.address, &other, 8653);
    fs::write(machine.files.provision(), provision).unwrap();
    machine.dns = format!("{other}:8653").parse().unwrap();
    machine.start();
    let mut line = coordinator.line().await;
    line.begin(5).await;
    line.say(wanted(5, 1, wire::Role::Standby)).await;
    let standby = line
        .hear_report(|report| report.generation_applied == 1)
        .await;
    assert_ne!(
        standby.workload(),
        wire::WorkloadState::Running,
        "it would pull work"
    );
    line.say(wanted(5, 2, wire::Role::Active)).await;
    let runs = |report: &wire::Report| report.workload() == wire::WorkloadState::Running;
    let waits = line
        .hear_report(|report| report.generation_applied == 2 && report.consul.is_some())
        .await;
    // There may be a Consul with a lock for it, until names say that there is none.
    assert!(!runs(&waits));
    let fault = waits.consul.unwrap().fault;
    assert!(fault.contains("whether fleet web is exclusive"), "{fault}");
    line.say(names(&machine)).await;
    line.hear_report(|report| runs(report) && report.consul.is_none())
        .await;
    let workload = machine.record().workload.unwrap();
    drop(line);
    let mut line = coordinator.line().await;
    line.begin(6).await;
    let report = line.hear_report(runs).await;
    assert_eq!(report.generation_applied, 2);
    assert_eq!(machine.record().workload, Some(workload));
    line.say(wanted(6, 3, wire::Role::Retired)).await;
    let retired = line
        .hear_report(|report| report.generation_applied == 3)
        .await;
    assert_eq!(retired.workload(), wire::WorkloadState::Stopped);
    assert!(
        !workload.is_alive(),
        "it is gone before it counts as retired"
    );
}

#[tokio::test]
async fn with_consul_pulled_work_waits_to_hear_whether_its_fleet_is_exclusive() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let image = format!(
        "{}[consul]\nprogram = \"missing/consul\"\n",
        IMAGE.replace("boot", "on_active")
    );
    let mut machine = Machine::new(&coordinator, &image);
    let other = machine.dns.ip().to_string().replace(".200", ".202");
    let provision = machine_toml(&coordinator.ca, coordinator.address, &other, 8653);
    fs::write(machine.files.provision(), provision).unwrap();
    machine.start();
    let mut line = coordinator.line().await;
    line.begin(5).await;
    let runs = |report: &wire::Report| report.workload() == wire::WorkloadState::Running;
    let says = |words: &'static str| {
        move |report: &wire::Report| {
            let consul = report.consul.as_ref();
            consul.is_some_and(|consul| consul.fault.contains(words))
        }
    };
    // Its role comes first, then each of the others alone.
    line.say(wanted(5, 1, wire::Role::Active)).await;
    line.hear_report(says("whether fleet web is exclusive"))
        .await;
    let consul = wire::ConsulJoin {
        datacenter: "build".into(),
        domain: "build.example".into(),
        servers: vec!["127.0.0.1:1".into()],
        node: INSTANCE.into(),
        ..wire::ConsulJoin::default()
    };
    let join = Some(consul);
    line.say(Message::Join(wire::Join { consul: join })).await;
    let waits = line.hear_report(says("missing/consul")).await;
    assert!(!runs(&waits));
    let register = |exclusive| {
        Message::Registration(wire::Registration {
            epoch: Some(wire_epoch(5)),
            role: wire::CatalogueRole::Entered.into(),
            exclusive,
        })
    };
    line.say(register(true)).await;
    let waits = line
        .hear_report(says("lock of fleet web could not be taken"))
        .await;
    assert!(!runs(&waits));
    line.say(register(false)).await;
    line.hear_report(runs).await;
}
