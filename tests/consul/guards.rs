//! What the coordinator writes is written only while the lock is its own, however long ago that was seen:
//! each of its transactions checks that first. And what cannot be written keeps nobody waiting.

use std::time::Duration;

use calvin_consul::{Client, Consistency, registered};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    coordinator::add_web,
    exclusive,
    support::{
        Datacenter,
        between::{Between, Transaction, plain_datacenter},
        datacenter::MANAGEMENT,
        environment::Environment,
        files::Fleet,
        home::{ENVIRONMENT, coordinator_token, prepare},
        player::Player,
        until,
    },
    switch::{active, found, until_phase},
};

fn coordinators() -> String {
    format!("calvin/{ENVIRONMENT}/coordinator")
}

/// An environment whose coordinator has asked for everything through somebody.
async fn begin() -> (Datacenter, Client, Between, Environment) {
    let (datacenter, plain) = plain_datacenter().await;
    let token = coordinator_token(&datacenter).await;
    let between = Between::start(&datacenter, plain).await;
    let mut environment = prepare(&datacenter, &token);
    between.is_asked_by(&environment);
    environment.use_silent_agent();
    environment.start_coordinator().await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    (datacenter, consul, between, environment)
}

fn meta(instance: &str) -> Value {
    json!({
        registered::ENVIRONMENT: ENVIRONMENT,
        registered::FLEET: "web",
        registered::INSTANCE: instance,
    })
}

/// The node of a machine that is gone.
async fn leave_node(between: &Between, instance: &str) {
    let meta = meta(instance);
    let node = json!({ "Node": instance, "Address": "127.0.0.9", "NodeMeta": meta });
    between.register(node).await;
}

/// An entry of one, on a node that says nothing of itself and so stays.
async fn leave_entry(between: &Between, instance: &str) {
    let entry = json!({
        "Node": instance,
        "Address": "127.0.0.9",
        "Service": {
            "ID": format!("web:{instance}"),
            "Service": "web",
            "Tags": ["standby"],
            "Meta": meta(instance),
            "EnableTagOverride": true,
        },
    });
    between.register(entry).await;
}

async fn nodes(consul: &Client) -> Vec<String> {
    let nodes = consul.nodes(Consistency::Consistent).await.unwrap().value;
    let names = nodes.into_iter().map(|node| node.name);
    names.filter(|name| name.starts_with("web-")).collect()
}

/// Whether something of this kind is done so.
fn does(ops: &[Value], kind: &str, verb: &str) -> bool {
    ops.iter().any(|op| op[kind]["Verb"] == verb)
}

fn makes_active(ops: &[Value]) -> bool {
    let mut tags = ops.iter().map(|op| &op["Service"]["Service"]["Tags"]);
    tags.any(|tags| {
        tags.as_array()
            .is_some_and(|tags| tags.contains(&"active".into()))
    })
}

/// The locks that a transaction checks.
fn checks(transaction: &Transaction) -> Vec<&str> {
    let kv = transaction.ops.iter().map(|op| &op["KV"]);
    let checks = kv.filter(|op| op["Verb"] == "check-session");
    checks.filter_map(|op| op["Key"].as_str()).collect()
}

/// The statuses of the transactions of a kind, one after the other.
fn statuses(between: &Between, which: impl Fn(&[Value]) -> bool) -> Vec<u16> {
    let heard = between.heard().into_iter();
    let heard = heard.filter(|one| which(&one.ops));
    heard.map(|one| one.status).collect()
}

#[tokio::test]
async fn a_lock_that_is_lost_between_decision_and_write_undoes_the_write() {
    let (datacenter, consul, between, environment) = begin().await;
    exclusive::add_web(&environment, "1.0").await;
    let player = Player::start(&environment, &datacenter);
    player.lend_locks(Some(consul.clone()));
    // The coordinator's own lock first, and when that is back the one of who becomes active.
    between.ends_before(makes_active, &coordinators());
    between.ends_before(makes_active, exclusive::key().as_str());
    environment
        .operator
        .apply(&exclusive::fleet())
        .await
        .unwrap();
    until_phase(&environment, "done").await;
    let switched = statuses(&between, makes_active);
    assert_eq!(switched[..2], [409, 409], "{switched:?}");
    assert_eq!(switched.last(), Some(&200), "{switched:?}");
    assert_eq!(active(&found(&consul, "web").await).len(), 1);

    let entry = |ops: &[Value]| does(ops, "Service", "delete-cas");
    let node = |ops: &[Value]| does(ops, "Node", "delete-cas");
    between.ends_before(entry, &coordinators());
    between.ends_before(node, &coordinators());
    leave_entry(&between, "web-entry222").await;
    leave_node(&between, "web-node2222").await;
    until("nothing to be left of them", async || {
        let nodes = nodes(&consul).await;
        let found = found(&consul, "web").await;
        let is_left = nodes.iter().any(|node| node == "web-node2222");
        if is_left || found.contains_key("web-entry222") {
            Err((nodes, found))
        } else {
            Ok(())
        }
    })
    .await;
    for taken in [statuses(&between, node), statuses(&between, entry)] {
        assert_eq!(taken.first(), Some(&409), "{taken:?}");
        assert!(taken.contains(&200), "{taken:?}");
    }

    for one in between.heard() {
        let locks = checks(&one);
        let own = coordinators();
        assert_eq!(locks.first(), Some(&&*own), "{one:?}");
        let of_fleet = locks.contains(&exclusive::key().as_str());
        assert_eq!(of_fleet, makes_active(&one.ops), "{one:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_out_keeps_nobody_waiting() {
    let (datacenter, consul, between, environment) = begin().await;
    add_web(&environment, "1.0").await;
    let player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 1)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    until_phase(&environment, "done").await;
    // Consul is asked for 5 s each time, and answers none that writes.
    between.hangs(true);
    for number in 10..30 {
        leave_node(&between, &format!("web-gone22{number}")).await;
    }
    // By then it knows of all of them.
    until("some that wait", async || match between.hung() {
        few @ 0..3 => Err(few),
        _ => Ok(()),
    })
    .await;
    let began = Instant::now();
    environment.operator.scale("web", 2).await.unwrap();
    until(
        "another machine that is told to be registered",
        async || {
            let status = environment.operator.status().await.unwrap();
            let instances = status.fleets.into_iter().flat_map(|fleet| fleet.instances);
            let told = instances.map(|one| player.heard(&one.id).registered);
            let told: Vec<_> = told.collect();
            if told.iter().filter(|told| !told.is_empty()).count() == 2 {
                Ok(())
            } else {
                Err(told)
            }
        },
    )
    .await;
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(40), "{waited:?}");
    between.hangs(false);
    until("nothing to be left", async || {
        let left = nodes(&consul).await;
        if left.iter().any(|node| node.starts_with("web-gone22")) {
            Err(left)
        } else {
            Ok(())
        }
    })
    .await;
    until_phase(&environment, "done").await;
}
