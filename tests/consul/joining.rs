//! A whole machine that joins Consul: init, agent, workload and a Consul client of its own, which the
//! agent configures and the runner starts. The coordinator's words are scripted, and its part in the
//! catalogue is done by the tests.

mod boots;
mod checks;
mod exclusive;
mod given;
mod machine;
mod names;
mod services;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use calvin_consul::{
    Client, Consistency, Key,
    health::{ServiceHealth, ServiceStatus},
    registered,
    roles::{TagChange, TagsOutcome},
};
use calvin_model::CatalogueRole;
use calvin_proto::wire;

use self::machine::{Kit, Machine, field};
use crate::{
    support::{Datacenter, until},
    testing::INSTANCE,
};

/// What servers lost is there again within this.
const SOON: Duration = Duration::from_secs(20);

/// The instances of a service, as the servers have them.
async fn instances(consul: &Client, name: &str) -> Vec<ServiceHealth> {
    let read = consul.service_health(name, Consistency::Consistent).await;
    read.unwrap().value
}

/// Waits until the servers have our instance under this name, passing.
async fn passing(consul: &Client, name: &str) -> ServiceHealth {
    until(&format!("{name} passing"), async || {
        let found = instances(consul, name).await;
        match found.first() {
            Some(one) if one.status() == ServiceStatus::Passing => Ok(one.clone()),
            Some(_) | None => Err(found),
        }
    })
    .await
}

/// Waits until the servers have our instance failing.
async fn is_critical(consul: &Client) {
    until("critical", async || {
        let found = instances(consul, "web").await;
        let status = found.first().map(ServiceHealth::status);
        if status == Some(ServiceStatus::Critical) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
}

async fn gone(consul: &Client, name: &str) {
    until(&format!("nothing as {name}"), async || {
        let found = instances(consul, name).await;
        if found.is_empty() { Ok(()) } else { Err(found) }
    })
    .await;
}

/// What the coordinator does at the switch.
async fn switch(consul: &Client, machine: &Machine, role: CatalogueRole) {
    let one = passing(consul, "web").await;
    let change = TagChange {
        node: one.node.name,
        service: one.service,
        tags: registered::tags(&machine.manifest().services[0], role),
    };
    let outcome = consul.change_tags(&[], &[change]).await.unwrap();
    assert!(matches!(outcome, TagsOutcome::Held(_)), "{outcome:?}");
}

fn tags(one: &ServiceHealth) -> Vec<&str> {
    one.service.tags.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn an_instance_joins_enters_serves_loses_its_client_and_leaves() {
    let datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 1).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    use wire::CatalogueRole::{Active, Entered, Standby};

    machine.register(Standby).await;
    let one = passing(&consul, "web-standby").await;
    assert_eq!(tags(&one), ["http", "standby"]);
    assert_eq!(one.node.name, INSTANCE);
    assert_eq!(one.node.meta["calvin-instance"], INSTANCE);
    assert!(one.service.enable_tag_override);
    assert_eq!(one.checks.len(), 3, "serfHealth, the port, the agent's");
    machine.registered(Standby).await;

    // Nothing waits for a check's next turn: the interval is ten seconds.
    let began = Instant::now();
    machine.register(Entered).await;
    let one = passing(&consul, "web").await;
    eprintln!("entered after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "it waited");
    assert_eq!(tags(&one), ["http", "standby"]);
    gone(&consul, "web-standby").await;
    machine.registered(Entered).await;

    switch(&consul, &machine, CatalogueRole::Active).await;
    machine.register(Active).await;
    machine.registered(Active).await;
    let one = passing(&consul, "web").await;
    assert_eq!(tags(&one), ["http", "active", "route-/"]);
    names::are_answered(&machine).await;

    // Its client comes back with nothing.
    let began = Instant::now();
    machine.wipe_client().await;
    until("registered again", async || {
        let local = machine.client().local_services().await;
        let found = local.map(|local| local.contains_key(&format!("web:{INSTANCE}")));
        if matches!(found, Ok(true)) {
            Ok(())
        } else {
            Err(found.map_err(|e| e.to_string()))
        }
    })
    .await;
    eprintln!("registered again after {:?}", began.elapsed());
    let one = passing(&consul, "web").await;
    assert_eq!(tags(&one), ["http", "active", "route-/"]);

    // Only an explicit failure takes it out.
    machine.set_disk_full(true);
    is_critical(&consul).await;
    machine.set_disk_full(false);
    passing(&consul, "web").await;

    switch(&consul, &machine, CatalogueRole::Entered).await;
    machine.register(Standby).await;
    passing(&consul, "web-standby").await;
    gone(&consul, "web").await;
    machine.registered(Standby).await;

    // It leaves gossip before it says that it is retired: its machine may be deleted then.
    machine.retire().await;
    machine.cut();
    gone(&consul, "web-standby").await;
    until("the node has left", async || {
        let nodes = consul.nodes(Consistency::Consistent).await.unwrap().value;
        let names: Vec<_> = nodes.into_iter().map(|node| node.name).collect();
        if names.iter().any(|name| name == INSTANCE) {
            Err(names)
        } else {
            Ok(())
        }
    })
    .await;
    let log = datacenter.servers[0].log();
    let says = |event: &str| {
        let mut lines = log.lines();
        lines.any(|line| line.contains(event) && line.contains(INSTANCE))
    };
    assert!(says("EventMemberLeave"));
}

/// Servers that were begun anew know nobody, take no certificate that was given before, and gossip finds
/// only who was known, and seldom.
#[tokio::test]
async fn servers_that_lost_everything_have_it_again_within_seconds() {
    let mut datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 31).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    let domain = consul.trust_domain().await.unwrap();
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;

    let server = &mut datacenter.servers[0];
    server.kill();
    std::fs::remove_dir_all(server.directory.join("data")).unwrap();
    server.start_again();
    datacenter.until_it_leads().await;
    let began = Instant::now();
    assert_ne!(consul.trust_domain().await.unwrap(), domain);
    machine.join_anew(&consul).await;
    let one = passing(&consul, "web").await;
    eprintln!("registered again after {:?}", began.elapsed());
    assert_eq!(one.node.name, INSTANCE);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_machine_that_is_stopped_is_found_by_nobody_before_its_workload_ends() {
    let datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 32).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    machine.registered(wire::CatalogueRole::Entered).await;
    let record = machine.record();
    let (workload, began) = (record.workload.unwrap(), Instant::now());
    let seen = async {
        gone(&consul, "web").await;
        let hidden = began.elapsed();
        eprintln!("found by nobody after {hidden:?}");
        assert!(workload.is_alive(), "its name outlived its workload");
        let ended = until("the workload has ended", async || {
            let alive = workload.is_alive();
            if alive { Err(()) } else { Ok(began.elapsed()) }
        })
        .await;
        let heard = Duration::from_millis(500);
        assert!(ended - hidden > heard, "nobody had time to hear of it");
        ended
    };
    let (took, ()) = tokio::join!(seen, machine.stop());
    assert!(took < Duration::from_secs(5), "nobody said so: {took:?}");
}

/// Whoever asks the machine's client over HTTP without a token is nobody, whoever asks it for names is
/// answered.
async fn is_nobody_s_without_a_token(machine: &Machine) {
    let nobody = machine.client_as(None);
    let denied = |what: &str, error: Option<calvin_consul::Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} without a token"));
        assert!(error.is_denied(), "{what}: {error:?}");
    };
    for name in ["web", "other"] {
        let service = crate::registration::service(name, Vec::new());
        denied("register", nobody.register(&service).await.err());
    }
    let id = format!("web:{INSTANCE}");
    denied("deregister", nobody.deregister(&id).await.err());
    denied("leave and reload", nobody.reload_agent().await.err());
    denied("know it", nobody.agent_self().await.err());
    let key: Key = "calvin/secret".parse().unwrap();
    let read = nobody.kv_get(&key, Consistency::Default).await;
    denied("read", read.err());
    denied("write", nobody.kv_put(&key, Vec::new()).await.err());
    let listed = nobody.service_names().await.unwrap();
    assert_eq!(listed, Vec::<String>::new());
    assert!(nobody.local_services().await.unwrap().is_empty());
    assert!(instances(&nobody, "web").await.is_empty());
    let nodes = nobody.nodes(Consistency::Default).await.unwrap().value;
    assert!(nodes.is_empty(), "{nodes:?}");

    let consul = SocketAddr::new(machine.dns().ip(), 8600);
    for name in [
        "web.service.build.example.",
        "web-abcdefgh.node.build.example.",
    ] {
        let found = names::dig(consul, &[name, "A"]);
        assert_eq!(found, [machine.address()], "{name} of Consul itself");
    }
}

