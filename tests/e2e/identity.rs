//! Who is refused, over the wire: each with a reason for the one who asks, and a line for the one
//! who looks later. The machines here have no agent of their own: the test plays it.

use std::sync::Arc;

use calvin_proto::{
    transport::{self, Trusted},
    wire::{AboutRequest, AddOperatorRequest, RevokeOperatorRequest},
};

use crate::support::{
    Environment,
    audit::{assert_one_refusal_more, assert_refused, refusals},
    stranger::{
        Identity, Session, connect, enrol, enrol_with_key, hello, provision, refused_session,
        with_silent_machines,
    },
};

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
    let before = refusals(&environment);
    let refused = enrol(&environment, &instances[0], &provision.join_token)
        .await
        .unwrap_err();
    assert_refused(&refused, "key");
    assert_one_refusal_more(&environment, &before, &instances[0]).await;
    environment
        .until_fleet("web", "the alarm to be shown", |fleet| {
            fleet.instances.iter().any(|one| !one.alarm.is_empty())
        })
        .await;
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let (environment, instances) = with_silent_machines(1).await;
    let before = refusals(&environment);
    let forged = "A".repeat(43);
    let refused = enrol(&environment, &instances[0], &forged)
        .await
        .unwrap_err();
    assert_refused(&refused, "token");
    assert_one_refusal_more(&environment, &before, &instances[0]).await;
}

#[tokio::test]
async fn the_token_of_another_instance_is_refused() {
    let (environment, instances) = with_silent_machines(2).await;
    let other = provision(&environment, &instances[1]);
    let before = refusals(&environment);
    let refused = enrol(&environment, &instances[0], &other.join_token)
        .await
        .unwrap_err();
    assert_refused(&refused, "token");
    assert_one_refusal_more(&environment, &before, &instances[0]).await;
    // And is still good for whom it was made.
    enrol(&environment, &instances[1], &other.join_token)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_instance_that_nobody_made_is_refused() {
    let (environment, _) = with_silent_machines(1).await;
    let before = refusals(&environment);
    let refused = enrol(&environment, "web-aaaaaaaa", &"A".repeat(43))
        .await
        .unwrap_err();
    assert_refused(&refused, "not known here");
    assert_one_refusal_more(&environment, &before, "web-aaaaaaaa").await;
}

#[tokio::test]
async fn a_token_shown_to_another_environment_is_refused() {
    let (environment, instances) = with_silent_machines(1).await;
    let provision = provision(&environment, &instances[0]);
    let key = transport::new_key().unwrap();
    let (instance, token) = (&instances[0], &provision.join_token);
    let before = refusals(&environment);
    let refused = enrol_with_key(&environment, "other", instance, token, &key)
        .await
        .unwrap_err();
    assert_refused(&refused, "environment");
    assert_one_refusal_more(&environment, &before, "environment").await;
}

#[tokio::test]
async fn a_session_without_a_certificate_is_refused() {
    let (environment, instances) = with_silent_machines(1).await;
    let before = refusals(&environment);
    let refused = refused_session(&environment, None, &instances[0])
        .await
        .unwrap();
    assert_refused(&refused, "needs a certificate");
    assert_one_refusal_more(&environment, &before, "needs a certificate").await;
}

#[tokio::test]
async fn a_certificate_of_another_environment_is_refused_with_the_reason() {
    let (environment, instances) = with_silent_machines(1).await;
    let (other, others) = with_silent_machines(1).await;
    let token = provision(&other, &others[0]).join_token;
    let identity = enrol(&other, &others[0], &token).await.unwrap();
    let before = refusals(&environment);
    let reason = match refused_session(&environment, Some(&identity), &instances[0]).await {
        Err(reason) => reason,
        Ok(status) => {
            let words = transport::explain_status(&status).unwrap_or_default();
            format!("{} {words}", status.message())
        }
    };
    assert!(
        reason.contains("certificate") || reason.contains("CA"),
        "{reason}"
    );
    assert_one_refusal_more(&environment, &before, "").await;
}

#[tokio::test]
async fn an_agent_speaks_only_for_itself() {
    let (environment, instances) = with_silent_machines(2).await;
    let token = provision(&environment, &instances[0]).join_token;
    let identity = enrol(&environment, &instances[0], &token).await.unwrap();
    let before = refusals(&environment);
    let refused = refused_session(&environment, Some(&identity), &instances[1])
        .await
        .unwrap();
    assert_refused(&refused, &format!("cannot speak for {}", instances[1]));
    assert_one_refusal_more(&environment, &before, "cannot speak for").await;
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
    let before = refusals(&environment);
    let refused = refused_session(&environment, Some(&ann), &instances[0])
        .await
        .unwrap();
    assert_refused(&refused, "only instances may call this service");
    assert_one_refusal_more(&environment, &before, "only instances").await;
}

#[tokio::test]
async fn an_agents_certificate_does_not_open_the_operator_service() {
    let (environment, instances) = with_silent_machines(1).await;
    let token = provision(&environment, &instances[0]).join_token;
    let identity = enrol(&environment, &instances[0], &token).await.unwrap();
    let before = refusals(&environment);
    let refused = about(&environment, &identity).await.unwrap_err();
    assert!(
        refused.contains("only operators may call this service"),
        "{refused}"
    );
    assert_one_refusal_more(&environment, &before, "only operators").await;
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
    let before = refusals(&environment);
    let refused = client.revoke_operator(request).await.unwrap_err();
    assert_refused(&refused, "this needs the role");
    assert_one_refusal_more(&environment, &before, "this needs the role").await;
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
    let before = refusals(&environment);
    let refused = about(&environment, &ann).await.unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
    assert_one_refusal_more(&environment, &before, "revoked").await;
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
