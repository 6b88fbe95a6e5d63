//! A whole agent in this process, with a coordinator on the real wire.

mod names;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use calvin_proto::wire::{self, to_agent::Message};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::*;
use crate::testing::{Coordinator, Reply, Validity, machine, wanted};

const DEADLINE: Duration = Duration::from_secs(20);
/// Long against an answer to a name, also on a busy machine.
const LONG_LOOK: Duration = Duration::from_secs(3);
const IMAGE: &str = "name = \"web\"\nversion = \"1.0\"\n[[check]]\nname = \"up\"\nexec = \
                     [\"test\", \"!\", \"-e\", \"down\"]\ninterval = \"50ms\"\n[hooks]\nactive = \
                     [\"touch\", \"hook-ran\"]\n";

struct Agent {
    _tasks: JoinSet<()>,
}

/// An agent; dropping it is as sudden as a kill.
fn start(root: &Path) -> Agent {
    let provisioned = Provisioned::load(root).unwrap();
    disk::make_private_dir(&provisioned.files.state()).unwrap();
    let (mut actor, inbox, parts) = assemble::assemble(provisioned, Ok(None)).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _parts = parts;
        actor.run(inbox).await.unwrap();
    });
    Agent { _tasks: tasks }
}

async fn until_exists(path: &Path) {
    let wait = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap();
}

fn healthy(report: &wire::Report) -> bool {
    report.health() == wire::Health::Healthy
}

#[tokio::test]
async fn an_agent_enrols_reports_its_health_obeys_and_refuses_what_is_old() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path(), &coordinator.ca, coordinator.address, IMAGE);
    let _agent = start(dir.path());
    let mut line = coordinator.line().await;
    line.begin(5).await;
    line.hear_report(healthy).await;
    line.say(wanted(5, 7, wire::Role::Active)).await;
    let active = line
        .hear_report(|report| report.generation_applied == 7)
        .await;
    assert_eq!(active.role_applied(), wire::Role::Active);
    assert!(
        dir.path().join("image/hook-ran").exists(),
        "before it counts as active"
    );
    line.say(wanted(5, 6, wire::Role::Retired)).await;
    let refused = line.hear_report(|report| !report.refused.is_empty()).await;
    assert_eq!(refused.generation_applied, 7);
    assert!(
        refused.refused.contains("generation 6 is older"),
        "{}",
        refused.refused
    );
    std::fs::write(dir.path().join("image/down"), "").unwrap();
    let sick = line
        .hear_report(|report| report.health() == wire::Health::Unhealthy)
        .await;
    assert_eq!((sick.flaps, sick.failing.len()), (1, 1));
}

#[tokio::test]
async fn a_killed_agent_comes_back_with_what_it_knew() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path(), &coordinator.ca, coordinator.address, IMAGE);
    let first = start(dir.path());
    let mut line = coordinator.line().await;
    line.begin(5).await;
    line.say(wanted(5, 7, wire::Role::Active)).await;
    line.hear_report(|report| report.generation_applied == 7)
        .await;
    line.say(names(3)).await;
    let before = line.hear_report(|report| report.names_number == 3).await;
    // Acknowledged at once, and on disk soon after.
    until_exists(&dir.path().join("state/names.json")).await;
    drop(first);
    drop(line);
    std::fs::remove_file(dir.path().join("image/hook-ran")).unwrap();
    let _second = start(dir.path());
    let mut line = coordinator.line().await;
    let hello = line.begin(5).await;
    assert_eq!(
        (hello.epoch_seen.unwrap().number, hello.generation_seen),
        (5, 7)
    );
    let after = line.hear_report(healthy).await;
    assert_eq!((after.generation_applied, after.names_number), (7, 3));
    assert!(after.sequence > before.sequence);
    assert!(
        !dir.path().join("image/hook-ran").exists(),
        "its role was applied already"
    );
}

