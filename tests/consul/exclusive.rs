//! Exclusive fleets with Consul as the catalogue: the coordinator's half of the lock.

use std::time::{Duration, Instant};

use calvin_consul::{
    Client, Consistency, Key, SessionId,
    exclusive::{LEASE, TTL, lock_key, locks_prefix},
    kv::{Entry, Write},
    roles::{TagChange, TagsOutcome},
    session::{Behavior, SessionRequest},
    txn::Op,
};
use serde_json::json;

use crate::{
    coordinator::{add_web_that_works, datacenter, environment},
    registration::service,
    support::{
        Datacenter, agent, coordinator, environment::Environment, files::Fleet, home::ENVIRONMENT,
        operator::fleet_request, player::Player, shared, until,
    },
    switch::{active, found, phase, until_phase},
    transactions::leader,
};

/// Records the web image, whose work begins when it is active.
pub(crate) async fn add_web(environment: &Environment, version: &str) {
    add_web_that_works(environment, version, "on_active").await;
}

pub(crate) fn fleet() -> String {
    let fleet = Fleet {
        healthy_deadline: "60s",
        ..Fleet::new("web", "web@1.0", 1)
    };
    let count = "count = 1\n";
    let text = fleet.toml();
    assert!(text.contains(count), "{text}");
    text.replace(count, "count = 1\nkind = \"exclusive\"\n")
}

pub(crate) fn key() -> Key {
    lock_key(&ENVIRONMENT.parse().unwrap(), &"web".parse().unwrap()).unwrap()
}

async fn lock(consul: &Client) -> Option<Entry> {
    let read = consul.kv_get(&key(), Consistency::Consistent).await;
    read.unwrap().value
}

/// Who holds the lock, by its value.
async fn holder(consul: &Client) -> Option<String> {
    let entry = lock(consul).await.filter(|entry| entry.session.is_some())?;
    Some(String::from_utf8(entry.value).unwrap())
}

/// A fleet of one that is at work with its lock, and another image for it.
async fn at_work() -> (Datacenter, Client, Environment, Player) {
    let (datacenter, consul, token) = datacenter().await;
    let environment = environment(&datacenter, &token).await;
    for version in ["1.0", "2.0"] {
        add_web(&environment, version).await;
    }
    let player = Player::start(&environment, &datacenter);
    player.lend_locks(Some(consul.clone()));
    environment.operator.apply(&fleet()).await.unwrap();
    until_phase(&environment, "done").await;
    (datacenter, consul, environment, player)
}

async fn until_free(consul: &Client) {
    until("the lock to run out", async || match holder(consul).await {
        None => Ok(()),
        other => Err(other),
    })
    .await;
}

async fn session(consul: &Client, name: &str) -> SessionId {
    let request = SessionRequest {
        name: name.to_owned(),
        ttl: None,
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        node_checks: Vec::new(),
    };
    consul.session_create(&request).await.unwrap()
}

