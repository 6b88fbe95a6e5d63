//! Whose entries are, with a machine that says more than it may.

use calvin_consul::{
    Advance,
    catalog::{CatalogService, Node},
};

use super::*;

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn entry(node: &str, instance: &str) -> ServiceHealth {
    let meta = [
        (registered::ENVIRONMENT, "prod"),
        (registered::FLEET, "web"),
        (registered::INSTANCE, instance),
        (registered::IMAGE, "web@1.0"),
    ];
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    ServiceHealth {
        node: Node {
            name: node.to_owned(),
            ..Node::default()
        },
        service: CatalogService {
            id: format!("web:{instance}"),
            service: "web".to_owned(),
            meta: meta.map(pair).into(),
            enable_tag_override: true,
            modify_index: 5,
            ..CatalogService::default()
        },
        checks: Vec::new(),
    }
}

fn books(entries: Vec<ServiceHealth>) -> Books {
    let mut books = Books::default();
    books.take("web", Advance::First, entries);
    books
}

/// Those of fleet web are on record, with such clients.
fn owners(clients: &[(&str, Client)]) -> Owners {
    let mut owners = Owners::new("prod".parse().unwrap());
    for (instance, client) in clients {
        let record = Record {
            fleet: "web".parse().unwrap(),
            client: *client,
            node: None,
        };
        owners.records.insert(id(instance), record);
    }
    owners
}

/// Nodes and instances of what is ours.
fn ours(owners: &Owners, books: &Books) -> Vec<(String, String)> {
    let ours = owners.ours(books);
    ours.map(|one| (one.entry.node.name.clone(), one.instance.to_string()))
        .collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(node, instance): &(&str, &str)| ((*node).to_owned(), (*instance).to_owned());
    of.iter().map(pair).collect()
}

#[test]
fn a_machine_speaks_for_itself_alone() {
    let owners = owners(&[("web-a", Client::Own), ("web-b", Client::Own)]);
    let books = books(vec![
        entry("web-a", "web-a"),
        entry("web-a", "web-b"),
        entry("web-b", "web-b"),
        // Of one that nobody knows.
        entry("web-a", "web-x"),
        entry("web-x", "web-x"),
    ]);
    let expected = [("web-a", "web-a"), ("web-b", "web-b"), ("web-x", "web-x")];
    assert_eq!(ours(&owners, &books), pairs(&expected));
    let foreign = Foreign {
        node: "web-a".to_owned(),
        instances: [id("web-b")].into(),
    };
    assert_eq!(owners.foreign(&books), std::slice::from_ref(&foreign));
    let now = Instant::now();
    let what = foreign.shown(Since::of(now), now).what;
    assert!(
        what.contains("on node web-a say that they are of web-b"),
        "{what}"
    );
}

#[test]
fn who_has_somebody_else_s_client_stays_on_the_node_where_it_was_first_seen() {
    let mut owners = owners(&[
        ("web-a", Client::Own),
        ("web-b", Client::Elsewhere),
        ("web-c", Client::Elsewhere),
    ]);
    let mut forged = entry("host-9", "web-c");
    forged.service.modify_index = 6;
    let first = vec![
        entry("host-1", "web-b"),
        // No node of somebody else's.
        entry("web-a", "web-c"),
        forged.clone(),
        entry("host-1", "web-c"),
    ];
    owners.place(&books(first));
    let later = books(vec![
        entry("host-2", "web-b"),
        entry("host-1", "web-b"),
        forged,
        entry("host-1", "web-c"),
    ]);
    owners.place(&later);
    let expected = [("host-1", "web-b"), ("host-1", "web-c")];
    assert_eq!(ours(&owners, &later), pairs(&expected));
    let nodes: Vec<String> = owners
        .foreign(&later)
        .into_iter()
        .map(|one| one.node)
        .collect();
    assert_eq!(nodes, ["host-2", "host-9"]);
    // Also while nothing is where it was.
    let gone = books(vec![entry("host-2", "web-b")]);
    owners.place(&gone);
    assert_eq!(ours(&owners, &gone), []);
}

#[test]
fn one_that_nobody_knows_any_more_is_elsewhere_only_by_its_image() {
    let mut owners = owners(&[("web-a", Client::Own)]);
    let books = books(vec![entry("host-1", "web-x"), entry("web-a", "web-y")]);
    assert_eq!(ours(&owners, &books), []);
    owners.elsewhere.insert("web@1.0".to_owned());
    assert_eq!(ours(&owners, &books), pairs(&[("host-1", "web-x")]));
}

#[test]
fn another_fleet_than_the_one_on_record_is_a_lie() {
    let owners = owners(&[("web-a", Client::Own)]);
    let mut lies = entry("web-a", "web-a");
    let fleet = || "api".to_owned();
    lies.service
        .meta
        .insert(registered::FLEET.to_owned(), fleet());
    let books = books(vec![lies]);
    assert_eq!(ours(&owners, &books), []);
    assert_eq!(owners.foreign(&books).len(), 1);
}

#[test]
fn only_what_an_agent_of_this_environment_made_is_ours() {
    let a = || entry("web-a", "web-a");
    let mut foreign_id = a();
    foreign_id.service.id = "web-1".to_owned();
    let mut own_tags = a();
    own_tags.service.enable_tag_override = false;
    let change = |key: &str, value: Option<&str>| {
        let mut one = a();
        match value {
            Some(value) => one.service.meta.insert(key.to_owned(), value.to_owned()),
            None => one.service.meta.remove(key),
        };
        one
    };
    let strangers = vec![
        foreign_id,
        own_tags,
        change(registered::ENVIRONMENT, Some("test")),
        change(registered::ENVIRONMENT, None),
        change(registered::INSTANCE, Some("web-b")),
        change(registered::INSTANCE, Some("no id\n")),
        change(registered::FLEET, None),
    ];
    let owners = owners(&[]);
    assert_eq!(ours(&owners, &books(strangers)), []);
    assert_eq!(
        ours(&owners, &books(vec![a()])),
        pairs(&[("web-a", "web-a")])
    );
}
