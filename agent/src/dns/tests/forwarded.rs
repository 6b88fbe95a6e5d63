//! Names that come from another server, with what it said before on disk.

use std::{net::SocketAddr, path::Path};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    sockets::{DEADLINE, over_udp, receive_framed, send_framed, sockets, sources},
    *,
};

/// A server that answers with what the test says, until it is dropped; where that is nothing, once it
/// is something.
pub(super) struct Fake {
    address: SocketAddr,
    pub(super) answer: watch::Sender<Option<Message>>,
    /// Datagrams that came.
    pub(super) heard: watch::Sender<usize>,
    _tasks: tokio::task::JoinSet<()>,
}

/// The answer to a query, with its id.
fn fitting(answer: &Message, packet: &[u8]) -> Vec<u8> {
    let mut answer = answer.clone();
    let query = Message::from_vec(packet).unwrap();
    answer.metadata.id = query.metadata.id;
    answer.queries.clone_from(&query.queries);
    answer.to_vec().unwrap()
}

async fn answer_datagrams(
    udp: UdpSocket,
    mut says: watch::Receiver<Option<Message>>,
    heard: watch::Sender<usize>,
) {
    let mut held = Vec::new();
    let mut packet = [0; 4096];
    loop {
        tokio::select! {
            changed = says.changed() => changed.unwrap(),
            received = udp.recv_from(&mut packet) => {
                // One that went away is told as an error of the next call.
                if let Ok((length, from)) = received {
                    held.push((packet[..length].to_vec(), from));
                    heard.send_modify(|heard| *heard += 1);
                }
            }
        }
        let Some(mut says) = says.borrow_and_update().clone() else {
            continue;
        };
        if says.answers.len() > 10 {
            says.metadata.truncation = true;
            says.answers.clear();
        }
        for (packet, from) in held.drain(..) {
            let _ = udp.send_to(&fitting(&says, &packet), from).await;
        }
    }
}

impl Fake {
    pub(super) fn start() -> Self {
        let (sockets, address) = sockets();
        let udp = UdpSocket::from_std(sockets.udp).unwrap();
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp).unwrap();
        let answer = watch::Sender::new(None);
        let mut tasks = tokio::task::JoinSet::new();
        let says: watch::Receiver<Option<Message>> = answer.subscribe();
        let over_tcp = says.clone();
        let heard = watch::Sender::new(0);
        tasks.spawn(answer_datagrams(udp, says, heard.clone()));
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut packet = vec![0; usize::from(length)];
                stream.read_exact(&mut packet).await.unwrap();
                let says = over_tcp.borrow().clone();
                if let Some(says) = says {
                    send_framed(&mut stream, &fitting(&says, &packet)).await;
                }
            }
        });
        Self {
            address,
            answer,
            heard,
            _tasks: tasks,
        }
    }

    pub(super) fn says(&self, code: ResponseCode, addresses: u8) {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        for number in 1..=addresses {
            let address = std::net::Ipv4Addr::new(127, 9, 0, number);
            let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A(address));
            let owner = name("web.service.prod.example");
            message
                .answers
                .push(hickory_proto::rr::Record::from_rdata(owner, 0, data));
        }
        self.answer.send_replace(Some(message));
    }
}

/// An agent whose names come from elsewhere; it has a snapshot where they came from there before.
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    pub(super) forwarder: Arc<Forwarder>,
    names: Arc<Names>,
    target: watch::Sender<Target>,
    _server: Server,
    dir: tempfile::TempDir,
    keeps: JoinSet<()>,
}

impl Agent {
    /// One that asks this server.
    pub(super) async fn asking(fake: &Fake) -> Self {
        Self::of(Target::Client(fake.address)).await
    }

    async fn of(target: Target) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = Arc::new(Names::new(DOMAIN, dir.path().join("names.json")).unwrap());
        if target == Target::Snapshots {
            names.admit(mixed()).await.unwrap();
        }
        let (sockets, address) = sockets();
        let (sources, target) = sources(&names, target);
        Self {
            address,
            names,
            target,
            _server: serve(&sources, sockets).unwrap(),
            forwarder: sources.forwarder,
            dir,
            keeps: JoinSet::new(),
        }
    }

    /// The same with what is kept in this file, and it keeps it.
    fn with(mut self, file: &Path) -> Self {
        self.forwarder.load(file);
        let keep = self.forwarder.clone().keep(file.to_owned());
        self.keeps.spawn(keep);
        self
    }

    async fn ask(&self, name: &str) -> Message {
        over_udp(self.address, &query(name, RecordType::A, Some(1232))).await
    }
}

