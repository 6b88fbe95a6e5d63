//! What agents are told, and when the catalogue counts as seen by clients.

use std::sync::Mutex;

use super::*;

#[derive(Debug, Clone, Default)]
struct FakeAgents(Arc<Mutex<BTreeMap<InstanceId, Option<NamesVersion>>>>);

impl AgentNames for FakeAgents {
    fn live_names(&self) -> BTreeMap<InstanceId, Option<NamesVersion>> {
        self.0.lock().unwrap().clone()
    }
}

impl FakeAgents {
    fn serves(&self, instance: &str, version: Option<(u64, u64)>) {
        let version = version.map(|(epoch, number)| NamesVersion { epoch, number });
        let mut agents = self.0.lock().unwrap();
        agents.insert(instance.parse().unwrap(), version);
    }
}

fn entry(fleet: &str, instance: &str, role: CatalogueRole) -> CatalogueEntry {
    CatalogueEntry {
        instance: instance.parse().unwrap(),
        fleet: fleet.parse().unwrap(),
        address: "127.0.0.9".parse().unwrap(),
        role,
        services: Vec::new(),
    }
}

fn catalogue(epoch: Option<u64>) -> (EmbeddedCatalogue, NamesFeed, FakeAgents, EpochNumber) {
    let number = EpochNumber::default();
    if let Some(epoch) = epoch {
        number.set(epoch);
    }
    let agents = FakeAgents::default();
    let publisher = NamesPublisher::default();
    let feed = publisher.feed();
    let catalogue = EmbeddedCatalogue::new(
        "calvin.internal",
        Duration::from_secs(1),
        number.clone(),
        Box::new(agents.clone()),
        publisher,
    );
    (catalogue, feed, agents, number)
}

fn name(text: &str) -> FleetName {
    text.parse().unwrap()
}

fn newest(feed: &NamesFeed) -> (NamesVersion, Vec<String>) {
    let snapshot = feed.borrow().clone().unwrap();
    let ids = snapshot
        .entries
        .iter()
        .map(|entry| entry.instance.to_string());
    (snapshot.version, ids.collect())
}

#[test]
fn nothing_is_published_before_the_engine_took_an_epoch() {
    let (mut catalogue, feed, _agents, epoch) = catalogue(None);
    catalogue.set_roles(
        &name("web"),
        &[entry("web", "web-a", CatalogueRole::Active)],
    );
    catalogue.publish().unwrap();
    assert!(feed.borrow().is_none());
    assert!(catalogue.read_back().is_empty());
    epoch.set(7);
    catalogue.publish().unwrap();
    let version = NamesVersion {
        epoch: 7,
        number: 1,
    };
    assert_eq!(newest(&feed), (version, vec!["web-a".to_owned()]));
}

#[test]
fn a_snapshot_is_numbered_only_when_it_says_something_else() {
    let (mut catalogue, feed, ..) = catalogue(Some(1));
    catalogue.publish().unwrap();
    for _ in 0..3 {
        catalogue.set_roles(
            &name("web"),
            &[entry("web", "web-a", CatalogueRole::Active)],
        );
        catalogue.publish().unwrap();
    }
    assert_eq!(newest(&feed).0.number, 2);
    catalogue.set_roles(
        &name("web"),
        &[entry("web", "web-a", CatalogueRole::Standby)],
    );
    catalogue.publish().unwrap();
    assert_eq!(newest(&feed).0.number, 3);
}

#[test]
fn a_change_is_not_shown_before_its_pass_is_published() {
    let (mut catalogue, feed, ..) = catalogue(Some(1));
    catalogue.publish().unwrap();
    catalogue.set_roles(
        &name("web"),
        &[entry("web", "web-a", CatalogueRole::Active)],
    );
    assert_eq!(newest(&feed).1, Vec::<String>::new());
    assert!(catalogue.read_back().is_empty());
}