#[tokio::test]
async fn a_token_is_rotated_in_place_and_names_outlive_the_client() {
    let datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 2).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    is_nobody_s_without_a_token(&machine).await;
    let client = machine.client_process();

    let before = machine.client().agent_self().await.unwrap().meta;
    let old = machine.rotate_token(&consul).await;
    until("the configuration is taken over", async || {
        let now = machine.client().agent_self().await;
        let now = now.map_err(|error| error.to_string())?.meta;
        let changed = now["calvin-configuration"] != before["calvin-configuration"];
        changed.then_some(()).ok_or_else(|| format!("{now:?}"))
    })
    .await;
    consul.token_revoke(&old.accessor).await.unwrap();
    // The client believes it for half a minute more.
    let revoked = machine.client_with(&old.secret);
    until(
        "the old token is not known any more",
        async || match revoked.local_services().await {
            Err(error) if error.is_denied() => Ok(()),
            other => Err(other.map_err(|error| error.to_string())),
        },
    )
    .await;
    machine.set_disk_full(true);
    is_critical(&consul).await;
    machine.set_disk_full(false);
    passing(&consul, "web").await;
    assert_eq!(machine.client_process(), client, "it was not started again");
    is_nobody_s_without_a_token(&machine).await;

    names::find(&machine, "web.service.build.example.").await;
    client.signal(rustix::process::Signal::STOP).unwrap();
    let began = Instant::now();
    let found = names::look_up(&machine, "web.service.build.example.").await;
    assert_eq!(found, [machine.address()]);
    assert!(began.elapsed() < Duration::from_secs(3));
    client.signal(rustix::process::Signal::CONT).unwrap();
}

