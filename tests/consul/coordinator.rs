//! A coordinator whose catalogue is Consul: its lock, its datacenter, the tokens of its machines, and
//! what it takes out of the catalogue.

mod lost;

use std::{collections::BTreeMap, time::Duration};

use calvin_consul::{
    Client, Consistency, Key, agent::ServiceRegistration, catalog::Weights, registered,
};
use calvin_model::{ImageManifest, InstanceId};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    Datacenter,
    datacenter::MANAGEMENT,
    environment::Environment,
    files::{self, Fleet, PORT},
    home::{ENVIRONMENT, coordinator_token, of_environment, prepare},
    operator::fleet_request,
    until,
};

/// The datacenter of an environment, a client that may do everything, and the coordinator's token.
pub(crate) async fn datacenter() -> (Datacenter, Client, String) {
    let datacenter = Datacenter::start(1, of_environment()).await;
    let management = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let token = coordinator_token(&datacenter).await;
    (datacenter, management, token)
}

/// Its environment, with a coordinator and no agents.
pub(crate) async fn environment(datacenter: &Datacenter, token: &str) -> Environment {
    let mut environment = prepare(datacenter, token);
    environment.use_silent_agent();
    environment.start_coordinator().await;
    environment
}

async fn holder(consul: &Client) -> Option<serde_json::Value> {
    let key: Key = format!("calvin/{ENVIRONMENT}/coordinator").parse().unwrap();
    let read = consul.kv_get(&key, Consistency::Consistent).await.unwrap();
    let entry = read.value.filter(|entry| entry.session.is_some())?;
    Some(serde_json::from_slice(&entry.value).unwrap())
}

/// Makes what an image says that of one whose machines register with a client that somebody else runs: those
/// that are played have no node of their own.
pub(crate) fn played(text: &str) -> String {
    format!("{text}[consul]\naddress = \"http://127.0.0.1:8500\"\n")
}

/// Records the web image, whose service is `web`.
pub(crate) async fn add_web(environment: &Environment, version: &str) {
    add_web_that_works(environment, version, "boot").await;
}

/// The same, whose work begins as this says.
pub(crate) async fn add_web_that_works(environment: &Environment, version: &str, work: &str) {
    let text = played(&format!(
        "name = \"web\"\nversion = \"{version}\"\n[workload]\ncommand = [\"true\"]\nwork = \"{work}\"\n\
         [[service]]\nname = \"web\"\nport = {PORT}\n"
    ));
    let folder = files::custom_image(environment.home(), "web", version, &text);
    environment.operator.add_image(folder).await.unwrap();
}

