//! Who is refused, over the wire: each with a reason for the one who asks, and a line for the one
//! who looks later. The machines here have no agent of their own: the test plays it.

use std::sync::Arc;

use calvin_proto::{
    transport::{self, Trusted},
    wire::{AboutRequest, AddOperatorRequest, RevokeOperatorRequest},
};
use tonic::{Code, Status};

use crate::support::{
    Environment,
    files::Fleet,
    stranger::{Identity, Session, connect, enrol, enrol_with_key, hello, provision, report},
    waiting::until,
};

/// An environment with machines that have first-boot data and nothing else.
async fn with_silent_machines(count: u32) -> (Environment, Vec<String>) {
    let mut environment = Environment::prepare();
    environment.use_silent_agent();
    environment.start_coordinator().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", count)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let instances = until("first-boot data", async || {
        let machines = environment.home().join("data/machines");
        let found: Vec<String> = std::fs::read_dir(machines)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|machine| machine.path().join("provision.toml").is_file())
            .map(|machine| machine.file_name().to_string_lossy().into_owned())
            .collect();
        if found.len() == count as usize {
            Ok(found)
        } else {
            Err(found)
        }
    })
    .await;
    (environment, instances)
}

/// Every line of the audit and of the history, as text.
async fn audit(environment: &Environment) -> Vec<String> {
    let history = environment.operator.history("").await;
    history
        .iter()
        .map(|line| format!("{} {} {} {}", line.who, line.kind, line.instance, line.text))
        .collect()
}

/// Fails unless exactly one line more names the instance.
async fn assert_one_more_line(environment: &Environment, before: &[String], instance: &str) {
    let after = audit(environment).await;
    let new: Vec<_> = after
        .iter()
        .skip(before.len())
        .filter(|line| line.contains(instance))
        .collect();
    assert_eq!(new.len(), 1, "{new:?}");
}

fn assert_refused(status: &Status, word: &str) {
    let denied = matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition | Code::NotFound
    );
    assert!(denied, "{status:?}");
    assert!(
        status.message().contains(word),
        "without {word:?}: {}",
        status.message()
    );
}

#[tokio::test]
async fn the_right_token_trades_for_a_certificate_and_the_same_key_may_ask_again() {
    let (environment, instances) = with_silent_machines(1).await;
    let provision = provision(&environment, &instances[0]);
    let key = transport::new_key().unwrap();
    let enrol = async || {
        enrol_with_key(
            &environment,
            "test",
            &instances[0],
            &provision.join_token,
            &key,
        )
        .await
    };
    let first = enrol().await.unwrap();
    // The answer got lost: the same key asks again.
    let second = enrol().await.unwrap();
    for reply in [first, second] {
        let identity = Identity {
            certificate: reply.certificate_pem,
            key: key.clone(),
        };
        let channel = connect(&environment, environment.agents, Some(&identity))
            .await
            .unwrap();
        let mut session = Session::open(channel, hello(&environment, &instances[0]))
            .await
            .unwrap();
        assert!(session.receive.message().await.unwrap().is_some());
    }
    let fleet = environment.fleet("web").await.unwrap();
    assert!(
        fleet.instances.iter().all(|one| one.alarm.is_empty()),
        "{:?}",
        fleet.instances
    );
}

#[tokio::test]
async fn a_spent_token_with_another_key_is_refused_and_raises_an_alarm() {
    let (environment, instances) = with_silent_machines(1).await;
    let provision = provision(&environment, &instances[0]);
    enrol(&environment, &instances[0], &provision.join_token)
        .await
        .unwrap();
    let before = audit(&environment).await;
    let refused = enrol(&environment, &instances[0], &provision.join_token)
        .await
        .unwrap_err();
    assert_refused(&refused, "key");
    assert_one_more_line(&environment, &before, &instances[0]).await;
    environment
        .until_fleet("web", "the alarm to be shown", |fleet| {
            fleet.instances.iter().any(|one| !one.alarm.is_empty())
        })
        .await;
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let (environment, instances) = with_silent_machines(1).await;
    let before = audit(&environment).await;
    let forged = "A".repeat(43);
    let refused = enrol(&environment, &instances[0], &forged)
        .await
        .unwrap_err();
    assert_refused(&refused, "token");
    assert_one_more_line(&environment, &before, &instances[0]).await;
}

