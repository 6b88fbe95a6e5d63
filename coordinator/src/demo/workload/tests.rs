//! The workloads on loopback, with real HTTP and real DNS datagrams.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use calvin_model::HumanDuration;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{A, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    WorkloadError,
    load::{self, Counted, LoadArguments},
    web::{self, WebArguments},
};

const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), WorkloadError>>,
}

/// A port that was free a moment ago. The addresses are of this process alone.
async fn free_address(host: u8) -> SocketAddr {
    let process = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, process[2] | 1, process[3], host);
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

async fn web(host: u8, version: &str, fault: &str) -> Running {
    let address = free_address(host).await;
    let arguments = WebArguments {
        listen: address,
        version: version.to_owned(),
        never_healthy: fault == "never healthy",
        bad_when_active: fault == "bad when active",
        good_for: HumanDuration::from_millis(300),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(web::run(arguments, async move { drop(stopped.await) }));
    wait_for_connection(address).await;
    Running {
        address,
        stop,
        ended,
    }
}

async fn wait_for_connection(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(start.elapsed() < DEADLINE, "nothing listens on {address}");
        tokio::task::yield_now().await;
    }
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// A name server whose answer can be changed. TTL 0: every change is seen at once.
async fn name_server(servers: &Arc<Mutex<Vec<SocketAddr>>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let servers = Arc::clone(servers);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(query.id, query.op_code);
            answer.metadata.authoritative = true;
            for question in &query.queries {
                answer.add_query(question.clone());
            }
            let name = query.queries[0].name().clone();
            let now = servers.lock().unwrap().clone();
            if now.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for (index, server) in now.iter().enumerate() {
                let target = Name::from_ascii(format!("i{index}.node.demo.test.")).unwrap();
                let service = RData::SRV(SRV::new(1, 1, server.port(), target.clone()));
                answer.add_answer(Record::from_rdata(name.clone(), 0, service));
                let SocketAddr::V4(server) = server else {
                    unreachable!("the tests use IPv4")
                };
                answer.add_additional(Record::from_rdata(target, 0, RData::A(A(*server.ip()))));
            }
            let bytes = answer.to_vec().unwrap();
            socket.send_to(&bytes, client).await.unwrap();
        }
    });
    address
}

async fn load(host: u8, dns: SocketAddr) -> Running {
    let address = free_address(host).await;
    let arguments = LoadArguments {
        service: "web".to_owned(),
        domain: "demo.test".to_owned(),
        dns,
        listen: address,
        pause: HumanDuration::from_millis(20),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(load::run(arguments, async move { drop(stopped.await) }));
    wait_for_connection(address).await;
    Running {
        address,
        stop,
        ended,
    }
}

async fn counted_when(address: SocketAddr, good: impl Fn(&Counted) -> bool) -> Counted {
    let start = Instant::now();
    loop {
        let (_, body) = get(address, "/counters").await;
        let counted: Counted = serde_json::from_str(&body).unwrap();
        if good(&counted) {
            return counted;
        }
        assert!(start.elapsed() < DEADLINE, "{counted:?}");
    }
}

#[tokio::test]
async fn a_web_server_says_its_version_and_is_healthy() {
    let web = web(2, "1.0", "none").await;
    assert_eq!(get(web.address, "/").await, (200, "1.0".to_owned()));
    assert_eq!(get(web.address, "/health").await.0, 200);
}

#[tokio::test]
async fn a_version_that_never_becomes_healthy_says_so_from_the_start() {
    let web = web(3, "3.0", "never healthy").await;
    assert_eq!(get(web.address, "/health").await.0, 503);
}

#[tokio::test]
async fn a_version_that_breaks_under_traffic_is_healthy_until_then() {
    let web = web(4, "4.0", "bad when active").await;
    // Health checks are no traffic: without a page it stays as it is.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        assert_eq!(get(web.address, "/health").await.0, 200);
    }
    assert_eq!(get(web.address, "/").await.0, 200);
    assert_eq!(get(web.address, "/health").await.0, 200);
    let first = Instant::now();
    while get(web.address, "/").await.0 == 200 {
        assert!(first.elapsed() < DEADLINE, "it does not break");
    }
    assert_eq!(get(web.address, "/health").await.0, 500);
}

#[tokio::test]
async fn a_web_server_told_to_stop_finishes_the_request_under_way() {
    let web = web(5, "1.0", "none").await;
    let mut stream = TcpStream::connect(web.address).await.unwrap();
    // Half a request: the server has begun to read it when it is told to stop.
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(get(web.address, "/").await.0, 200);
    web.stop.send(()).unwrap();
    stream.write_all(b"host: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    timeout(DEADLINE, web.ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn load_follows_the_names_without_a_failed_request_while_the_old_server_serves_on() {
    let blue = web(6, "1.0", "none").await;
    let green = web(7, "2.0", "none").await;
    let servers = Arc::new(Mutex::new(vec![blue.address]));
    let load = load(8, name_server(&servers).await).await;
    let first = counted_when(load.address, |counted| counted.requests > 50).await;
    assert_eq!(first.by_version.keys().collect::<Vec<_>>(), ["1.0"]);

    *servers.lock().unwrap() = vec![green.address];
    let second = counted_when(load.address, |counted| {
        counted
            .by_version
            .get("2.0")
            .is_some_and(|answers| *answers > 50)
    })
    .await;
    blue.stop.send(()).unwrap();
    timeout(DEADLINE, blue.ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let third = counted_when(load.address, |counted| {
        counted.requests > second.requests + 100
    })
    .await;
    assert_eq!((third.failed, third.lookups_failed), (0, 0), "{third:?}");
    assert!(third.longest_gap_ms < 1_000, "{third:?}");
    load.stop.send(()).unwrap();
    timeout(DEADLINE, load.ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn load_counts_a_server_that_is_gone_and_a_name_that_is_gone() {
    let nobody = free_address(9).await;
    let servers = Arc::new(Mutex::new(vec![nobody]));
    let load = load(10, name_server(&servers).await).await;
    let counted = counted_when(load.address, |counted| counted.failed > 10).await;
    assert_eq!(counted.failed, counted.requests, "{counted:?}");
    assert!(
        counted
            .newest_failures
            .iter()
            .any(|why| why.contains("connection to")),
        "{counted:?}"
    );

    servers.lock().unwrap().clear();
    let counted = counted_when(load.address, |counted| counted.lookups_failed > 10).await;
    assert_eq!(counted.failed, counted.requests, "{counted:?}");
}

#[tokio::test]
async fn load_counts_errors_of_a_server_that_breaks() {
    let web = web(11, "4.0", "bad when active").await;
    let servers = Arc::new(Mutex::new(vec![web.address]));
    let load = load(12, name_server(&servers).await).await;
    let counted = counted_when(load.address, |counted| counted.failed > 10).await;
    assert!(counted.requests > counted.failed, "{counted:?}");
    assert!(
        counted
            .newest_failures
            .iter()
            .any(|why| why.contains("500")),
        "{counted:?}"
    );
}
