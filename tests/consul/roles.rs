//! The tags of many services changed at once, read back, and held against the Consul client that
//! registered them.

use calvin_consul::{
    Client, Consistency, Prefix,
    health::ServiceHealth,
    roles::{TagChange, TagsOutcome},
    txn::Op,
};

use crate::{
    registration::service,
    support::{agent, coordinator, shared, shared::NODE, until},
    transactions::leader,
};

async fn instances(consul: &Client, name: &str) -> Vec<ServiceHealth> {
    let read = consul.service_health(name, Consistency::Consistent).await;
    let mut found = read.unwrap().value;
    found.sort_by(|a, b| a.service.id.cmp(&b.service.id));
    found
}

/// Registers so many instances with the Consul client, and waits for them on the servers.
async fn register(coordinator: &Client, agent: &Client, name: &str, count: usize) {
    for n in 0..count {
        let mut one = service(name, vec![]);
        one.id = format!("{name}-{n:03}");
        one.weights.passing = 7;
        agent.register(&one).await.unwrap();
    }
    until("all instances", async || {
        let found = instances(coordinator, name).await.len();
        if found == count { Ok(()) } else { Err(found) }
    })
    .await;
}

fn tagged(instances: Vec<ServiceHealth>, tag: &str) -> Vec<TagChange> {
    let change = |one: ServiceHealth| TagChange {
        node: one.node.name,
        service: one.service,
        tags: vec![tag.to_owned()],
    };
    instances.into_iter().map(change).collect()
}

#[tokio::test]
async fn a_switch_over_many_services_holds() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "role-all").await;
    let agent = agent(datacenter, &coordinator, "role-all", &["role-all"]).await;
    register(&coordinator, &agent, "role-all", 100).await;
    let prefix: Prefix = "calvin/role-all/".parse().unwrap();
    let (key, session) = leader(&coordinator, &prefix).await;
    let guards = [Op::CheckSession { key, session }];

    let changes = tagged(instances(&coordinator, "role-all").await, "active");
    let outcome = coordinator.change_tags(&guards, &changes).await.unwrap();
    let TagsOutcome::Held(held) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(held.transactions, 2);
    // Nothing but the tags has changed, and the weights are what they were.
    for (change, now) in changes.iter().zip(&held.services) {
        let mut expected = change.service.clone();
        expected.tags = vec!["active".to_owned()];
        expected.modify_index = now.modify_index;
        assert_eq!(*now, expected);
        assert_eq!(now.weights.passing, 7);
    }
    // The Consul client takes the tags from the servers at its next anti-entropy, and also when
    // something else is registered with it meanwhile.
    agent.register(&service("role-all", vec![])).await.unwrap();
    until("the tags on the client", async || {
        let local = agent.local_services().await.unwrap();
        let tags = &local["role-all-000"].tags;
        if tags == &["active"] {
            Ok(())
        } else {
            Err(tags.clone())
        }
    })
    .await;
    for one in instances(&coordinator, "role-all").await {
        let expected = if one.service.id == "role-all-1" {
            "standby"
        } else {
            "active"
        };
        assert_eq!(one.service.tags, [expected], "{}", one.service.id);
    }
}

#[tokio::test]
async fn a_service_that_changed_meanwhile_stops_the_switch() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "role-cas").await;
    let agent = agent(datacenter, &coordinator, "role-cas", &["role-cas"]).await;
    register(&coordinator, &agent, "role-cas", 3).await;
    let changes = tagged(instances(&coordinator, "role-cas").await, "active");
    let one = tagged(
        vec![instances(&coordinator, "role-cas").await.remove(1)],
        "other",
    );
    assert!(matches!(
        coordinator.change_tags(&[], &one).await.unwrap(),
        TagsOutcome::Held(_)
    ));
    let outcome = coordinator.change_tags(&[], &changes).await.unwrap();
    let TagsOutcome::Stopped { done: 0, failures } = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(failures[0].op_index, 1);
    for one in instances(&coordinator, "role-cas").await {
        assert_ne!(one.service.tags, ["active"]);
    }
    // One that is gone stops it too.
    let changes = tagged(instances(&coordinator, "role-cas").await, "active");
    agent.deregister("role-cas-002").await.unwrap();
    until("it gone", async || {
        let found = instances(&coordinator, "role-cas").await.len();
        if found == 2 { Ok(()) } else { Err(found) }
    })
    .await;
    let outcome = coordinator.change_tags(&[], &changes).await.unwrap();
    assert!(
        matches!(outcome, TagsOutcome::Stopped { done: 0, .. }),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_switch_without_the_lock_or_the_right_changes_nothing() {
    let datacenter = shared();
    let own = coordinator(datacenter, "role-deny").await;
    let agent = agent(datacenter, &own, "role-deny", &["role-deny"]).await;
    register(&own, &agent, "role-deny", 2).await;
    let changes = tagged(instances(&own, "role-deny").await, "active");

    let prefix: Prefix = "calvin/role-deny/".parse().unwrap();
    let (key, session) = leader(&own, &prefix).await;
    let guards = [Op::CheckSession {
        key: key.clone(),
        session: session.clone(),
    }];
    own.session_destroy(&session).await.unwrap();
    let outcome = own.change_tags(&guards, &changes).await.unwrap();
    let TagsOutcome::Stopped { done: 0, failures } = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(failures[0].op_index, usize::MAX);

    let other = coordinator(datacenter, "role-else").await;
    let error = other.change_tags(&[], &changes).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
    for one in instances(&own, "role-deny").await {
        assert_eq!(
            (&*one.node.name, &one.service.tags[..]),
            (NODE, &["standby".to_owned()][..])
        );
    }
}
