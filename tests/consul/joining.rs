//! A whole machine that joins Consul: init, agent, workload and a Consul client of its own, which the
//! agent configures and the runner starts. The coordinator's words are scripted, and its part in the
//! catalogue is done by the tests.

mod exclusive;
mod machine;
mod names;

use std::time::{Duration, Instant};

use calvin_consul::{
    Client, Consistency,
    health::{ServiceHealth, ServiceStatus},
    registered,
    roles::{TagChange, TagsOutcome},
};
use calvin_model::CatalogueRole;
use calvin_proto::wire;

use self::machine::{Machine, field};
use crate::{support::until, testing::INSTANCE};

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
    until("critical", async || {
        let found = instances(&consul, "web").await;
        let status = found.first().map(ServiceHealth::status);
        if status == Some(ServiceStatus::Critical) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    machine.set_disk_full(false);
    passing(&consul, "web").await;

    switch(&consul, &machine, CatalogueRole::Entered).await;
    machine.register(Standby).await;
    passing(&consul, "web-standby").await;
    gone(&consul, "web").await;
    machine.registered(Standby).await;

    machine.retire().await;
    gone(&consul, "web-standby").await;
    machine.stop().await;
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
}

#[tokio::test]
async fn a_token_is_rotated_in_place_and_names_outlive_the_client() {
    let datacenter = field().await;
    let mut machine = Machine::start(&datacenter, 2).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(machine::MANAGEMENT));
    machine.register(wire::CatalogueRole::Entered).await;
    passing(&consul, "web").await;
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
    until("critical, by the new token", async || {
        let found = instances(&consul, "web").await;
        let status = found.first().map(ServiceHealth::status);
        if status == Some(ServiceStatus::Critical) {
            Ok(())
        } else {
            Err(status)
        }
    })
    .await;
    machine.set_disk_full(false);
    passing(&consul, "web").await;
    assert_eq!(machine.client_process(), client, "it was not started again");

    names::find(&machine, "web.service.build.example.").await;
    client.signal(rustix::process::Signal::STOP).unwrap();
    let began = Instant::now();
    let found = names::look_up(&machine, "web.service.build.example.").await;
    assert_eq!(found, [machine.address()]);
    assert!(began.elapsed() < Duration::from_secs(3));
    client.signal(rustix::process::Signal::CONT).unwrap();
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
