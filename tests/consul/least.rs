//! The least policies: what they are enough for is what the other tests do with them; here is what
//! they are not enough for, and that an agent and a coordinator know where they are.

use calvin_consul::{
    Consistency, Key,
    session::{Behavior, SessionRequest},
};

use crate::{
    registration::service,
    support::{agent, coordinator, datacenter::NAME, shared, shared::NODE},
};

#[tokio::test]
async fn coordinator_and_agent_learn_where_they_are() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "least-who").await;
    let agent = agent(datacenter, &coordinator, "least-who", &["least-who"]).await;
    let server = coordinator.agent_self().await.unwrap();
    assert_eq!(
        (&*server.datacenter, &*server.node_name),
        (NAME, "server-0")
    );
    assert!(
        server.server && server.version.starts_with("1.22"),
        "{server:?}"
    );
    let own = agent.agent_self().await.unwrap();
    assert_eq!(
        (&*own.datacenter, &*own.node_name, own.server),
        (NAME, NODE, false)
    );
    assert!(agent.leader().await.unwrap().is_some());
}

#[tokio::test]
async fn an_agent_may_do_nothing_to_what_is_not_its_own() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "least-own").await;
    let own = agent(datacenter, &coordinator, "least-own", &["least-own"]).await;
    let other = agent(datacenter, &coordinator, "least-own2", &["least-own2"]).await;
    own.register(&service("least-own", vec![])).await.unwrap();
    // Before it was ever active it has another name.
    own.register(&service("least-own-standby", vec![]))
        .await
        .unwrap();
    let foreign: Key = "calvin/least-own/leader".parse().unwrap();
    let lock: Key = "calvin/least-own/locks/least-own".parse().unwrap();
    own.kv_put(&lock, vec![]).await.unwrap();

    assert!(
        other
            .deregister("least-own-1")
            .await
            .unwrap_err()
            .is_denied()
    );
    assert!(
        other
            .register(&service("least-own", vec![]))
            .await
            .unwrap_err()
            .is_denied()
    );
    assert!(other.kv_put(&lock, vec![]).await.unwrap_err().is_denied());
    assert!(own.kv_put(&foreign, vec![]).await.unwrap_err().is_denied());
    assert!(
        own.deregister_ghost_node("server-0")
            .await
            .unwrap_err()
            .is_denied()
    );
    assert!(own.tokens().await.unwrap_err().is_denied());
    // A session on another node: it would hold locks in that one's name.
    let at_server = datacenter.client(&datacenter.servers[0], None);
    let session = SessionRequest {
        name: "test".to_owned(),
        ttl: None,
        lock_delay: std::time::Duration::ZERO,
        behavior: Behavior::Delete,
        node_checks: vec![],
    };
    assert!(
        at_server
            .session_create(&session)
            .await
            .unwrap_err()
            .is_denied()
    );
    // But it sees what others have: names are looked up by everybody.
    let seen = other
        .service_health("least-own", Consistency::Default)
        .await;
    assert!(seen.is_ok(), "{seen:?}");
    for id in ["least-own-1", "least-own-standby-1"] {
        own.deregister(id).await.unwrap();
    }
}
