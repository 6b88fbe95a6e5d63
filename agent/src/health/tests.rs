//! Checks against real sockets and commands.

use std::{net::SocketAddr, time::Duration};

use calvin_model::{ImageManifest, Provision};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn specs(checks: &str) -> Vec<CheckSpec> {
    let text = format!("name = \"web\"\nversion = \"1\"\n{checks}");
    ImageManifest::parse("image.toml", &text).unwrap().checks
}

fn context(image: &std::path::Path) -> CheckContext {
    let provision = format!(
        "environment = \"e\"\ninstance = \"web-a\"\nfleet = \"web\"\ncoordinators = \
         [\"127.0.0.1:1\"]\ndomain = \"d\"\njoin_token = \"\"\nca_pem = \"\"\n[image]\ntag = \
         \"web@1\"\ndigest = \"sha256:{}\"\n",
        "01".repeat(32)
    );
    let provision = Provision::parse("provision.toml", &provision).unwrap();
    CheckContext {
        address: "127.0.0.1".parse().unwrap(),
        variables: Variables::new(&provision, image),
        image: image.to_owned(),
    }
}

async fn once(check: &str) -> CheckOutcome {
    let dir = tempfile::tempdir().unwrap();
    let spec = &specs(check)[0];
    timeout(DEADLINE, probe::run(spec, &context(dir.path())))
        .await
        .unwrap()
}

/// Answers every connection with `reply` and closes it; with `None` it stays silent.
async fn server(reply: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            match reply {
                Some(reply) => {
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(reply.as_bytes()).await;
                }
                None => silent.push(stream),
            }
        }
    });
    address
}

fn http(port: u16) -> String {
    format!(
        "[[check]]\nname = \"h\"\nhttp = \"/up\"\nport = {port}\ninterval = \"20ms\"\ntimeout = \
         \"200ms\"\n"
    )
}

#[tokio::test]
async fn an_http_check_asks_as_the_image_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        let reply = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(reply).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let check = format!(
        "{}method = \"POST\"\nheaders = {{ Host = \"web.example\", X-Who = \"me\" }}\n",
        http(port)
    );
    assert_eq!(once(&check).await, CheckOutcome::Pass);
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /up HTTP/1.1\r\n"), "{asked}");
    for line in ["host: web.example", "x-who: me", "connection: close"] {
        let found = asked.lines().filter(|found| *found == line).count();
        assert_eq!(found, 1, "{line} in {asked}");
    }
}

#[tokio::test]
async fn an_http_check_passes_from_200_to_299_only() {
    for (reply, passes) in [
        (Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), true),
        (Some("HTTP/1.1 204 No Content\r\n\r\n"), true),
        (
            Some("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf"),
            true,
        ),
        (Some("HTTP/1.1 301 Moved\r\nlocation: /\r\n\r\n"), false),
        (Some("HTTP/1.1 503 Unavailable\r\n\r\n"), false),
        (Some("SSH-2.0-x\r\n"), false),
        (Some(""), false),
        (None, false),
    ] {
        let address = server(reply).await;
        let outcome = once(&http(address.port())).await;
        assert_eq!(
            outcome == CheckOutcome::Pass,
            passes,
            "{reply:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_reason_says_what_was_seen() {
    let address = server(Some("HTTP/1.1 503 Unavailable\r\n\r\n")).await;
    let CheckOutcome::Fail(reason) = once(&http(address.port())).await else {
        panic!("passed");
    };
    assert_eq!(reason, "/up answered 503");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let CheckOutcome::Fail(reason) = once(&http(port)).await else {
        panic!("passed");
    };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_tcp_check_passes_when_somebody_accepts() {
    let address = server(None).await;
    let check = |port| format!("[[check]]\nname = \"t\"\ntcp = true\nport = {port}\n");
    assert_eq!(once(&check(address.port())).await, CheckOutcome::Pass);
}

/// A gRPC server that says of `web.v1` what the test has it say, and of itself that it serves.
async fn grpc_server() -> (u16, HealthReporter) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (port, reporter)
}

fn grpc(service: &str, port: u16) -> String {
    format!("[[check]]\nname = \"g\"\ngrpc = \"{service}\"\nport = {port}\ntimeout = \"300ms\"\n")
}

async fn grpc_reason(service: &str, port: u16) -> String {
    match once(&grpc(service, port)).await {
        CheckOutcome::Fail(reason) => reason,
        CheckOutcome::Pass => panic!("passed"),
    }
}

#[tokio::test]
async fn a_grpc_check_passes_while_its_service_says_that_it_serves() {
    let (port, reporter) = grpc_server().await;
    assert_eq!(once(&grpc("", port)).await, CheckOutcome::Pass);
    let reason = grpc_reason("web.v1", port).await;
    let unknown = format!("gRPC service web.v1 is not known to the server at 127.0.0.1:{port}");
    assert_eq!(reason, unknown);
    for (status, said) in [
        (ServingStatus::Serving, None),
        (
            ServingStatus::NotServing,
            Some("gRPC service web.v1 is NOT_SERVING"),
        ),
        (
            ServingStatus::Unknown,
            Some("gRPC service web.v1 is UNKNOWN"),
        ),
        (ServingStatus::Serving, None),
    ] {
        reporter.set_service_status("web.v1", status).await;
        let outcome = once(&grpc("web.v1", port)).await;
        let expected = said.map_or(CheckOutcome::Pass, |said| CheckOutcome::Fail(said.into()));
        assert_eq!(outcome, expected);
    }
    reporter
        .set_service_status("", ServingStatus::NotServing)
        .await;
    let reason = grpc_reason("", port).await;
    assert_eq!(reason, format!("127.0.0.1:{port} is NOT_SERVING"));
}

#[tokio::test]
async fn a_grpc_check_of_what_speaks_no_grpc_fails_and_says_why() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let reason = grpc_reason("", port).await;
    assert!(
        reason.starts_with("could not connect to 127.0.0.1"),
        "{reason}"
    );
    assert!(reason.contains("refused"), "{reason}");
    for reply in ["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n", ""] {
        let port = server(Some(reply)).await.port();
        let reason = grpc_reason("", port).await;
        assert!(
            reason.contains("does not speak gRPC"),
            "{reply:?}: {reason}"
        );
    }
    let port = server(None).await.port();
    assert_eq!(grpc_reason("", port).await, "no answer within 300ms");
    // gRPC, and no such service.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let bare = Server::builder().add_routes(Routes::default());
    tokio::spawn(bare.serve_with_incoming(TcpIncoming::from(listener)));
    let reason = grpc_reason("", port).await;
    assert_eq!(reason, format!("127.0.0.1:{port} has no grpc.health.v1"));
}

