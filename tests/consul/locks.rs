//! Sessions and the locks that they hold.

use std::time::{Duration, Instant};

use calvin_consul::{
    Client, Consistency, Key, Reason, SessionId,
    health::CheckStatus,
    kv::{Entry, Write},
    session::{Behavior, SessionRequest},
};

use crate::support::{agent, coordinator, shared, shared::NODE, until};

fn request(name: &str, ttl: Option<Duration>, lock_delay: Duration) -> SessionRequest {
    SessionRequest {
        name: name.to_owned(),
        ttl,
        lock_delay,
        behavior: Behavior::Release,
        node_checks: Vec::new(),
    }
}

async fn entry(consul: &Client, key: &Key) -> Entry {
    let read = consul.kv_get(key, Consistency::Consistent).await.unwrap();
    read.value.expect("the entry is there")
}

async fn lock(consul: &Client, key: &Key, session: &SessionId) -> Write {
    let value = session.as_str().as_bytes().to_vec();
    consul.kv_acquire(key, value, session).await.unwrap()
}

#[tokio::test]
async fn a_lock_has_one_holder_and_its_index_grows_with_each() {
    let consul = coordinator(shared(), "lock-one").await;
    let key: Key = "calvin/lock-one/leader".parse().unwrap();
    let none = Duration::ZERO;
    let first = consul
        .session_create(&request("first", None, none))
        .await
        .unwrap();
    let second = consul
        .session_create(&request("second", None, none))
        .await
        .unwrap();

    assert_eq!(lock(&consul, &key, &first).await, Write::Done);
    assert_eq!(lock(&consul, &key, &second).await, Write::Conflict);
    let held = entry(&consul, &key).await;
    assert_eq!((held.session.as_ref(), held.lock_index), (Some(&first), 1));
    // Who has it only writes.
    assert_eq!(lock(&consul, &key, &first).await, Write::Done);
    assert_eq!(entry(&consul, &key).await.lock_index, 1);

    let give = async |session| consul.kv_release(&key, vec![], session).await.unwrap();
    assert_eq!(give(&second).await, Write::Conflict);
    assert_eq!(give(&first).await, Write::Done);
    assert_eq!(lock(&consul, &key, &second).await, Write::Done);
    let held = entry(&consul, &key).await;
    assert_eq!((held.session.as_ref(), held.lock_index), (Some(&second), 2));

    consul.session_destroy(&second).await.unwrap();
    assert_eq!(entry(&consul, &key).await.session, None);
    assert_eq!(
        consul
            .session(&second, Consistency::Consistent)
            .await
            .unwrap(),
        None
    );
    assert_eq!(consul.session_renew(&second).await.unwrap(), None);
    consul.session_destroy(&second).await.unwrap();
    let error = consul.kv_acquire(&key, vec![], &second).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("lock key calvin/lock-one/leader"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_lock_is_nobody_s_until_its_delay_is_over() {
    let consul = coordinator(shared(), "lock-delay").await;
    let key: Key = "calvin/lock-delay/leader".parse().unwrap();
    let delay = Duration::from_secs(3);
    let first = consul
        .session_create(&request("first", None, delay))
        .await
        .unwrap();
    let second = consul
        .session_create(&request("second", None, delay))
        .await
        .unwrap();
    assert_eq!(lock(&consul, &key, &first).await, Write::Done);
    consul.session_destroy(&first).await.unwrap();
    let lost = Instant::now();
    assert_eq!(lock(&consul, &key, &second).await, Write::Conflict);
    until("the lock", async || {
        match lock(&consul, &key, &second).await {
            Write::Done => Ok(()),
            Write::Conflict => Err("conflict"),
        }
    })
    .await;
    assert!(
        lost.elapsed() >= delay - Duration::from_millis(200),
        "{:?}",
        lost.elapsed()
    );
}

#[tokio::test]
async fn a_session_that_is_not_renewed_ends_and_gives_its_lock_up() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "lock-ttl").await;
    // As an agent does for an exclusive service: over its own Consul client, tied to its own node.
    let agent = agent(datacenter, &coordinator, "lock-ttl", &["lock-ttl"]).await;
    let key: Key = "calvin/lock-ttl/locks/lock-ttl".parse().unwrap();
    let ttl = Duration::from_secs(10);
    let wanted = request("exclusive", Some(ttl), Duration::ZERO);
    let session = agent.session_create(&wanted).await.unwrap();
    let info = agent
        .session(&session, Consistency::Consistent)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&*info.node, &*info.ttl), (NODE, "10000ms"));
    assert_eq!(info.behavior, Behavior::Release);
    // With checks of its node it would end with them: with none only its TTL counts.
    assert_eq!(info.node_checks, Vec::<String>::new());
    assert_eq!(lock(&agent, &key, &session).await, Write::Done);
    let renewed = agent.session_renew(&session).await.unwrap().unwrap();
    assert_eq!(renewed.id, session);
    let silent = Instant::now();
    let held = until("the lock given up", async || {
        let entry = entry(&agent, &key).await;
        if entry.session.is_none() {
            Ok(silent.elapsed())
        } else {
            Err(entry)
        }
    })
    .await;
    assert!(held >= ttl, "it ended after {held:?}");
    assert_eq!(agent.session_renew(&session).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_that_consul_would_not_take_is_not_sent() {
    let consul = coordinator(shared(), "lock-bad").await;
    let seconds = Duration::from_secs;
    for bad in [
        request("short", Some(seconds(9)), seconds(0)),
        request("long", Some(seconds(86_401)), seconds(0)),
        request("delay", None, seconds(61)),
        request("odd\n", None, seconds(0)),
    ] {
        let error = consul.session_create(&bad).await.unwrap_err();
        assert!(matches!(error.reason, Reason::Invalid(_)), "{error}");
    }
}

#[tokio::test]
async fn a_session_tied_to_a_check_ends_with_it() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "lock-chk").await;
    let agent = agent(datacenter, &coordinator, "lock-chk", &["lock-chk"]).await;
    let check = crate::registration::ttl("lock-chk-node", CheckStatus::Passing);
    agent.register_check(&check, None).await.unwrap();
    until("the check on the servers", async || {
        let checks = coordinator.node_checks(NODE, Consistency::Consistent).await;
        let checks = checks.unwrap().value;
        let found = checks.iter().any(|check| check.id == "lock-chk-node");
        found.then_some(()).ok_or(checks)
    })
    .await;
    let mut wanted = request("tied", None, Duration::ZERO);
    wanted.node_checks = vec!["lock-chk-node".to_owned()];
    let session = agent.session_create(&wanted).await.unwrap();
    agent
        .update_check("lock-chk-node", CheckStatus::Critical, "test")
        .await
        .unwrap();
    until("the session's end", async || {
        match agent
            .session(&session, Consistency::Consistent)
            .await
            .unwrap()
        {
            None => Ok(()),
            Some(session) => Err(session),
        }
    })
    .await;
    agent.deregister_check("lock-chk-node").await.unwrap();
}
