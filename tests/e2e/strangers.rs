//! What strangers' bytes cost a coordinator: a stream, a connection, nothing else.

use tonic::Code;

use crate::support::{
    Environment,
    stranger::{Session, connect, enrol, hello, provision, report, with_silent_machines},
};

#[tokio::test]
async fn messages_out_of_order_repeated_and_too_large_end_a_session_and_nothing_else() {
    let (environment, instances) = with_silent_machines(1).await;
    let token = provision(&environment, &instances[0]).join_token;
    let identity = enrol(&environment, &instances[0], &token).await.unwrap();
    let channel = async || {
        connect(&environment, environment.agents, Some(&identity))
            .await
            .unwrap()
    };
    let good = || hello(&environment, &instances[0]);

    // A report before the hello.
    let refused = match Session::open(channel().await, report(1)).await {
        Err(status) => status,
        Ok(mut session) => session.end().await,
    };
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");

    // A second hello.
    let mut session = Session::open(channel().await, good()).await.unwrap();
    session.send.send(good()).await.unwrap();
    let refused = session.end().await;
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");

    // A report as large as nobody may send.
    let mut session = Session::open(channel().await, good()).await.unwrap();
    let mut large = report(2);
    if let Some(calvin_proto::wire::from_agent::Message::Report(report)) = &mut large.message {
        report.failing = vec!["x".repeat(1_000_000)];
    }
    // The stream may already be closed when it is sent.
    let _ = session.send.send(large).await;
    let refused = session.end().await;
    assert_ne!(refused.code(), Code::Ok, "{refused:?}");

    // Old and repeated reports are ignored: the newest counts.
    let mut session = Session::open(channel().await, good()).await.unwrap();
    for sequence in [10, 9, 10, 1] {
        session.send.send(report(sequence)).await.unwrap();
    }
    environment
        .until_fleet("web", "the newest report", |fleet| {
            let report = fleet.instances.first().and_then(|one| one.report.as_ref());
            report.is_some_and(|report| report.sequence == 10)
        })
        .await;
    // It hears from the coordinator all the while.
    assert!(session.receive.message().await.unwrap().is_some());
    environment.operator.about().await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_protocol_cost_a_connection_and_nothing_else() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let environment = Environment::start().await;
    for address in [environment.agents, environment.operators] {
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            &[0; 4096],
            &[0xff; 4096],
            &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            // It may be closed before all is written.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            let ended = tokio::time::timeout(std::time::Duration::from_secs(20), read).await;
            assert!(ended.is_ok(), "a connection of rubbish was kept open");
        }
    }
    environment.operator.about().await.unwrap();
}