#[tokio::test]
async fn names_outlive_every_server_the_client_s_data_and_the_agent() {
    let mut datacenter = field().await;
    let machine = Machine::start(&datacenter, 4).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    let (web, none) = ("web.service.build.example.", "db.service.build.example.");
    names::find(&machine, web).await;
    assert_eq!(names::status(machine.dns(), none), "NXDOMAIN");
    let file = machine.files.state().join("answers.json");
    until("the answer is on disk", async || {
        file.exists().then_some(()).ok_or(())
    })
    .await;

    datacenter.servers[0].kill();
    machine.wipe_client().await;
    until("the client is there again", async || {
        machine.has_client().then_some(()).ok_or(())
    })
    .await;
    // It knows nobody any more, and does not take that for an answer. Without TLS it says SERVFAIL;
    // with TLS it waits for its certificate before it says anything.
    let client = SocketAddr::new(machine.dns().ip(), 8600);
    for name in [web, none] {
        let said = names::status(client, name);
        assert!(["", "SERVFAIL"].contains(&said.as_str()), "{name}: {said}");
    }
    machine.kill_agent().await;
    names::find(&machine, web).await;
    // What never was is not known any more, and not denied either.
    assert_eq!(names::status(machine.dns(), none), "SERVFAIL");
}

#[tokio::test]
async fn a_disk_that_refuses_the_client_s_configuration_costs_no_name() {
    let datacenter = field().await;
    let machine = Machine::start(&datacenter, 34).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
    let web = "web.service.build.example.";
    names::find(&machine, web).await;
    let answers = machine.files.state().join("answers.json");
    until("the answer is on disk", async || {
        answers.exists().then_some(()).ok_or(())
    })
    .await;

    // The client goes on with what it has read; no other can be put in its place.
    let client = machine.client_process();
    let configuration = machine.files.state().join("consul/config.json");
    std::fs::remove_file(&configuration).unwrap();
    std::fs::create_dir(&configuration).unwrap();
    machine.kill_agent().await;
    let found = names::look_up(&machine, web).await;
    assert_eq!(found, [machine.address()], "the first after the start");
    until("what is wrong is told", async || {
        let said = machine.explain() + &machine.status();
        let told = said.contains("could not configure the Consul client");
        told.then_some(()).ok_or(said)
    })
    .await;
    // It was never asked before.
    names::find(&machine, "web-abcdefgh.node.build.example.").await;
    assert_eq!(machine.client_process(), client);
    client.signal(rustix::process::Signal::STOP).unwrap();
    assert_eq!(names::look_up(&machine, web).await, [machine.address()]);
    client.signal(rustix::process::Signal::CONT).unwrap();
}

#[tokio::test]
async fn another_environment_s_client_is_not_asked_for_names_of_the_same_domain() {
    let more = serde_json::json!({
        "datacenter": "other",
        "domain": "build.example",
        // The machine's token may ask who it is.
        "node_name": INSTANCE,
        "ports": { "http": 8500, "dns": 8600 },
        "acl": { "tokens": { "dns": machine::MANAGEMENT } },
        "tls": { "internal_rpc": { "verify_server_hostname": false } },
    });
    let other = Datacenter::start(1, more).await;
    let address = other.servers[0].address;
    let kit = Kit {
        number: 35,
        instance: INSTANCE,
        image: format!(
            "name = \"web\"\nversion = \"1.0\"\n[consul]\naddress = \"http://{address}:8500\"\n"
        ),
        exclusive: false,
    };
    let mut machine = Machine::start_kit(&other, kit).await;
    let name = "consul.service.build.example.";
    let there = names::dig(SocketAddr::new(address, 8600), &[name, "A"]);
    assert_eq!(there, [address.to_string()], "who asked it would be told");
    for _ in 0..2 {
        machine
            .hear(|report| {
                let consul = report.consul.as_ref();
                consul.is_some_and(|consul| consul.fault.contains("is of datacenter other"))
            })
            .await;
        assert_eq!(names::status(machine.dns(), name), "SERVFAIL");
        // The same at a start that knows by what it kept that it joins Consul.
        machine.kill_agent().await;
        assert_eq!(names::status(machine.dns(), name), "SERVFAIL");
        machine.hear_again().await;
    }
    let said = machine.status();
    assert!(said.contains("no Consul client is known to be"), "{said}");
}

#[tokio::test]
async fn a_missing_program_is_said_and_everything_else_goes_on() {
    let datacenter = field().await;
    let mut machine = Machine::start_with(&datacenter, 3, "missing/consul").await;
    machine.register(wire::CatalogueRole::Standby).await;
    let report = machine
        .hear(|report| {
            let consul = report.consul.as_ref();
            consul.is_some_and(|consul| consul.fault.contains("missing/consul"))
        })
        .await;
    assert_eq!(report.workload(), wire::WorkloadState::Running);
    let explained = machine.explain();
    assert!(explained.contains("missing/consul"), "{explained}");
}