#[tokio::test]
async fn the_token_of_another_instance_is_refused() {
    let (environment, instances) = with_silent_machines(2).await;
    let other = provision(&environment, &instances[1]);
    let before = audit(&environment).await;
    let refused = enrol(&environment, &instances[0], &other.join_token)
        .await
        .unwrap_err();
    assert_refused(&refused, "token");
    assert_one_more_line(&environment, &before, &instances[0]).await;
    // And is still good for whom it was made.
    enrol(&environment, &instances[1], &other.join_token)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_instance_that_nobody_made_is_refused() {
    let (environment, _) = with_silent_machines(1).await;
    let refused = enrol(&environment, "web-aaaaaaaa", &"A".repeat(43))
        .await
        .unwrap_err();
    assert_refused(&refused, "");
}

#[tokio::test]
async fn a_token_shown_to_another_environment_is_refused() {
    let (environment, instances) = with_silent_machines(1).await;
    let provision = provision(&environment, &instances[0]);
    let key = transport::new_key().unwrap();
    let (instance, token) = (&instances[0], &provision.join_token);
    let refused = enrol_with_key(&environment, "other", instance, token, &key)
        .await
        .unwrap_err();
    assert!(refused.message().contains("environment"), "{refused:?}");
}

#[tokio::test]
async fn a_session_without_a_certificate_is_refused() {
    let (environment, instances) = with_silent_machines(1).await;
    let channel = connect(&environment, environment.agents, None)
        .await
        .unwrap();
    let hello = hello(&environment, &instances[0]);
    let refused = match Session::open(channel, hello).await {
        Err(status) => status,
        Ok(mut session) => session.end().await,
    };
    assert_refused(&refused, "certificate");
}

#[tokio::test]
async fn a_certificate_of_another_environment_is_refused_with_the_reason() {
    let (environment, instances) = with_silent_machines(1).await;
    let (other, others) = with_silent_machines(1).await;
    let token = provision(&other, &others[0]).join_token;
    let identity = enrol(&other, &others[0], &token).await.unwrap();
    let reason = match connect(&environment, environment.agents, Some(&identity)).await {
        Err(reason) => reason,
        Ok(channel) => {
            let refused = match Session::open(channel, hello(&environment, &instances[0])).await {
                Err(status) => status,
                Ok(mut session) => session.end().await,
            };
            let words = transport::explain_status(&refused).unwrap_or_default();
            format!("{} {words}", refused.message())
        }
    };
    assert!(
        reason.contains("certificate") || reason.contains("CA"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_agent_speaks_only_for_itself() {
    let (environment, instances) = with_silent_machines(2).await;
    let token = provision(&environment, &instances[0]).join_token;
    let identity = enrol(&environment, &instances[0], &token).await.unwrap();
    let channel = connect(&environment, environment.agents, Some(&identity))
        .await
        .unwrap();
    let refused = match Session::open(channel, hello(&environment, &instances[1])).await {
        Err(status) => status,
        Ok(mut session) => session.end().await,
    };
    assert_refused(&refused, &instances[1]);
}

/// A certificate of an operator.
async fn operator(environment: &Environment, name: &str, role: &str) -> Identity {
    let key = transport::new_key().unwrap();
    let request = AddOperatorRequest {
        name: name.to_owned(),
        role: role.to_owned(),
        csr_der: transport::signing_request(&key).unwrap(),
        valid_ms: 0,
    };
    let reply = environment
        .operator
        .client
        .clone()
        .add_operator(request)
        .await
        .unwrap();
    Identity {
        certificate: reply.into_inner().certificate_pem,
        key,
    }
}

async fn about(environment: &Environment, identity: &Identity) -> Result<String, String> {
    let channel = connect(environment, environment.operators, Some(identity)).await?;
    let mut client = transport::services::operator_client(channel);
    match client.about(AboutRequest {}).await {
        Ok(reply) => Ok(reply.into_inner().role),
        Err(status) => Err(status.message().to_owned()),
    }
}

#[tokio::test]
async fn an_operators_certificate_opens_the_operator_service_and_not_the_agents() {
    let (environment, instances) = with_silent_machines(1).await;
    let ann = operator(&environment, "ann", "admin").await;
    assert_eq!(about(&environment, &ann).await.unwrap(), "admin");
    let channel = connect(&environment, environment.agents, Some(&ann))
        .await
        .unwrap();
    let refused = match Session::open(channel, hello(&environment, &instances[0])).await {
        Err(status) => status,
        Ok(mut session) => session.end().await,
    };
    assert_refused(&refused, "operator");
}

#[tokio::test]
async fn an_agents_certificate_does_not_open_the_operator_service() {
    let (environment, instances) = with_silent_machines(1).await;
    let token = provision(&environment, &instances[0]).join_token;
    let identity = enrol(&environment, &instances[0], &token).await.unwrap();
    let refused = about(&environment, &identity).await.unwrap_err();
    assert!(!refused.is_empty());
}

#[tokio::test]
async fn a_viewer_may_look_and_not_touch() {
    let environment = Environment::start().await;
    let viewer = operator(&environment, "vic", "viewer").await;
    assert_eq!(about(&environment, &viewer).await.unwrap(), "viewer");
    let channel = connect(&environment, environment.operators, Some(&viewer))
        .await
        .unwrap();
    let mut client = transport::services::operator_client(channel);
    let request = RevokeOperatorRequest {
        name: "vic".to_owned(),
    };
    let refused = client.revoke_operator(request).await.unwrap_err();
    assert_refused(&refused, "viewer");
}

#[tokio::test]
async fn a_revoked_operator_is_refused() {
    let environment = Environment::start().await;
    let ann = operator(&environment, "ann", "operator").await;
    about(&environment, &ann).await.unwrap();
    let request = RevokeOperatorRequest {
        name: "ann".to_owned(),
    };
    environment
        .operator
        .client
        .clone()
        .revoke_operator(request)
        .await
        .unwrap();
    let refused = about(&environment, &ann).await.unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
}

#[tokio::test]
async fn a_coordinator_that_is_not_ours_is_not_believed() {
    let (environment, _) = with_silent_machines(1).await;
    let other = Environment::start().await;
    let trusted = Trusted::from_pem(&other.ca_pem().await).unwrap();
    let config = transport::client_config(&trusted, None).unwrap();
    let name = transport::coordinator_dns_name(&"test".parse().unwrap());
    let refused = transport::connect(environment.agents, &name, Arc::new(config)).await;
    assert!(refused.is_err());
}

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
