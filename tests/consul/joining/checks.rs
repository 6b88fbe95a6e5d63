//! Checks of an image, as the agent and its Consul client run them.

use calvin_proto::wire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::ServingStatus;

use super::{
    SOON, is_critical,
    machine::{MANAGEMENT, Machine, field},
    passing,
};

/// What a client asks for on a connection of its own, up to the end of its headers.
async fn head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

#[tokio::test]
async fn agent_and_consul_send_the_method_and_headers_of_an_http_check() {
    let datacenter = field().await;
    let check = "[[check]]\nname = \"ping\"\nhttp = \"/ping\"\nport = 8082\ninterval = \"1s\"\n\
                 method = \"POST\"\nheaders = { Host = \"web.example\", X-Who = \"calvin\" }\n";
    let mut machine = Machine::start_checked(&datacenter, 33, check).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let listener = tokio::net::TcpListener::bind((machine.address(), 8082)).await;
    let listener = listener.unwrap();
    let (asked, mut askers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head(&mut stream).await;
            let right = ["host: web.example", "x-who: calvin"];
            let right = right.iter().all(|line| head.lines().any(|it| it == *line));
            let right = right && head.starts_with("post /ping http/1.1");
            let status = if right {
                "204 No Content"
            } else {
                "400 Bad Request"
            };
            let reply = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(reply.as_bytes()).await;
            let _ = asked.send(head);
        }
    });
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    machine
        .hear(|report| report.health() == wire::Health::Healthy)
        .await;
    for who in [
        "user-agent: calvin-agent",
        "user-agent: consul health check",
    ] {
        let heard = async { while !askers.recv().await.unwrap().contains(who) {} };
        let heard = tokio::time::timeout(SOON, heard).await;
        heard.unwrap_or_else(|_| panic!("nobody asked with {who}"));
    }
    passing(&consul, "web").await;
}

#[tokio::test]
async fn a_grpc_check_is_consul_s_own_and_says_what_the_server_says() {
    let datacenter = field().await;
    let check = "[[check]]\nname = \"api\"\ngrpc = \"web.v1\"\nport = 8081\ninterval = \"1s\"\n";
    let mut machine = Machine::start_checked(&datacenter, 5, check).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let listener = tokio::net::TcpListener::bind((machine.address(), 8081)).await;
    let incoming = TcpIncoming::from(listener.unwrap());
    let (mut says, service) = tonic_health::server::health_reporter();
    says.set_service_status("web.v1", ServingStatus::Serving)
        .await;
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));

    machine.register(wire::CatalogueRole::Entered).await;
    let one = passing(&consul, "web").await;
    let found = one.checks.iter().find(|check| check.name == "api").unwrap();
    assert_eq!(found.kind, "grpc");
    machine
        .hear(|report| report.health() == wire::Health::Healthy)
        .await;
    says.set_service_status("web.v1", ServingStatus::NotServing)
        .await;
    is_critical(&consul).await;
    machine
        .hear(|report| report.health() == wire::Health::Unhealthy)
        .await;
    says.set_service_status("web.v1", ServingStatus::Serving)
        .await;
    passing(&consul, "web").await;
    machine
        .hear(|report| report.health() == wire::Health::Healthy)
        .await;
    // A server that does not know the service is not the one that was meant.
    says.clear_service_status("web.v1").await;
    is_critical(&consul).await;
    machine
        .hear(|report| report.health() == wire::Health::Unhealthy)
        .await;
}