async fn until_waits(environment: &Environment, text: &str) {
    until(text, async || match phase(environment).await {
        (_, waits) if waits.contains(text) => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn a_switch_waits_until_green_holds_the_lock() {
    let (_datacenter, consul, environment, player) = at_work().await;
    let blue = holder(&consul).await.unwrap();
    assert_eq!(active(&found(&consul, "web").await), [&*blue]);

    // Green is told to be active and says that it is, without the lock.
    player.lend_locks(None);
    environment.operator.start("web", "web@2.0").await.unwrap();
    until_phase(&environment, "switching").await;
    until_waits(
        &environment,
        "to take the lock of its fleet, which nobody holds",
    )
    .await;
    assert_eq!(holder(&consul).await, None, "blue gave it back");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(active(&found(&consul, "web").await), [""; 0]);

    // Somebody takes it by hand: nor is green active then, and people see who has it.
    let by_hand = session(&consul, "by hand").await;
    let taken = consul
        .kv_acquire(&key(), b"by hand".to_vec(), &by_hand)
        .await;
    assert_eq!(taken.unwrap(), Write::Done);
    until_waits(&environment, &format!("which session {by_hand} holds")).await;
    until("the whole sentence", async || {
        let status = environment.operator.status().await.unwrap();
        let text = format!("{status:?}");
        let what = format!("to take the lock {}, which session {by_hand} holds", key());
        text.contains(&what).then_some(()).ok_or(text)
    })
    .await;
    assert_eq!(active(&found(&consul, "web").await), [""; 0]);
    consul.session_destroy(&by_hand).await.unwrap();
    player.lend_locks(Some(consul.clone()));
    until_phase(&environment, "done").await;
    let green = holder(&consul).await.unwrap();
    assert_ne!(green, blue);
    assert_eq!(active(&found(&consul, "web").await), [&*green]);

    // Its agent dies and its lock with it: that alone changes no tag.
    player.kill(&green);
    until_free(&consul).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(active(&found(&consul, "web").await), [&*green]);
}

#[tokio::test]
async fn a_blue_that_nobody_hears_has_stopped_when_its_lock_has_run_out() {
    let (_datacenter, consul, environment, player) = at_work().await;
    let blue = holder(&consul).await.unwrap();
    // Its provider says that its machine is there, and its agent says nothing more.
    player.end(&blue);
    let ended = Instant::now();
    environment.operator.start("web", "web@2.0").await.unwrap();
    until_phase(&environment, "stopping").await;
    until_free(&consul).await;
    assert!(ended.elapsed() >= TTL - Duration::from_secs(1));
    let free = Instant::now();
    until("green's lock", async || match holder(&consul).await {
        Some(green) if green != blue => Ok(()),
        other => Err((other, phase(&environment).await)),
    })
    .await;
    // Nor before a lease is over, which a person who ends a session by hand does not wait for.
    assert!(free.elapsed() >= LEASE - Duration::from_secs(2), "{free:?}");
    until_phase(&environment, "done").await;
    let green = holder(&consul).await.unwrap();
    assert_eq!(active(&found(&consul, "web").await), [&*green]);
}

#[tokio::test]
async fn a_lock_that_is_stolen_between_look_and_transaction_changes_nothing() {
    let datacenter = shared();
    let consul = coordinator(datacenter, "excl").await;
    let machine = agent(datacenter, &consul, "excl", &["excl"]).await;
    machine.register(&service("excl", vec![])).await.unwrap();
    let look = async || {
        let read = consul.service_health("excl", Consistency::Consistent).await;
        read.unwrap().value
    };
    let seen = until("the registration", async || {
        look().await.pop().ok_or("not there")
    })
    .await;
    let environment = "excl".parse().unwrap();
    let lock = lock_key(&environment, &"excl".parse().unwrap()).unwrap();
    assert!(lock.as_str().starts_with(&locks_prefix(&environment)));
    let own = "calvin/excl/".parse().unwrap();
    let (key, coordinators) = leader(&consul, &own).await;
    let green = session(&machine, "green").await;
    let other = session(&machine, "other").await;
    let acquire = async |session: &SessionId| {
        let acquired = machine.kv_acquire(&lock, b"excl-a".to_vec(), session).await;
        assert_eq!(acquired.unwrap(), Write::Done);
    };
    acquire(&green).await;
    let guards = |session: &SessionId| {
        let check = |key: &Key, session: &SessionId| Op::CheckSession {
            key: key.clone(),
            session: session.clone(),
        };
        [check(&key, &coordinators), check(&lock, session)]
    };
    let change = TagChange {
        node: seen.node.name.clone(),
        service: seen.service.clone(),
        tags: vec!["active".to_owned()],
    };
    machine.session_destroy(&green).await.unwrap();
    acquire(&other).await;
    let changes = std::slice::from_ref(&change);
    let stopped = consul.change_tags(&guards(&green), changes).await.unwrap();
    let TagsOutcome::Stopped { done: 0, failures } = stopped else {
        panic!("{stopped:?}");
    };
    assert_eq!(failures[0].op_index, usize::MAX, "{failures:?}");
    assert_eq!(look().await[0].service, seen.service);
    let held = consul.change_tags(&guards(&other), changes).await.unwrap();
    assert!(matches!(held, TagsOutcome::Held(_)), "{held:?}");
    machine.session_destroy(&other).await.unwrap();
    machine.deregister(&seen.service.id).await.unwrap();
}

#[tokio::test]
async fn a_machine_may_hold_its_own_fleet_s_lock_on_its_own_node_and_nothing_else() {
    let (mut datacenter, consul, token) = datacenter().await;
    let mut environment = environment(&datacenter, &token).await;
    add_web(&environment, "1.0").await;
    let player = Player::start(&environment, &datacenter);
    environment.operator.apply(&fleet()).await.unwrap();
    let (instance, secret) = until("a machine that joins", async || {
        let status = environment.operator.status().await.unwrap();
        let fleets = status.fleets.into_iter();
        let mut all = fleets.flat_map(|fleet| fleet.instances);
        let instance = all.next().ok_or("no instance")?.id;
        let join = player.heard(&instance).join.ok_or("not told yet")?;
        let token = join.consul.and_then(|join| join.token).ok_or("no token")?;
        Ok::<_, &str>((instance, token.expose().to_owned()))
    })
    .await;
    let more = json!({ "tls": { "internal_rpc": { "verify_server_hostname": false } } });
    datacenter.add_agent_with(&instance, more).await;
    let own = datacenter.client(&datacenter.agents[0], Some(&secret));
    let elsewhere = datacenter.client(&datacenter.servers[0], Some(&secret));

    let held = session(&own, "its own").await;
    let value = || instance.clone().into_bytes();
    let acquired = own.kv_acquire(&key(), value(), &held).await.unwrap();
    assert_eq!(acquired, Write::Done);
    assert!(own.session_renew(&held).await.unwrap().is_some());
    for other in ["web-eu", "webs", "db", "web/x"] {
        let other: Key = format!("calvin/{ENVIRONMENT}/locks/{other}")
            .parse()
            .unwrap();
        let denied = own.kv_acquire(&other, value(), &held).await.unwrap_err();
        assert!(denied.is_denied(), "{other}: {denied}");
    }
    let request = SessionRequest {
        name: "on another node".to_owned(),
        ttl: None,
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        node_checks: Vec::new(),
    };
    let denied = elsewhere.session_create(&request).await.unwrap_err();
    assert!(denied.is_denied(), "{denied}");
    let foreign = session(&consul, "another's").await;
    let denied = own.session_destroy(&foreign).await.unwrap_err();
    assert!(denied.is_denied(), "{denied}");
    let _ = own.kv_release(&key(), value(), &held).await.unwrap();
    own.session_destroy(&held).await.unwrap();

    // A token from before its fleet had a lock gets the right.
    let name = format!("calvin-{ENVIRONMENT}-lock-{instance}");
    let policy = consul.policy(&name).await.unwrap().unwrap();
    environment.kill_coordinator();
    consul.policy_delete(&policy).await.unwrap();
    environment.start_coordinator().await;
    until("the right again", async || {
        let tokens = consul.tokens().await.unwrap();
        let description = format!("calvin {ENVIRONMENT} {instance}");
        let token = tokens
            .into_iter()
            .find(|one| one.description == description);
        let policies = token.unwrap().policies;
        let has = policies.iter().any(|policy| policy.name == name);
        has.then_some(()).ok_or(policies)
    })
    .await;

    let mut operator = environment.operator.client.clone();
    operator.delete_fleet(fleet_request("web")).await.unwrap();
    until("the right to go with it", async || {
        match consul.policy(&name).await.unwrap() {
            None => Ok(()),
            Some(policy) => Err(policy),
        }
    })
    .await;
}