#[test]
fn a_fleet_is_confirmed_when_every_live_agent_serves_its_last_change() {
    let (mut catalogue, _feed, agents, _epoch) = catalogue(Some(2));
    agents.serves("web-a", None);
    agents.serves("db-a", Some((1, 99)));
    catalogue.set_roles(
        &name("web"),
        &[entry("web", "web-a", CatalogueRole::Active)],
    );
    catalogue.set_roles(&name("db"), &[entry("db", "db-a", CatalogueRole::Active)]);
    catalogue.publish().unwrap();
    let unconfirmed = |catalogue: &EmbeddedCatalogue, fleet: &str| {
        let observed = &catalogue.read_back()[&name(fleet)];
        observed
            .unconfirmed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(unconfirmed(&catalogue, "web"), ["db-a", "web-a"]);
    agents.serves("web-a", Some((2, 1)));
    assert_eq!(unconfirmed(&catalogue, "web"), ["db-a"]);
    agents.serves("db-a", Some((2, 1)));
    assert!(unconfirmed(&catalogue, "web").is_empty());

    // A change of one fleet does not put the other's in doubt.
    catalogue.set_roles(&name("db"), &[entry("db", "db-a", CatalogueRole::Standby)]);
    catalogue.publish().unwrap();
    assert!(unconfirmed(&catalogue, "web").is_empty());
    assert_eq!(unconfirmed(&catalogue, "db"), ["db-a", "web-a"]);
}

#[test]
fn a_hidden_entry_is_left_out_and_keeps_its_role() {
    let (mut catalogue, feed, ..) = catalogue(Some(1));
    let entries = [
        entry("web", "web-a", CatalogueRole::Active),
        entry("web", "web-b", CatalogueRole::Active),
    ];
    catalogue.set_roles(&name("web"), &entries);
    catalogue.set_visible(&["web-b".parse().unwrap()]);
    catalogue.publish().unwrap();
    assert_eq!(newest(&feed).1, ["web-a"]);
    let observed = &catalogue.read_back()[&name("web")];
    assert_eq!(observed.roles.len(), 2);
    assert_eq!(observed.visible, ["web-a".parse().unwrap()]);
    catalogue.set_visible(&[]);
    catalogue.publish().unwrap();
    assert_eq!(newest(&feed).1, ["web-a", "web-b"]);
}

#[test]
fn a_ghost_leaves() {
    let (mut catalogue, feed, ..) = catalogue(Some(1));
    catalogue.set_roles(
        &name("web"),
        &[entry("web", "web-a", CatalogueRole::Active)],
    );
    catalogue.publish().unwrap();
    let ghost = "web-a".parse().unwrap();
    assert_eq!(
        catalogue.list(),
        [(InstanceId::clone(&ghost), CatalogueRole::Active)]
    );
    catalogue.remove_ghost(&ghost);
    catalogue.publish().unwrap();
    assert!(newest(&feed).1.is_empty());
    assert!(catalogue.list().is_empty());
}

#[test]
fn a_snapshot_waits_for_agents_that_store_the_one_before_but_not_for_long() {
    let (mut catalogue, feed, agents, _epoch) = catalogue(Some(1));
    let start = Instant::now();
    let say = |catalogue: &mut EmbeddedCatalogue, role| {
        catalogue.set_roles(&name("web"), &[entry("web", "web-a", role)]);
    };
    agents.serves("web-a", None);
    say(&mut catalogue, CatalogueRole::Standby);
    catalogue.publish_at(start).unwrap();
    assert_eq!(newest(&feed).0.number, 1);
    say(&mut catalogue, CatalogueRole::Entered);
    catalogue.publish_at(start + SPREAD / 2).unwrap();
    assert_eq!(newest(&feed).0.number, 1, "web-a is at it");
    let read = catalogue.read_back()[&name("web")].roles.clone();
    assert_eq!(read[&"web-a".parse().unwrap()], CatalogueRole::Standby);
    agents.serves("web-a", Some((1, 1)));
    catalogue.publish_at(start + SPREAD / 2).unwrap();
    assert_eq!(newest(&feed).0.number, 2, "it has stored it");
    say(&mut catalogue, CatalogueRole::Active);
    catalogue.publish_at(start + SPREAD).unwrap();
    assert_eq!(newest(&feed).0.number, 2);
    catalogue.publish_at(start + SPREAD * 2).unwrap();
    assert_eq!(newest(&feed).0.number, 3, "it does not wait for ever");
}

#[test]
fn more_than_a_snapshot_holds_is_refused_with_the_reason_and_the_old_names_stay() {
    let (mut catalogue, feed, ..) = catalogue(Some(1));
    let web = [entry("web", "web-a", CatalogueRole::Active)];
    catalogue.set_roles(&name("web"), &web);
    catalogue.publish().unwrap();
    let many = (0..NAMES_ENTRIES)
        .map(|number| entry("db", &format!("db-{number}"), CatalogueRole::Active));
    catalogue.set_roles(&name("db"), &many.collect::<Vec<_>>());
    let why = catalogue.publish().unwrap_err().to_string();
    assert!(why.contains("10001"), "{why}");
    assert_eq!(newest(&feed).0.number, 1);
    assert!(!catalogue.read_back().contains_key(&name("db")));
    catalogue.set_roles(&name("db"), &[]);
    catalogue.publish().unwrap();
    assert_eq!(newest(&feed).0.number, 2);
}
