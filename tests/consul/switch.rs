//! A rollout with Consul as the catalogue, watched from outside, with agents that the test plays.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use calvin_consul::{Client, Consistency, registered};
use calvin_model::CatalogueRole::{Active, Entered};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    coordinator::{add_web, datacenter, environment, registration},
    support::{
        Datacenter,
        datacenter::MANAGEMENT,
        environment::Environment,
        files::{Fleet, PORT, custom_image},
        home::{ENVIRONMENT, coordinator_token, of_environment, prepare},
        player::Player,
        until,
    },
};

/// Who is found under the service's own name, with its tags.
pub(crate) async fn found(consul: &Client, name: &str) -> BTreeMap<String, Vec<String>> {
    let read = consul.service_health(name, Consistency::Consistent).await;
    let entries = read.unwrap().value.into_iter();
    entries
        .map(|one| {
            let instance = one.service.meta[registered::INSTANCE].clone();
            (instance, one.service.tags)
        })
        .collect()
}

pub(crate) fn active(found: &BTreeMap<String, Vec<String>>) -> Vec<&str> {
    let is_active = |tags: &&Vec<String>| tags.iter().any(|tag| tag == registered::ACTIVE);
    let active = found.iter().filter(|(_, tags)| is_active(tags));
    active.map(|(instance, _)| &**instance).collect()
}

/// What an observer saw: every set of active instances, each once in a row.
struct Observer {
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    _task: JoinSet<()>,
}

fn note(seen: &Mutex<Vec<Vec<String>>>, now: Vec<String>) {
    let mut seen = seen.lock().unwrap();
    if seen.last() != Some(&now) {
        seen.push(now);
    }
}

impl Observer {
    fn start(consul: Client) -> Self {
        let seen: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let into = Arc::clone(&seen);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let all = found(&consul, "web").await;
                let now: Vec<String> = active(&all).into_iter().map(str::to_owned).collect();
                note(&into, now);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { seen, _task: task }
    }

