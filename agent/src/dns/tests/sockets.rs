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

pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Both on one port, that was free for UDP and may be taken for TCP.
pub(super) fn sockets() -> (DnsSockets, SocketAddr) {
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
        serve(&sources(&names, Target::Snapshots).0, sockets).unwrap(),
        names,
        address,
        dir,
    )
}

/// What answers, and what says where names come from.
pub(super) fn sources(names: &Arc<Names>, target: Target) -> (Sources, watch::Sender<Target>) {
    let target = watch::Sender::new(target);
    let sources = Sources {
        names: names.clone(),
        forwarder: Arc::new(Forwarder::new(target.subscribe())),
    };
    (sources, target)
}

pub(super) async fn over_udp(address: SocketAddr, packet: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, address).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(DEADLINE, socket.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

pub(super) async fn send_framed(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(packet).await.unwrap();
}

pub(super) async fn receive_framed(stream: &mut TcpStream) -> Message {
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