#[tokio::test]
async fn with_consul_its_answers_are_given_and_the_last_good_one_while_it_is_silent() {
    let fake = Fake::start();
    let agent = Agent::asking(&fake).await;
    let (address, forwarder) = (agent.address, &agent.forwarder);
    let packet = query("Web.service.prod.example", RecordType::A, Some(1232));
    // It was never answered.
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);

    fake.says(ResponseCode::NoError, 2);
    let reply = over_udp(address, &packet).await;
    assert_eq!(data(&reply.answers), ["127.9.0.1", "127.9.0.2"]);
    assert_eq!(reply.metadata.id, 77);
    assert_eq!(forwarder.seen().unwrap().stale, 0);

    for silence in [
        None,
        Some(ResponseCode::ServFail),
        Some(ResponseCode::Refused),
    ] {
        match silence {
            None => drop(fake.answer.send_replace(None)),
            Some(code) => fake.says(code, 0),
        }
        let asked = query("web.SERVICE.prod.example", RecordType::A, None);
        let reply = over_udp(address, &asked).await;
        assert_eq!(reply.answers.len(), 2, "{silence:?}");
        assert_eq!(
            reply.answers[0].name.to_ascii(),
            "web.SERVICE.prod.example."
        );
    }
    let seen = forwarder.seen().unwrap();
    assert_eq!((seen.stale, seen.kept), (3, 1));
    assert!(seen.fault.is_some() && seen.stale_oldest.is_some());

    // That there is nothing is an answer, and is given; once is not enough to forget what was before.
    fake.says(ResponseCode::NXDomain, 0);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    fake.answer.send_replace(None);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.answers.len(), 2);
    let packet = query("www.example.com", RecordType::A, None);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn what_consul_cuts_is_asked_for_over_a_stream() {
    let fake = Fake::start();
    let agent = Agent::asking(&fake).await;
    let address = agent.address;
    fake.says(ResponseCode::NoError, 200);
    let packet = query("web.service.prod.example", RecordType::A, None);
    let cut = over_udp(address, &packet).await;
    assert!(cut.metadata.truncation);
    let mut stream = TcpStream::connect(address).await.unwrap();
    send_framed(&mut stream, &packet).await;
    let whole = receive_framed(&mut stream).await;
    assert_eq!(
        (whole.answers.len(), whole.metadata.truncation),
        (200, false)
    );
}

async fn until(what: &str, mut good: impl FnMut() -> bool) {
    let wait = async {
        while !good() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, wait).await.is_ok(), "{what}");
}

#[tokio::test]
async fn names_outlive_the_agent_while_consul_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.json");
    let fake = Fake::start();
    let agent = Agent::asking(&fake).await.with(&file);
    fake.says(ResponseCode::NoError, 2);
    assert_eq!(agent.ask("Web.service.prod.example").await.answers.len(), 2);
    fake.says(ResponseCode::NXDomain, 0);
    let reply = agent.ask("web.service.prod.example").await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    until("it is on disk", || file.exists()).await;
    drop(agent);

    fake.says(ResponseCode::ServFail, 0);
    let agent = Agent::asking(&fake).await.with(&file);
    let reply = agent.ask("web.SERVICE.prod.example").await;
    let mut found = data(&reply.answers);
    found.sort();
    assert_eq!(found, ["127.9.0.1", "127.9.0.2"]);
    assert!(reply.answers.iter().all(|record| record.ttl <= 5));
    let seen = agent.forwarder.seen().unwrap();
    assert_eq!((seen.kept, seen.stale), (1, 1));
    // What is true now is said all the same.
    fake.says(ResponseCode::NoError, 1);
    assert_eq!(agent.ask("web.service.prod.example").await.answers.len(), 1);
}

