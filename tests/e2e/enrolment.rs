//! Machines that come too late, that lose the answer, or whose certificate has run out: what their
//! coordinator says to them, writes down of them, and tells who waits for them.

use calvin_proto::{transport, wire::RenewRequest};

use crate::support::{
    Environment,
    audit::{assert_one_refusal_more, assert_refused, refusals},
    clock::Clock,
    files::Fleet,
    gate::Way,
    stranger::{Identity, connect, enrol, provision, refused_session, silent_machines},
    waiting::until,
};

/// Longer than a join token lives, which is an hour.
const TOO_LATE_HOURS: i64 = 2;

/// Longer than a certificate lives, which is a day unless `calvin.toml` says otherwise.
const OVER_A_DAY_HOURS: i64 = 25;

#[tokio::test]
async fn a_join_token_that_has_expired_is_refused() {
    let clock = Clock::new();
    let mut environment = Environment::prepare();
    environment.use_clock_for_coordinator(&clock);
    let instances = silent_machines(&mut environment, 1).await;
    let token = provision(&environment, &instances[0]).join_token;
    clock.set_hours(TOO_LATE_HOURS);
    let before = refusals(&environment);
    let refused = enrol(&environment, &instances[0], &token)
        .await
        .unwrap_err();
    assert_refused(&refused, "has expired unspent");
    assert_one_refusal_more(&environment, &before, &instances[0]).await;
}

#[tokio::test]
async fn an_agent_that_comes_too_late_is_refused_and_its_rollout_says_why() {
    let clock = Clock::new();
    let mut environment = Environment::prepare();
    environment.use_clock_for_coordinator(&clock);
    let gate = environment.use_gate(Way::Shut).await;
    environment.start_coordinator().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let fleet = Fleet {
        healthy_deadline: "10s",
        ..Fleet::new("web", "web@1.0", 1)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let instance = until("the machine", async || {
        let machines = environment.processes("web", "run");
        machines.into_keys().next().ok_or("there is none")
    })
    .await;
    clock.set_hours(TOO_LATE_HOURS);
    gate.set(Way::Open);
    environment
        .until_fleet("web", "the reason to be shown", |fleet| {
            let mut instances = fleet.rollout.iter().flat_map(|it| &it.instances);
            instances.any(|one| one.id == instance && one.alarm.contains("has expired unspent"))
        })
        .await;
    for arguments in [
        &["status"][..],
        &["rollout", "explain", "web"],
        &["instance", "show", &instance],
    ] {
        let shown = environment.calvin(arguments);
        let text = String::from_utf8_lossy(&shown.stdout).replace(char::is_whitespace, " ");
        assert!(text.contains("join token"), "{arguments:?}: {text}");
    }
    // The agent's own log has it, for who looks there, a moment after the coordinator has said it.
    let machine = environment.home().join("data/machines").join(&instance);
    until("the agent's log to have the reason", async || {
        let log = std::fs::read_to_string(machine.join("agent.log")).unwrap_or_default();
        if log.contains("has expired unspent") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    let all = refusals(&environment);
    assert!(
        all.iter().all(|line| line.contains("has expired unspent")),
        "{all:?}"
    );
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "failed", "{ended:?}");
    assert!(ended.reason.contains("join token"), "{ended:?}");
}

#[tokio::test]
async fn an_expired_certificate_is_good_for_its_renewal_and_nothing_else() {
    let clock = Clock::new();
    let mut environment = Environment::prepare();
    environment.use_clock_for_coordinator(&clock);
    let instances = silent_machines(&mut environment, 1).await;
    let token = provision(&environment, &instances[0]).join_token;
    let identity = enrol(&environment, &instances[0], &token).await.unwrap();
    clock.set_hours(OVER_A_DAY_HOURS);
    let before = refusals(&environment);
    let refused = refused_session(&environment, Some(&identity), &instances[0])
        .await
        .unwrap();
    assert_refused(&refused, "has expired");
    assert_one_refusal_more(&environment, &before, "has expired").await;

    let key = transport::new_key().unwrap();
    let channel = connect(&environment, environment.agents, Some(&identity))
        .await
        .unwrap();
    let request = RenewRequest {
        csr_der: transport::signing_request(&key).unwrap(),
    };
    let mut client = transport::services::enrolment_client(channel);
    let renewed = client.renew(request).await.unwrap().into_inner();
    let renewed = Identity {
        certificate: renewed.certificate_pem,
        key,
    };
    // The test's own clock is a day behind it, which is no reason to refuse it.
    connect(&environment, environment.agents, Some(&renewed))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_enrolment_whose_answer_is_lost_is_asked_for_again_and_raises_no_alarm() {
    let mut environment = Environment::prepare();
    let gate = environment.use_gate(Way::LosesAnAnswer).await;
    environment.start_coordinator().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 1)).await;
    assert_eq!(gate.lost(), 1);
    let instances = environment.until_whole("web", 1).await;
    assert_eq!(instances[0].alarm, "");
    assert_eq!(refusals(&environment), [""; 0]);
}
