//! A coordinator that lost its lock.

use std::{collections::BTreeMap, time::Duration};

use calvin_consul::{
    Client, Consistency, Key, SessionId,
    kv::Write,
    session::{Behavior, SessionRequest},
};
use tokio::time::Instant;

use super::{add_web, datacenter, environment};
use crate::{
    support::{environment::Environment, files::Fleet, home::ENVIRONMENT, player::Player, until},
    switch::{active, found, until_phase},
};

#[tokio::test]
async fn a_lock_that_was_lost_is_taken_again() {
    let (datacenter, consul, token) = datacenter().await;
    let environment = environment(&datacenter, &token).await;
    let key: Key = format!("calvin/{ENVIRONMENT}/coordinator").parse().unwrap();
    let session = async || {
        let read = consul.kv_get(&key, Consistency::Consistent).await.unwrap();
        read.value.and_then(|entry| entry.session)
    };
    let first = session().await.unwrap();
    consul.session_destroy(&first).await.unwrap();
    assert_eq!(session().await, None);
    until("another session", async || match session().await {
        Some(other) if other != first => Ok(()),
        other => Err(other),
    })
    .await;
    let log = environment.log();
    assert!(
        log.contains("the session of the environment's lock is gone"),
        "{log}"
    );
    environment.operator.status().await.unwrap();
}

/// A session of somebody who renews it without end.
async fn strangers_session(consul: &Client) -> SessionId {
    let request = SessionRequest {
        name: "a stranger".to_owned(),
        ttl: None,
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        node_checks: Vec::new(),
    };
    consul.session_create(&request).await.unwrap()
}

/// How far each agent has counted its reports, as the coordinator heard it.
async fn reported(environment: &Environment) -> BTreeMap<String, u64> {
    let status = environment.operator.status().await.unwrap();
    let fleets = status.fleets.into_iter();
    let instances = fleets.flat_map(|fleet| fleet.instances);
    instances
        .map(|one| (one.id, one.report.unwrap_or_default().sequence))
        .collect()
}

#[tokio::test]
async fn a_lock_that_stays_lost_stops_decisions_and_neither_sessions_nor_status() {
    let (datacenter, consul, token) = datacenter().await;
    let environment = environment(&datacenter, &token).await;
    for version in ["1.0", "2.0"] {
        add_web(&environment, version).await;
    }
    let _player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "60s",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    until_phase(&environment, "done").await;
    let blue = reported(&environment).await;
    assert_eq!(blue.len(), 2);
    let before = found(&consul, "web").await;

    let key: Key = format!("calvin/{ENVIRONMENT}/coordinator").parse().unwrap();
    let stranger = strangers_session(&consul).await;
    until("the lock", async || {
        let read = consul.kv_get(&key, Consistency::Consistent).await.unwrap();
        if let Some(session) = read.value.and_then(|entry| entry.session) {
            consul.session_destroy(&session).await.unwrap();
        }
        match consul.kv_acquire(&key, vec![], &stranger).await.unwrap() {
            Write::Done => Ok(()),
            Write::Conflict => Err("it has it again"),
        }
    })
    .await;
    let names = format!("has session {stranger}: only one coordinator may decide");
    until("the stranger's name", async || {
        let held = environment.operator.status().await.unwrap().held;
        if held.contains(&names) {
            Ok(())
        } else {
            Err(held)
        }
    })
    .await;
    environment.operator.start("web", "web@2.0").await.unwrap();
    let lost = Instant::now();
    let mut last = reported(&environment).await;
    // Longer than who never had the lock would wait for it.
    while lost.elapsed() < Duration::from_secs(40) {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let now = reported(&environment).await;
        let ids = |of: &BTreeMap<String, u64>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(&now), ids(&blue), "nothing is made");
        let heard = now.iter().all(|(id, sequence)| *sequence > last[id]);
        assert!(heard, "{last:?} {now:?}");
        last = now;
        let held = environment.operator.status().await.unwrap().held;
        assert!(held.contains(&names), "{held}");
    }
    assert_eq!(found(&consul, "web").await, before);

    consul.session_destroy(&stranger).await.unwrap();
    until("the rollout", async || {
        let found = found(&consul, "web").await;
        let active = active(&found);
        let green = active.iter().all(|id| !blue.contains_key(*id));
        if active.len() == 2 && green {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
    until_phase(&environment, "done").await;
    let held = environment.operator.status().await.unwrap().held;
    assert_eq!(held, "");
}
