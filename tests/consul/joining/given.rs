//! A machine whose image names a Consul client that is there already (`[consul] address`): that one is
//! used where it is of the right datacenter, and no other is started.

use std::net::IpAddr;

use calvin_consul::Consistency;
use calvin_proto::wire;
use serde_json::{Value, json};

use super::{
    gone,
    machine::{MANAGEMENT, Machine, address_of, field, image_with},
    names, passing, switch, tags,
};
use crate::{
    support::{Datacenter, until},
    testing::{ENVIRONMENT, INSTANCE},
};

/// What a Consul client has that answers on an address of the machine, as one does that somebody else
/// runs there.
fn on_machine(address: IpAddr, acl: Value) -> Value {
    json!({
        "bind_addr": address.to_string(),
        "client_addr": address.to_string(),
        "domain": "build.example",
        // It says each request.
        "log_level": "DEBUG",
        "ports": { "http": 8500, "https": -1, "dns": 8600 },
        "acl": acl,
        // As with the servers.
        "tls": { "internal_rpc": { "verify_server_hostname": false } },
    })
}

/// A machine whose image names the client at its own address.
async fn start(datacenter: &Datacenter, number: u8) -> Machine {
    let client = format!("address = \"http://{}:8500\"", address_of(number));
    Machine::start_of(datacenter, number, image_with(&client)).await
}

/// Nothing has to end before such an instance is gone, so it says that it leaves in no moment before.
#[tokio::test]
async fn a_client_that_is_there_already_forgets_an_instance_without_a_workload() {
    let mut datacenter = field().await;
    let client = format!("address = \"http://{}:8500\"", address_of(24));
    let workload = "[workload]\ncommand = [\"sleep\", \"600\"]\n";
    let image = image_with(&client);
    assert!(image.contains(workload), "{image}");
    let image = image.replace(workload, "");
    let mut machine = Machine::start_of(&datacenter, 24, image).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    machine.register(wire::CatalogueRole::Standby).await;
    let acl = json!({ "tokens": { "agent": machine.token(), "dns": machine.token() } });
    let more = on_machine(address_of(24), acl);
    datacenter.add_agent_with(INSTANCE, more).await;
    passing(&consul, "web-standby").await;
    machine.registered(wire::CatalogueRole::Standby).await;

    machine.retire().await;
    let left = machine.client().local_services().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    gone(&consul, "web-standby").await;
}

#[tokio::test]
async fn a_client_that_is_there_already_is_used_and_none_is_started() {
    let mut datacenter = field().await;
    let mut machine = start(&datacenter, 21).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    use wire::CatalogueRole::{Active, Entered, Standby};
    machine.register(Standby).await;
    // Before it is there nothing is known of it but that.
    machine
        .hear(|report| {
            let consul = report.consul.as_ref();
            consul.is_some_and(|consul| !consul.fault.is_empty())
        })
        .await;
    let tokens = json!({ "agent": machine.token(), "dns": machine.token() });
    let acl = json!({ "tokens": tokens });
    let more = on_machine(address_of(21), acl);
    datacenter.add_agent_with(INSTANCE, more).await;

    let one = passing(&consul, "web-standby").await;
    assert_eq!(tags(&one), ["http", "standby"]);
    assert_eq!(one.node.name, INSTANCE);
    assert_eq!(one.service.address, machine.address());
    machine.registered(Standby).await;
    machine.register(Entered).await;
    passing(&consul, "web").await;
    gone(&consul, "web-standby").await;
    switch(&consul, &machine, calvin_model::CatalogueRole::Active).await;
    machine.register(Active).await;
    machine.registered(Active).await;
    names::are_answered(&machine).await;
    let units = machine.record().units;
    assert!(!units.contains_key("consul"), "{units:?}");
    assert!(!machine.files.unit_log("consul").exists());

    // It is somebody else's: it is there when this machine has gone.
    machine.retire().await;
    gone(&consul, "web").await;
    let nodes = consul.nodes(Consistency::Consistent).await.unwrap().value;
    assert!(nodes.iter().any(|node| node.name == INSTANCE), "{nodes:?}");
    assert!(machine.client().agent_self().await.is_ok());
}

#[tokio::test]
async fn nothing_is_registered_with_a_client_of_another_datacenter() {
    let datacenter = field().await;
    let mut other = Datacenter::start_named("elsewhere", "elsewhere.example", 1, json!({})).await;
    // It takes every token: what is refused is refused by the machine.
    let more = on_machine(address_of(22), json!({ "enabled": false }));
    other.add_agent_with("host", more).await;
    let mut machine = start(&datacenter, 22).await;
    machine.register(wire::CatalogueRole::Entered).await;

    let says = [
        format!("the Consul client at http://{}:8500", machine.address()),
        "is of datacenter elsewhere".to_owned(),
        format!("of environment {ENVIRONMENT}"),
        "nothing is registered there".to_owned(),
    ];
    let report = machine
        .hear(|report| {
            let consul = report.consul.as_ref();
            let fault = consul.map_or("", |consul| &consul.fault);
            says.iter().all(|words| fault.contains(words))
        })
        .await;
    assert_eq!(report.workload(), wire::WorkloadState::Running);
    for said in [machine.explain(), machine.status()] {
        for words in &says {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    // That is no mood: it is asked again and again.
    let client = machine.client_as(None);
    until("it is asked again", async || {
        let asked = crate::support::process::requests(&other.agents[0].log());
        if asked > 3 { Ok(()) } else { Err(asked) }
    })
    .await;
    let known = client.local_services().await.unwrap();
    assert!(known.is_empty(), "{known:?}");
    let units = machine.record().units;
    assert!(!units.contains_key("consul"), "{units:?}");
    for one in [&datacenter, &other] {
        let consul = one.client(&one.servers[0], Some(MANAGEMENT));
        let names = consul.service_names().await.unwrap();
        assert_eq!(names, ["consul"], "in {}", one.name);
    }
}
