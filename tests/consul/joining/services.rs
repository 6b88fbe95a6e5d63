//! An image with two services: each is registered as it says, in every role, and leaves with the other.

use calvin_consul::{
    Client,
    catalog::TaggedAddress,
    health::ServiceHealth,
    registered,
    roles::{TagChange, TagsOutcome},
};
use calvin_model::CatalogueRole;
use calvin_proto::wire;

use super::{
    gone, instances,
    machine::{MANAGEMENT, Machine, consul_program, field},
    passing, tags,
};
use crate::testing::INSTANCE;

/// The first has all that Consul can be told, the second is found before it is proven.
fn image() -> String {
    format!(
        r#"name = "web"
version = "1.0"

[workload]
command = ["sleep", "600"]

[consul]
program = {program:?}

[[service]]
name = "web"
port = 8080
tags = ["http", "v1"]
tags_active = ["route-/"]
meta = {{ kind = "page", A_b-9 = "ä b" }}
weights = {{ passing = 10, warning = 2 }}
tagged_addresses = {{ wan = "192.0.2.1:8443", "x.y" = "[2001:db8::1]:80" }}

[[service]]
name = "api"
port = 9090
tags_active = ["urlprefix-/api strip=/api"]
untagged = "all"

[[check]]
name = "port"
tcp = true
port = 8080
interval = "10s"
"#,
        program = consul_program()
    )
}

/// What is the same of the first service in every role and under every name.
fn is_as_the_image_says(one: &ServiceHealth) {
    let service = &one.service;
    assert_eq!(service.port, 8080);
    assert!(service.enable_tag_override);
    assert_eq!((service.weights.passing, service.weights.warning), (10, 2));
    let address = |address: &str, port| TaggedAddress {
        address: address.to_owned(),
        port,
    };
    let addresses = &service.tagged_addresses;
    assert_eq!(addresses["wan"], address("192.0.2.1", 8443));
    assert_eq!(addresses["x.y"], address("2001:db8::1", 80));
    let meta = &service.meta;
    assert_eq!(meta["kind"], "page");
    assert_eq!(meta["A_b-9"], "ä b");
    assert_eq!(meta["calvin-instance"], INSTANCE);
    assert_eq!(meta["calvin-image"], "web@1.0");
}

/// The same of the second.
fn is_plain(one: &ServiceHealth) {
    let service = &one.service;
    assert_eq!(service.port, 9090);
    assert!(service.enable_tag_override);
    assert_eq!((service.weights.passing, service.weights.warning), (1, 1));
    assert!(!service.tagged_addresses.contains_key("wan"));
    assert!(!service.meta.contains_key("kind"));
    assert_eq!(service.meta["calvin-instance"], INSTANCE);
}

/// Reads both services back from the servers: the first under this name, and the tags of each.
async fn are(consul: &Client, web: &str, of_web: &[&str], of_api: &[&str]) {
    let one = passing(consul, web).await;
    assert_eq!(tags(&one), of_web);
    assert_eq!(one.service.id, format!("{web}:{INSTANCE}"));
    is_as_the_image_says(&one);
    let one = passing(consul, "api").await;
    assert_eq!(tags(&one), of_api);
    is_plain(&one);
    // Who is found anyhow needs no other name.
    assert!(instances(consul, "api-standby").await.is_empty());
}

#[tokio::test]
async fn two_services_of_one_image_are_registered_each_as_it_says_in_every_role() {
    let datacenter = field().await;
    let mut machine = Machine::start_of(&datacenter, 23, image()).await;
    let consul = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    use wire::CatalogueRole::{Active, Entered, Standby};

    machine.register(Standby).await;
    let standby = ["http", "v1", "standby"];
    are(&consul, "web-standby", &standby, &["standby"]).await;
    assert!(instances(&consul, "web").await.is_empty());
    machine.registered(Standby).await;

    machine.register(Entered).await;
    are(&consul, "web", &standby, &["standby"]).await;
    gone(&consul, "web-standby").await;
    machine.registered(Entered).await;

    // What the coordinator does at the switch.
    let mut changes = Vec::new();
    for spec in &machine.manifest().services {
        let one = passing(&consul, spec.name.as_str()).await;
        changes.push(TagChange {
            node: one.node.name,
            service: one.service,
            tags: registered::tags(spec, CatalogueRole::Active),
        });
    }
    let outcome = consul.change_tags(&[], &changes).await.unwrap();
    assert!(matches!(outcome, TagsOutcome::Held(_)), "{outcome:?}");
    machine.register(Active).await;
    machine.registered(Active).await;
    let active = ["http", "v1", "active", "route-/"];
    let of_api = ["active", "urlprefix-/api strip=/api"];
    are(&consul, "web", &active, &of_api).await;

    machine.retire().await;
    for name in ["web", "web-standby", "api", "api-standby"] {
        gone(&consul, name).await;
    }
}