    fn seen(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) async fn phase(environment: &Environment) -> (String, String) {
    let status = environment.operator.status().await.unwrap();
    let fleet = status.fleets.into_iter().find(|fleet| fleet.name == "web");
    let rollout = fleet.and_then(|fleet| fleet.rollout).unwrap_or_default();
    let waits = rollout.waiting.iter().map(|one| one.what.clone());
    (rollout.phase, waits.collect::<Vec<_>>().join("; "))
}

pub(crate) async fn until_phase(environment: &Environment, wanted: &str) {
    until(wanted, async || match phase(environment).await {
        (phase, _) if phase == wanted => Ok(()),
        (phase, waits) if phase == "failed" => panic!("it failed: {waits}"),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn a_switch_is_one_change_and_so_is_the_way_back() {
    let (datacenter, consul, token) = datacenter().await;
    let environment = environment(&datacenter, &token).await;
    for version in ["1.0", "2.0"] {
        add_web(&environment, version).await;
    }
    let player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "60s",
        bake: "10m",
        ..Fleet::new("web", "web@1.0", 3)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    until_phase(&environment, "done").await;
    let blue = found(&consul, "web").await;
    assert_eq!(active(&blue).len(), 3, "{blue:?}");
    let one = blue.keys().next().unwrap().clone();
    let heard = player.heard(&one);
    let join = heard.join.unwrap().consul.unwrap();
    assert_eq!(
        (join.datacenter.as_str(), &*join.node),
        (ENVIRONMENT, &*one)
    );
    assert_eq!(join.servers.len(), 1);
    assert!(join.ca_pem.starts_with("-----BEGIN CERTIFICATE"));
    // Of what follows from one another at once only the newest is told.
    let told = &heard.registered;
    assert!(told.ends_with(&[Entered, Active]), "{told:?}");
    assert!(told.is_sorted(), "{told:?}");

    // One of blue's agents dies before the switch: its tags change all the same.
    player.kill(&one);
    let observer = Observer::start(consul.clone());
    environment.operator.start("web", "web@2.0").await.unwrap();
    until_phase(&environment, "baking").await;
    let now = found(&consul, "web").await;
    assert_eq!(active(&now).len(), 3, "{now:?}");
    let mut seen = observer.seen();
    assert_eq!(seen.len(), 2, "all at once: {seen:?}");
    assert!(
        active(&now).iter().all(|id| !blue.contains_key(*id)),
        "{now:?}"
    );
    // Who could leave the service's own name did; the dead one is there without the tag.
    assert_eq!(now.get(&one), Some(&vec!["standby".to_owned()]));
    assert_eq!(now.len(), 4, "{now:?}");
    assert_eq!(found(&consul, "web-standby").await.len(), 2);

    let back = crate::support::operator::rollout_request("web");
    environment
        .operator
        .client
        .clone()
        .rollback_rollout(back)
        .await
        .unwrap();
    until("blue to be active again", async || {
        let now = found(&consul, "web").await;
        let is_blue = active(&now).iter().all(|id| blue.contains_key(*id));
        if is_blue && !active(&now).is_empty() {
            Ok(())
        } else {
            Err(now)
        }
    })
    .await;
    seen = observer.seen();
    assert!(seen.iter().all(|active| !active.is_empty()), "{seen:?}");
    until_phase(&environment, "rolled_back").await;
    until("nothing to be left of green", async || {
        let mut left = found(&consul, "web").await;
        left.extend(found(&consul, "web-standby").await);
        left.retain(|id, _| !blue.contains_key(id));
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn services_of_images_that_nobody_uses_need_no_connections() {
    // Below one for each of their names.
    let mut more = of_environment();
    more["limits"] = json!({ "http_max_conns_per_client": 40 });
    let datacenter = Datacenter::start(1, more).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let token = coordinator_token(&datacenter).await;
    let mut environment = prepare(&datacenter, &token);
    environment.use_silent_agent();
    environment.start_coordinator().await;
    add_web(&environment, "1.0").await;
    for number in 0..30 {
        let text = format!(
            "name = \"web\"\nversion = \"0.{number}\"\n[workload]\ncommand = [\"true\"]\n\
             [[service]]\nname = \"web-{number}\"\nport = {PORT}\n"
        );
        let folder = custom_image(environment.home(), "web", &format!("0.{number}"), &text);
        environment.operator.add_image(folder).await.unwrap();
    }
    // Longer than trouble is waited for that may pass by itself.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(25) {
        let status = environment.operator.status().await.unwrap();
        let quiet = status.held.is_empty() && status.notices.is_empty();
        let begins = began.elapsed() < Duration::from_secs(5);
        assert!(quiet || begins, "{status:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let _player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "60s",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    until_phase(&environment, "done").await;
    assert_eq!(active(&found(&consul, "web").await).len(), 2);
}

#[tokio::test]
async fn entries_on_another_node_than_the_machine_s_own_are_nobody_s_and_shown() {
    let (mut datacenter, consul, token) = datacenter().await;
    let mut environment = prepare(&datacenter, &token);
    environment.use_silent_agent();
    environment.start_coordinator().await;
    // Its machines have clients of their own.
    let text = format!(
        "name = \"web\"\nversion = \"1.0\"\n[workload]\ncommand = [\"true\"]\n\
         [[service]]\nname = \"web\"\nport = {PORT}\n"
    );
    let folder = custom_image(environment.home(), "web", "1.0", &text);
    environment.operator.add_image(folder).await.unwrap();
    // And somebody who may registers it on a node that is not its own.
    let _player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 1)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let on_nodes = async || -> BTreeMap<String, Vec<String>> {
        let read = consul.service_health("web", Consistency::Consistent).await;
        let entries = read.unwrap().value.into_iter();
        entries
            .map(|one| (one.node.name, one.service.tags))
            .collect()
    };
    let status = until("an entry that is shown to be foreign", async || {
        let status = environment.operator.status().await.unwrap();
        let mut notices = status.notices.iter();
        let shown = notices.any(|one| one.contains("on node server-0 say that they are of web-"));
        if shown && on_nodes().await.contains_key("server-0") {
            Ok(status)
        } else {
            Err(status)
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(on_nodes().await["server-0"], ["standby"]);

    let instance = status.fleets[0].instances[0].id.clone();
    let more = json!({ "tls": { "internal_rpc": { "verify_server_hostname": false } } });
    datacenter.add_agent_with(&instance, more).await;
    let own = datacenter.client(&datacenter.agents[0], Some(MANAGEMENT));
    let mut entry = registration(ENVIRONMENT, &instance);
    entry.tags = vec!["standby".to_owned()];
    own.register(&entry).await.unwrap();
    until_phase(&environment, "done").await;
    let found = on_nodes().await;
    assert_eq!(found["server-0"], ["standby"], "{found:?}");
    assert_eq!(found[&instance], ["active"], "{found:?}");
}
