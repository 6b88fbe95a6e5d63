//! The server on real sockets.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::watch,
    time::timeout,
};

use super::*;
use crate::init::DnsSockets;

const DEADLINE: Duration = Duration::from_secs(10);

/// Both on one port, that was free for UDP and may be taken for TCP.
fn sockets() -> (DnsSockets, SocketAddr) {
    loop {
        let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        if let Ok(sockets) = DnsSockets::bind(address) {
            return (sockets, address);
        }
    }
}

async fn server(
    snapshot: Arc<NamesSnapshot>,
) -> (Server, Arc<Names>, SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new(DOMAIN, dir.path().join("names.json")).unwrap());
    names.admit(snapshot).await.unwrap();
    let (sockets, address) = sockets();
    (
        serve(&sources(&names, None), sockets).unwrap(),
        names,
        address,
        dir,
    )
}

/// What answers, with the server that is asked, if one is.
fn sources(names: &Arc<Names>, server: Option<SocketAddr>) -> Sources {
    Sources {
        names: names.clone(),
        forwarder: Arc::new(Forwarder::new(watch::Sender::new(server).subscribe())),
    }
}

async fn over_udp(address: SocketAddr, packet: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, address).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(DEADLINE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn send_framed(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(packet).await.unwrap();
}

async fn receive_framed(stream: &mut TcpStream) -> Message {
    let length = timeout(DEADLINE, stream.read_u16()).await.unwrap().unwrap();
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

#[tokio::test]
async fn a_cut_answer_over_udp_is_whole_over_tcp_on_the_same_port() {
    let (_server, _names, address, _dir) = server(crowd(300)).await;
    let packet = query("web.service.prod.example", RecordType::A, None);
    let cut = over_udp(address, &packet).await;
    assert!(cut.metadata.truncation);
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        send_framed(&mut stream, &packet).await;
        let whole = receive_framed(&mut stream).await;
        assert_eq!(
            (whole.answers.len(), whole.metadata.truncation),
            (300, false)
        );
    }
}

#[tokio::test]
async fn garbage_on_either_socket_does_not_keep_others_from_their_answer() {
    let (_server, _names, address, _dir) = server(mixed()).await;
    let hostile = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in [vec![], vec![0; 11], vec![0xff; 4096], vec![0; 60_000]] {
        hostile.send_to(&packet, address).await.unwrap();
    }
    let mut cut = TcpStream::connect(address).await.unwrap();
    cut.write_all(&[0xff]).await.unwrap();
    let mut long = TcpStream::connect(address).await.unwrap();
    long.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    let mut nonsense = TcpStream::connect(address).await.unwrap();
    send_framed(&mut nonsense, &[0x80; 40]).await;
    let packet = query("web.service.prod.example", RecordType::A, Some(1232));
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let mut good = TcpStream::connect(address).await.unwrap();
    send_framed(&mut good, &packet).await;
    assert_eq!(receive_framed(&mut good).await.answers.len(), 3);
    // What sent nonsense is told nothing and closed.
    let mut rest = Vec::new();
    let closed = timeout(DEADLINE, long.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(closed.is_err() || rest.is_empty());
}

#[tokio::test]
async fn silent_connections_are_bounded_and_do_not_stop_datagrams() {
    let (_server, _names, address, _dir) = server(mixed()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let packet = query("web.service.prod.example", RecordType::A, None);
    assert_eq!(over_udp(address, &packet).await.answers.len(), 3);
}

#[tokio::test]
async fn a_new_snapshot_is_served_at_once() {
    let (_server, names, address, _dir) = server(snapshot(1, Vec::new())).await;
    let packet = query("web.service.prod.example", RecordType::A, None);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    names.admit(mixed()).await.unwrap();
    assert_eq!(over_udp(address, &packet).await.answers.len(), 3);
}

/// A server that answers with what the test says, until it is dropped: nothing where that is nothing.
struct Fake {
    address: SocketAddr,
    answer: watch::Sender<Option<Message>>,
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

impl Fake {
    fn start() -> Self {
        let (sockets, address) = sockets();
        let udp = UdpSocket::from_std(sockets.udp).unwrap();
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp).unwrap();
        let answer = watch::Sender::new(None);
        let mut tasks = tokio::task::JoinSet::new();
        let says: watch::Receiver<Option<Message>> = answer.subscribe();
        let over_tcp = says.clone();
        tasks.spawn(async move {
            let mut packet = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut packet).await.unwrap();
                let Some(mut says) = says.borrow().clone() else {
                    continue;
                };
                if says.answers.len() > 10 {
                    says.metadata.truncation = true;
                    says.answers.clear();
                }
                let bytes = fitting(&says, &packet[..length]);
                udp.send_to(&bytes, from).await.unwrap();
            }
        });
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
            _tasks: tasks,
        }
    }

    fn says(&self, code: ResponseCode, addresses: u8) {
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

/// A server whose names come from another one.
async fn forwarding(fake: &Fake) -> (Server, Arc<Forwarder>, SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let names = Arc::new(Names::new(DOMAIN, dir.path().join("names.json")).unwrap());
    names.admit(mixed()).await.unwrap();
    let (sockets, address) = sockets();
    let sources = sources(&names, Some(fake.address));
    let server = serve(&sources, sockets).unwrap();
    (server, sources.forwarder, address, dir)
}

#[tokio::test]
async fn with_consul_its_answers_are_given_and_the_last_good_one_while_it_is_silent() {
    let fake = Fake::start();
    let (_server, forwarder, address, _dir) = forwarding(&fake).await;
    let packet = query("Web.service.prod.example", RecordType::A, Some(1232));
    // It was never answered, and a snapshot is not asked.
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
    assert_eq!(seen.stale, 3);
    assert!(seen.fault.is_some());

    // That there is nothing is an answer, and is given instead of what was before.
    fake.says(ResponseCode::NXDomain, 0);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    fake.answer.send_replace(None);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    let packet = query("www.example.com", RecordType::A, None);
    let reply = over_udp(address, &packet).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn what_consul_cuts_is_asked_for_over_a_stream() {
    let fake = Fake::start();
    let (_server, _forwarder, address, _dir) = forwarding(&fake).await;
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