#[tokio::test]
async fn one_coordinator_has_the_lock_and_a_second_one_ends_with_its_name() {
    let (datacenter, consul, token) = datacenter().await;
    let mut first = environment(&datacenter, &token).await;
    let held = holder(&consul).await.unwrap();
    assert_eq!(held["pid"], first.coordinator_id());
    until("its epoch beside its name", async || {
        let held = holder(&consul).await.unwrap();
        if held["epoch"] == 1 {
            Ok(())
        } else {
            Err(held)
        }
    })
    .await;

    let mut second = prepare(&datacenter, &token);
    second.use_silent_agent();
    second.start_program("calvin", &[]);
    let started = Instant::now();
    ends_with_the_name_of(&first, &mut second).await;
    // Longer than Consul keeps the session of one that died.
    assert!(started.elapsed() >= Duration::from_secs(30));

    // One that was killed comes back at once: the session is its own.
    first.kill_coordinator();
    let started = Instant::now();
    first.start_coordinator().await;
    assert!(started.elapsed() < Duration::from_secs(10));
    until("the lock again", async || match holder(&consul).await {
        Some(held) if held["pid"] == first.coordinator_id() => Ok(()),
        other => Err(other),
    })
    .await;

    // At a clean end it is given back, and the other need not wait.
    first.signal_coordinator(Signal::SIGTERM);
    assert_eq!(first.coordinator_ended().await, Some(0));
    assert_eq!(holder(&consul).await, None);
    let started = Instant::now();
    second.start_coordinator().await;
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Ends, and says who holds the lock.
async fn ends_with_the_name_of(first: &Environment, second: &mut Environment) {
    assert_ne!(second.coordinator_ended().await, Some(0));
    let log = second.log();
    let name = format!("process {} on host", first.coordinator_id());
    assert!(
        log.contains(&name) && log.contains("stop that one"),
        "{log}"
    );
}

#[tokio::test]
async fn a_second_coordinator_ends_also_when_consul_is_silent_while_it_waits() {
    let (datacenter, consul, token) = datacenter().await;
    let mut first = prepare(&datacenter, &token);
    first.use_silent_agent();
    first.start_coordinator().await;
    let mut second = prepare(&datacenter, &token);
    second.use_silent_agent();
    second.start_program("calvin", &[]);
    until("the second one to wait", async || {
        let log = second.log();
        let waits = log.contains("waiting, should it be dead");
        waits.then_some(()).ok_or(log)
    })
    .await;
    let server = &datacenter.servers[0];
    server.signal(Signal::SIGSTOP);
    // Longer than a request is waited for, and shorter than the first one's session lives.
    tokio::time::sleep(Duration::from_secs(7)).await;
    server.signal(Signal::SIGCONT);
    ends_with_the_name_of(&first, &mut second).await;
    let held = holder(&consul).await.unwrap();
    assert_eq!(held["pid"], first.coordinator_id());
}

#[tokio::test]
async fn a_second_coordinator_ends_also_when_consul_was_away_at_its_start() {
    let (mut datacenter, consul, token) = datacenter().await;
    let mut first = prepare(&datacenter, &token);
    first.use_silent_agent();
    first.start_coordinator().await;
    datacenter.servers[0].kill();
    let mut second = prepare(&datacenter, &token);
    second.use_silent_agent();
    second.start_coordinator().await;
    datacenter.servers[0].start_again();
    datacenter.until_it_leads().await;
    ends_with_the_name_of(&first, &mut second).await;
    let held = holder(&consul).await.unwrap();
    assert_eq!(held["pid"], first.coordinator_id());
}

#[tokio::test]
async fn a_coordinator_of_another_environment_does_not_start() {
    let datacenter = Datacenter::start(1, json!({})).await;
    let token = coordinator_token(&datacenter).await;
    let mut environment = prepare(&datacenter, &token);
    environment.use_silent_agent();
    environment.start_program("calvin", &[]);
    assert_ne!(environment.coordinator_ended().await, Some(0));
    let log = environment.log();
    assert!(
        log.contains("datacenter calvin-test") && log.contains("environment test"),
        "{log}"
    );
}

/// Descriptions of the tokens of machines.
pub(crate) async fn tokens(consul: &Client) -> Vec<String> {
    let tokens = consul.tokens().await.unwrap();
    let descriptions = tokens.into_iter().map(|token| token.description);
    descriptions
        .filter(|one| one.starts_with(&format!("calvin {ENVIRONMENT} ")))
        .collect()
}

#[tokio::test]
async fn each_machine_has_a_token_until_it_is_gone() {
    let (datacenter, consul, token) = datacenter().await;
    let mut environment = environment(&datacenter, &token).await;
    add_web(&environment, "1.0").await;
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let two = until("a token for each", async || {
        let found = tokens(&consul).await;
        if found.len() == 2 {
            Ok(found)
        } else {
            Err(found)
        }
    })
    .await;
    // A coordinator that starts again makes none twice.
    environment.kill_coordinator();
    environment.start_coordinator().await;
    until("its lock", async || holder(&consul).await.ok_or("none")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut again = tokens(&consul).await;
    again.sort();
    let mut before = two.clone();
    before.sort();
    assert_eq!(again, before);

    // Its coordinator's token is replaced by another one in its file, and the old one is revoked.
    let renewed = consul
        .token_create(&calvin_consul::acl::TokenRequest {
            description: "coordinator again".to_owned(),
            policies: vec!["calvin-coordinator".to_owned()],
            ..calvin_consul::acl::TokenRequest::default()
        })
        .await
        .unwrap();
    let file = environment.home().join("token");
    std::fs::write(file, renewed.secret.secret()).unwrap();
    until("the other token", async || {
        let log = environment.log();
        let taken = log.contains("took another token for Consul");
        taken.then_some(()).ok_or("not taken")
    })
    .await;
    let old = consul.tokens().await.unwrap();
    let old = old.iter().find(|one| one.description == "coordinator");
    consul.token_revoke(&old.unwrap().accessor).await.unwrap();

    let delete = fleet_request("web");
    let mut operator = environment.operator.client.clone();
    operator.delete_fleet(delete).await.unwrap();
    until("both tokens to go", async || {
        let found = tokens(&consul).await;
        if found.is_empty() { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(environment.log().contains("read it back as gone"));
}

/// A registration as an agent makes it, for this instance of this environment.
pub(crate) fn registration(environment: &str, instance: &str) -> ServiceRegistration {
    let text = "name = \"web\"\nversion = \"1.0\"\n[[service]]\nname = \"web\"\nport = 80\n";
    let manifest = ImageManifest::parse("image.toml", text).unwrap();
    let service = &manifest.services[0];
    let id: InstanceId = instance.parse().unwrap();
    let meta = [
        (registered::ENVIRONMENT, environment),
        (registered::FLEET, "web"),
        (registered::INSTANCE, instance),
    ];
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    ServiceRegistration {
        id: registered::id("web", &id),
        name: "web".to_owned(),
        tags: registered::tags(service, calvin_model::CatalogueRole::Active),
        address: "127.0.0.9".to_owned(),
        port: 80,
        meta: meta.map(pair).into(),
        tagged_addresses: BTreeMap::new(),
        weights: Weights::default(),
        enable_tag_override: true,
        checks: Vec::new(),
    }
}

#[tokio::test]
async fn what_is_left_of_a_dead_machine_goes_and_what_is_foreign_or_lives_stays() {
    let (mut datacenter, consul, token) = datacenter().await;
    // Two machines of this environment that no record knows, one of which lives; and a stranger's.
    let ours = |instance: &str| {
        let meta = json!({
            registered::ENVIRONMENT: ENVIRONMENT,
            registered::FLEET: "web",
            registered::INSTANCE: instance,
        });
        json!({
            "node_meta": meta,
            "tls": { "internal_rpc": { "verify_server_hostname": false } },
        })
    };
    for node in ["web-dead2222", "web-lives333", "web-other444"] {
        let mut more = ours(node);
        if node == "web-other444" {
            more["node_meta"] = json!({ registered::ENVIRONMENT: "production" });
        }
        datacenter.add_agent_with(node, more).await;
    }
    let mut foreign_id = registration(ENVIRONMENT, "web-dead2222");
    foreign_id.id = "web-1".to_owned();
    let [dead, lives, other] =
        [0, 1, 2].map(|index| datacenter.client(&datacenter.agents[index], Some(MANAGEMENT)));
    dead.register(&registration(ENVIRONMENT, "web-dead2222"))
        .await
        .unwrap();
    lives
        .register(&registration(ENVIRONMENT, "web-lives333"))
        .await
        .unwrap();
    other
        .register(&registration("production", "web-other444"))
        .await
        .unwrap();
    other.register(&foreign_id).await.unwrap();

    let environment = environment(&datacenter, &token).await;
    add_web(&environment, "1.0").await;
    let ids = async || {
        let read = consul.service_health("web", Consistency::Consistent).await;
        let found = read.unwrap().value;
        let mut ids: Vec<_> = found.into_iter().map(|one| one.service.id).collect();
        ids.sort();
        ids
    };
    let nodes = async || {
        let nodes = consul.nodes(Consistency::Consistent).await.unwrap().value;
        let mut names: Vec<_> = nodes.into_iter().map(|node| node.name).collect();
        names.sort();
        names
    };
    let all = [
        "web-1",
        "web:web-dead2222",
        "web:web-lives333",
        "web:web-other444",
    ];
    // While they live, nothing of it is touched: perhaps the record is what is missing.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ids().await, all);

    for index in [0, 2] {
        datacenter.agents[index].kill();
    }
    until("the dead one's entry to go", async || match ids().await {
        left if left == ["web-1", "web:web-lives333", "web:web-other444"] => Ok(()),
        other => Err(other),
    })
    .await;
    until("its node to go", async || match nodes().await {
        left if left == ["server-0", "web-lives333", "web-other444"] => Ok(()),
        other => Err(other),
    })
    .await;
    let lines = environment.operator.history("").await.into_iter();
    let taken: Vec<String> = lines
        .filter(|line| line.kind == "catalogue")
        .map(|line| format!("{} {}", line.instance, line.text))
        .collect();
    // Its node, with what was left on it; the entry has a line of its own where it went first: no instance on
    // record has such a service, and it is asked for seldom.
    let of_node = taken.iter().filter(|one| one.contains("the node of"));
    assert_eq!(of_node.count(), 1, "{taken:?}");
    assert!(taken.len() <= 2, "{taken:?}");
    assert!(
        taken.iter().all(|one| one.starts_with("web-dead2222 ")),
        "{taken:?}"
    );
    // Gossip of the stranger's machine says that it is dead, too.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ids().await.len(), 3);
    assert_eq!(nodes().await.len(), 3);
}