#[tokio::test]
async fn a_grpc_check_that_hangs_leaves_no_connection_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut rest = Vec::new();
        // It ends when the one who asked is gone.
        let _ = stream.read_to_end(&mut rest).await;
        rest.starts_with(b"PRI * HTTP/2.0")
    });
    assert_eq!(grpc_reason("web.v1", port).await, "no answer within 300ms");
    assert!(timeout(DEADLINE, seen).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_command_passes_with_code_0_and_its_last_line_is_the_reason_else() {
    let check = |script: &str| {
        format!(
            "[[check]]\nname = \"e\"\nexec = [\"sh\", \"-c\", \"{script}\"]\ntimeout = \"300ms\"\n"
        )
    };
    assert_eq!(once(&check("exit 0")).await, CheckOutcome::Pass);
    let failed = once(&check("echo one; echo disk is full; exit 3")).await;
    assert_eq!(
        failed,
        CheckOutcome::Fail("ended with exit code 3: disk is full".into())
    );
    let CheckOutcome::Fail(reason) = once(&check("sleep 60 & sleep 60")).await else {
        panic!("passed");
    };
    assert!(reason.starts_with("killed after"), "{reason}");
}

#[tokio::test]
async fn a_workload_that_comes_up_is_seen_long_before_the_next_interval() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (results, mut seen) = mpsc::channel(16);
    let dir = tempfile::tempdir().unwrap();
    let spec = specs(&format!(
        "[[check]]\nname = \"t\"\ntcp = true\nport = {}\ninterval = \"1h\"\n",
        address.port()
    ));
    let mut checks = Checks::new(&spec, context(dir.path()), results);
    checks.run_only(&[0]);
    tokio::task::yield_now().await;
    let _listener = TcpListener::bind(address).await.unwrap();
    let first = timeout(DEADLINE, seen.recv()).await.unwrap().unwrap();
    assert_eq!(
        first.outcome,
        CheckOutcome::Pass,
        "its failures before are not told"
    );
}

#[tokio::test]
async fn a_check_that_hangs_keeps_no_other_from_its_turn_and_what_is_not_wanted_ends() {
    let silent = server(None).await;
    let good = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let (results, mut seen) = mpsc::channel(16);
    let dir = tempfile::tempdir().unwrap();
    let both =
        http(silent.port()).replace("200ms", "1h") + &http(good.port()).replace("\"h\"", "\"g\"");
    let mut checks = Checks::new(&specs(&both), context(dir.path()), results);
    checks.run_only(&[0, 1]);
    for _ in 0..3 {
        let result = timeout(DEADLINE, seen.recv()).await.unwrap().unwrap();
        assert_eq!((result.index, result.outcome), (1, CheckOutcome::Pass));
    }
    checks.run_only(&[]);
    drop(checks);
    // Whatever was under way may still come; then the channel ends.
    let ended = async { while seen.recv().await.is_some() {} };
    timeout(DEADLINE, ended).await.unwrap();
}