#[tokio::test]
async fn before_anybody_may_be_asked_memory_answers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.json");
    let fake = Fake::start();
    fake.says(ResponseCode::NoError, 2);
    let agent = Agent::asking(&fake).await.with(&file);
    agent.ask("web.service.prod.example").await;
    until("it is on disk", || file.exists()).await;
    drop(agent);

    let agent = Agent::of(Target::Memory).await.with(&file);
    let reply = agent.ask("web.service.prod.example").await;
    assert_eq!(reply.answers.len(), 2);
    let name = "fast.web.service.prod.example";
    let reply = agent.ask(name).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let seen = agent.forwarder.seen().unwrap();
    assert_eq!((seen.server, seen.stale), (None, 1));

    // What is not known waits for the client that is about to be there.
    let soon = async {
        sleep(Duration::from_millis(50)).await;
        agent.target.send_replace(Target::Client(fake.address));
    };
    let (reply, ()) = tokio::join!(agent.ask(name), soon);
    assert_eq!(reply.answers.len(), 2);
    agent.target.send_replace(Target::Snapshots);
    agent.names.admit(mixed()).await.unwrap();
    let reply = agent.ask("web.service.prod.example").await;
    assert_eq!(reply.answers.len(), 3);
}

/// The environment moves to Consul, whose clients begin, and then hear of everybody.
#[tokio::test]
async fn names_from_before_consul_are_given_until_it_has_them_or_they_are_forgotten() {
    let fake = Fake::start();
    let agent = Agent::of(Target::Snapshots).await;
    agent.names.keep().await.unwrap();
    let path = agent.dir.path().join("names.json");
    let (known, unknown) = ("web.service.prod.example", "none.service.prod.example");
    let began = Instant::now();
    agent.target.send_replace(Target::Memory);
    assert_eq!(agent.ask(known).await.answers.len(), 3);
    assert!(began.elapsed() < Duration::from_millis(400), "it waited");

    agent.target.send_replace(Target::Client(fake.address));
    assert_eq!(agent.ask(known).await.answers.len(), 3);
    let code = agent.ask(unknown).await.metadata.response_code;
    assert_eq!(code, ResponseCode::ServFail);
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        fake.says(code, 0);
        assert_eq!(agent.ask(known).await.answers.len(), 3);
        assert_eq!(agent.ask(unknown).await.metadata.response_code, code);
    }
    fake.says(ResponseCode::NoError, 1);
    assert_eq!(data(&agent.ask(known).await.answers), ["127.9.0.1"]);

    fake.says(ResponseCode::NXDomain, 0);
    assert!(path.exists());
    for _ in 0..2 {
        agent.names.forget().await.unwrap();
        assert!(!path.exists());
    }
    let reply = agent.ask(known).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn what_a_client_says_that_was_taken_back_meanwhile_is_neither_given_nor_kept() {
    let fake = Fake::start();
    let agent = Agent::asking(&fake).await;
    fake.says(ResponseCode::NoError, 2);
    agent.ask("web.service.prod.example").await;
    fake.answer.send_replace(None);
    let mut heard = fake.heard.subscribe();
    heard.mark_unchanged();
    let refused = async {
        heard.changed().await.unwrap();
        agent.target.send_replace(Target::Memory);
        fake.says(ResponseCode::NoError, 9);
    };
    let (reply, ()) = tokio::join!(agent.ask("web.service.prod.example"), refused);
    assert_eq!(reply.answers.len(), 2);
    assert_eq!(agent.ask("web.service.prod.example").await.answers.len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_left_out_and_replaced() {
    for content in ["", "{", r#"{"format":9,"answers":[]}"#, "\0\0\0"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("answers.json");
        std::fs::write(&file, content).unwrap();
        let fake = Fake::start();
        let agent = Agent::asking(&fake).await.with(&file);
        fake.says(ResponseCode::NoError, 1);
        assert_eq!(agent.ask("web.service.prod.example").await.answers.len(), 1);
        let replaced = || {
            std::fs::read_to_string(&file)
                .unwrap()
                .starts_with("{\"format\":1")
        };
        until("it is replaced", replaced).await;
    }
}

#[tokio::test]
async fn a_disk_that_refuses_costs_no_answer_and_is_told_until_it_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let file = missing.join("answers.json");
    let fake = Fake::start();
    let agent = Agent::asking(&fake).await.with(&file);
    fake.says(ResponseCode::NoError, 1);
    agent.ask("web.service.prod.example").await;
    let unsaved = || agent.forwarder.seen().unwrap().unsaved;
    until("it is told", || unsaved().is_some()).await;
    fake.answer.send_replace(None);
    assert_eq!(agent.ask("web.service.prod.example").await.answers.len(), 1);
    std::fs::create_dir(&missing).unwrap();
    until("it is on disk", || file.exists() && unsaved().is_none()).await;
}