#[tokio::test]
async fn an_agent_that_ends_in_order_has_its_newest_names_on_disk() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path(), &coordinator.ca, coordinator.address, IMAGE);
    let provisioned = Provisioned::load(dir.path()).unwrap();
    disk::make_private_dir(&provisioned.files.state()).unwrap();
    let (mut actor, inbox, parts) = assemble::assemble(provisioned, Ok(None)).unwrap();
    let _line = tokio::select! {
        _ = actor.run(inbox) => unreachable!("it runs until it is dropped"),
        line = async {
            let mut line = coordinator.line().await;
            line.begin(5).await;
            for number in 1..3 {
                line.say(names(number)).await;
                line.hear_report(|report| report.names_number == number).await;
                until_exists(&dir.path().join("state/names.json")).await;
            }
            line
        } => line,
    };
    parts.end(DEADLINE).await;
    let path = dir.path().join("state/names.json");
    let kept = crate::dns::Names::new("build.example", path).unwrap();
    assert_eq!(kept.load().unwrap().unwrap().number, 2);
}

fn names(number: u64) -> Message {
    Message::Names(wire::Names {
        epoch: 5,
        number,
        domain: "build.example".into(),
        ttl_ms: 1000,
        entries: Vec::new(),
    })
}

#[tokio::test]
async fn a_long_look_at_the_connections_does_not_hold_up_answers_to_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("names.json");
    let names = Arc::new(crate::dns::Names::new("prod.example", path).unwrap());
    let (sockets, address) = dns_sockets();
    let nobody = watch::Sender::new(crate::dns::Target::Snapshots);
    let sources = crate::dns::Sources {
        names,
        forwarder: Arc::new(crate::dns::Forwarder::new(nobody.subscribe())),
    };
    let _server = crate::dns::serve(&sources, sockets).unwrap();
    let looks = Arc::new(AtomicU32::new(0));
    let counter = looks.clone();
    // A look that takes long: until it is released, or for so long that an answer is late.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let look = move || {
        counter.fetch_add(1, SeqCst);
        let _ = released.lock().unwrap().recv_timeout(LONG_LOOK);
        Some(calvin_model::Connections::default())
    };
    let pace = tokio::sync::watch::Sender::new(tasks::Pace::Draining);
    let seen = tokio::sync::watch::Sender::new(None);
    let mut task = JoinSet::new();
    let mut counted = seen.subscribe();
    task.spawn(tasks::count_connections(look, pace.subscribe(), seen));
    while looks.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A header with one question, for the root.
    let query = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    client.send_to(&query, address).await.unwrap();
    let mut answer = [0; 512];
    let answered = timeout(LONG_LOOK, client.recv(&mut answer)).await;
    assert!(answered.unwrap().unwrap() > 0);
    let still_looks = counted.borrow_and_update().is_none();
    assert!(still_looks, "the answer waited for the look");
    release.send(()).unwrap();
    timeout(DEADLINE, counted.changed()).await.unwrap().unwrap();
}

/// Both on one port, that was free for UDP and may be taken for TCP.
fn dns_sockets() -> (DnsSockets, std::net::SocketAddr) {
    loop {
        let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        if let Ok(sockets) = DnsSockets::bind(address) {
            return (sockets, address);
        }
    }
}

#[tokio::test]
async fn an_older_coordinator_is_told_nothing() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    machine(dir.path(), &coordinator.ca, coordinator.address, IMAGE);
    let _agent = start(dir.path());
    let mut line = coordinator.line().await;
    line.begin(5).await;
    line.hear_report(|_| true).await;
    drop(line);
    let mut older = coordinator.line().await;
    let hello = older.begin(4).await;
    assert_eq!(hello.epoch_seen.unwrap().number, 5);
    let heard = timeout(DEADLINE, older.from_agent.message()).await.unwrap();
    assert!(!matches!(heard, Ok(Some(_))), "{heard:?}");
}

#[tokio::test]
async fn status_says_what_it_waits_for_and_since_when() {
    let ca = Arc::new(crate::testing::Ca::new());
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    machine(dir.path(), &ca, nobody, IMAGE);
    let _agent = start(dir.path());
    let socket = dir.path().join("run/agent.sock");
    let asked = async {
        loop {
            let socket = socket.clone();
            let answer = tokio::task::spawn_blocking(move || crate::status::ask(&socket));
            match answer.await.unwrap() {
                Ok(view) if view.identity_fault.is_some() => return view,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let view = timeout(DEADLINE, asked).await.unwrap();
    assert_eq!(view.instance, crate::testing::INSTANCE);
    assert!(
        view.waiting[0]
            .text
            .starts_with("an identity: no coordinator"),
        "{view:?}"
    );
}
