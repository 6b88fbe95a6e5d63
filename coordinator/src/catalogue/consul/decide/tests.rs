//! Decisions over fleets, one at a time and until nothing is left to do.

mod exclusive;
mod said;

use calvin_consul::catalog::{CatalogService, Node};
use calvin_model::{
    CatalogueRole::{Absent, Active, Entered, Standby},
    ImageManifest,
};
use proptest::prelude::*;

use super::*;

fn services(more: &str) -> Vec<ServiceSpec> {
    let text = format!(
        "name = \"web\"\nversion = \"1.0\"\n[[service]]\nname = \"web\"\nport = 80\ntags = [\"http\"]\n\
         tags_active = [\"edge-/web\"]\n{more}"
    );
    let manifest = ImageManifest::parse("image.toml", &text).unwrap();
    manifest.services
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn check(id: &str, kind: &str, status: CheckStatus) -> Check {
    Check {
        node: "n".into(),
        id: id.into(),
        name: id.into(),
        status,
        notes: String::new(),
        output: String::new(),
        service_id: if id == SERF_HEALTH { "" } else { "web" }.into(),
        kind: kind.into(),
        modify_index: 1,
    }
}

/// A registration of `instance` in `role`, with one check of Consul's own.
fn entry(
    service: &ServiceSpec,
    instance: &InstanceId,
    role: CatalogueRole,
    status: CheckStatus,
) -> ServiceHealth {
    let name = registered::name(service, role).unwrap();
    ServiceHealth {
        node: Node {
            name: instance.to_string(),
            ..Node::default()
        },
        service: CatalogService {
            id: registered::id(&name, instance),
            service: name,
            tags: registered::tags(service, role),
            enable_tag_override: true,
            modify_index: 7,
            ..CatalogService::default()
        },
        checks: vec![
            check(SERF_HEALTH, "", CheckStatus::Passing),
            check("http", "http", status),
        ],
    }
}

fn passing(service: &ServiceSpec, instance: &str, role: CatalogueRole) -> ServiceHealth {
    entry(service, &id(instance), role, CheckStatus::Passing)
}

/// A member that listens and was told nothing.
fn member<'a>(
    services: &'a [ServiceSpec],
    wanted: CatalogueRole,
    entries: &'a [ServiceHealth],
) -> Member<'a> {
    Member {
        wanted,
        services,
        needs: Needs::Nothing,
        agent: Agent::Listens,
        told: None,
        entries: entries.iter().collect(),
    }
}

fn fleet<'a>(members: Vec<(&str, Member<'a>)>) -> BTreeMap<InstanceId, Member<'a>> {
    members
        .into_iter()
        .map(|(name, one)| (id(name), one))
        .collect()
}

fn changed(decision: &Decision) -> Vec<(&str, bool)> {
    let is_active = |change: &TagChange| change.tags.iter().any(|tag| tag == registered::ACTIVE);
    let changes = decision.changes.iter();
    changes
        .map(|change| (&*change.node, is_active(change)))
        .collect()
}

#[test]
fn a_switch_is_one_change_green_first_and_agents_are_told_after_it() {
    let web = services("");
    let blue = [passing(&web[0], "web-a", Active)];
    let green = [passing(&web[0], "web-z", Entered)];
    let decision = decide(&fleet(vec![
        ("web-a", member(&web, Standby, &blue)),
        ("web-z", member(&web, Active, &green)),
    ]));
    assert_eq!(changed(&decision), [("web-z", true), ("web-a", false)]);
    assert_eq!(decision.changes[0].tags, ["http", "active", "edge-/web"]);
    assert_eq!(decision.changes[1].tags, ["http", "standby"]);
    assert_eq!(decision.tell[&id("web-a")], Active);
    assert_eq!(decision.tell[&id("web-z")], Entered);
    assert_eq!(decision.roles[&id("web-a")], Active);

    let blue = [passing(&web[0], "web-a", Entered)];
    let green = [passing(&web[0], "web-z", Active)];
    let decision = decide(&fleet(vec![
        ("web-a", member(&web, Standby, &blue)),
        ("web-z", member(&web, Active, &green)),
    ]));
    assert_eq!(decision.changes, []);
    assert_eq!(decision.tell[&id("web-a")], Standby);
    assert_eq!(decision.tell[&id("web-z")], Active);
    // It has not left the service's own name yet.
    assert_eq!(decision.roles[&id("web-a")], Entered);
}

#[test]
fn who_is_to_be_active_enters_first() {
    let web = services("");
    let standby = [passing(&web[0], "web-a", Standby)];
    let decision = decide(&fleet(vec![("web-a", member(&web, Active, &standby))]));
    assert_eq!(decision.tell[&id("web-a")], Entered);
    assert_eq!(decision.changes, []);
    let waits = decision.waits.unwrap();
    assert!(waits.starts_with("web-a to be registered"), "{waits}");
}

#[test]
fn nothing_is_switched_before_all_that_are_to_be_active_are_there() {
    let web = services("");
    let blue = [passing(&web[0], "web-a", Active)];
    let blue2 = [passing(&web[0], "web-b", Active)];
    let green = [passing(&web[0], "web-y", Entered)];
    let late = [passing(&web[0], "web-z", Standby)];
    let switch = |late| {
        decide(&fleet(vec![
            ("web-a", member(&web, Standby, &blue)),
            ("web-b", member(&web, Standby, &blue2)),
            ("web-y", member(&web, Active, &green)),
            ("web-z", member(&web, Active, late)),
        ]))
    };
    let decision = switch(&late);
    assert_eq!(decision.changes, []);
    assert!(decision.waits.unwrap().starts_with("web-z to be"));
    let there = [passing(&web[0], "web-z", Entered)];
    let decision = switch(&there);
    assert_eq!(decision.changes.len(), 4);
    assert_eq!(decision.waits, None);
}

#[test]
fn blue_stays_active_while_no_green_passes_and_while_a_missing_green_is_all_there_is() {
    let web = services("");
    let blue = [passing(&web[0], "web-a", Active)];
    let hidden = [entry(&web[0], &id("web-a"), Active, CheckStatus::Critical)];
    let green = [entry(&web[0], &id("web-z"), Entered, CheckStatus::Critical)];
    for (blue, green, changes) in [
        (&blue, &green[..], vec![("web-z", true)]),
        (&hidden, &green[..], vec![("web-z", true)]),
        (&hidden, &[], vec![]),
    ] {
        let decision = decide(&fleet(vec![
            ("web-a", member(&web, Standby, blue)),
            ("web-z", member(&web, Active, green)),
        ]));
        assert_eq!(changed(&decision), changes);
        assert!(decision.waits.is_some());
    }
}

#[test]
fn one_that_does_not_come_keeps_neither_a_failing_one_nor_a_repair_waiting() {
    let web = services("");
    let failing = [entry(&web[0], &id("web-a"), Active, CheckStatus::Critical)];
    let serving = [passing(&web[0], "web-b", Active)];
    let new = [passing(&web[0], "web-y", Entered)];
    let decision = decide(&fleet(vec![
        ("web-a", member(&web, Absent, &failing)),
        ("web-b", member(&web, Active, &serving)),
        ("web-y", member(&web, Active, &new)),
        ("web-z", member(&web, Active, &[])),
    ]));
    assert_eq!(changed(&decision), [("web-y", true), ("web-a", false)]);
    assert!(decision.waits.is_some());
}

#[test]
fn the_blue_of_a_dead_agent_counts_as_standby_once_its_tags_say_so() {
    let web = services("");
    let mut blue = member(&web, Standby, &[]);
    let active = [passing(&web[0], "web-a", Active)];
    let entered = [passing(&web[0], "web-a", Entered)];
    blue.agent = Agent::Silent;
    blue.entries = active.iter().collect();
    let decision = decide(&fleet(vec![("web-a", blue.clone())]));
    assert_eq!(changed(&decision), [("web-a", false)]);
    assert_eq!(decision.roles[&id("web-a")], Active);
    blue.entries = entered.iter().collect();
    let decision = decide(&fleet(vec![("web-a", blue)]));
    assert_eq!(decision.roles[&id("web-a")], Standby);
    assert_eq!(decision.leftovers, []);
}

#[test]
fn an_image_that_shows_all_has_no_other_name_for_a_standby() {
    let web = services("untagged = \"all\"");
    let standby = [passing(&web[0], "web-a", Standby)];
    assert_eq!(standby[0].service.service, "web");
    let decision = decide(&fleet(vec![("web-a", member(&web, Standby, &standby))]));
    assert_eq!(decision.roles[&id("web-a")], Standby);
    assert_eq!(decision.tell[&id("web-a")], Standby);
    assert_eq!(decision.changes, []);
}

#[test]
fn who_leaves_leaves_without_the_tag_and_a_dead_one_is_taken_out() {
    let web = services("");
    let active = [passing(&web[0], "web-a", Active)];
    let mut leaves = member(&web, Absent, &active);
    let decision = decide(&fleet(vec![("web-a", leaves.clone())]));
    assert_eq!(changed(&decision), [("web-a", false)]);
    assert_eq!(decision.tell[&id("web-a")], Active);
    let entered = [passing(&web[0], "web-a", Entered)];
    leaves.entries = entered.iter().collect();
    let decision = decide(&fleet(vec![("web-a", leaves.clone())]));
    assert_eq!(decision.tell[&id("web-a")], Absent);
    assert_eq!(decision.leftovers, []);
    // Nothing says that it is gone as long as something is left of it.
    assert_eq!(decision.roles[&id("web-a")], Entered);
    leaves.agent = Agent::Silent;
    let decision = decide(&fleet(vec![("web-a", leaves.clone())]));
    let leftover = Leftover {
        node: "web-a".into(),
        id: "web:web-a".into(),
        service: "web".into(),
        index: 7,
    };
    assert_eq!(decision.leftovers, [leftover]);
    leaves.entries.clear();
    let decision = decide(&fleet(vec![("web-a", leaves)]));
    assert_eq!(decision.roles, BTreeMap::new());
}

#[test]
fn an_instance_is_found_as_its_services_are_all_of_them() {
    let both = services("[[service]]\nname = \"admin\"\nport = 81\n");
    let half = [
        passing(&both[0], "web-a", Active),
        passing(&both[1], "web-a", Entered),
    ];
    let of = |wanted| decide(&fleet(vec![("web-a", member(&both, wanted, &half))]));
    let decision = of(Active);
    assert_eq!(decision.roles[&id("web-a")], Entered);
    assert_eq!(decision.changes.len(), 1);
    assert_eq!(decision.changes[0].service.service, "admin");
    assert_eq!(of(Entered).roles[&id("web-a")], Active);
    let one = [passing(&both[0], "web-a", Entered)];
    let decision = decide(&fleet(vec![("web-a", member(&both, Active, &one))]));
    assert_eq!(decision.roles, BTreeMap::new());
    assert!(decision.visible.is_empty() && decision.waits.is_some());
}

#[test]
fn tags_that_somebody_changed_are_put_right() {
    let web = services("");
    let mut active = [passing(&web[0], "web-a", Active)];
    active[0].service.tags.pop();
    let decision = decide(&fleet(vec![("web-a", member(&web, Active, &active))]));
    assert_eq!(changed(&decision), [("web-a", true)]);
    let mut standby = [passing(&web[0], "web-a", Entered)];
    standby[0].service.tags.push("edge-/web".into());
    let decision = decide(&fleet(vec![("web-a", member(&web, Entered, &standby))]));
    assert_eq!(changed(&decision), [("web-a", false)]);
}

#[test]
fn checks_hide_and_consul_s_own_are_told() {
    let web = services("");
    let mut one = passing(&web[0], "web-a", Active);
    one.checks
        .push(check("agent", "ttl", CheckStatus::Critical));
    let see = |one: &ServiceHealth| {
        let entries = [one.clone()];
        let decision = decide(&fleet(vec![("web-a", member(&web, Active, &entries))]));
        let visible = !decision.visible.is_empty();
        let web_a = id("web-a");
        (
            visible,
            decision.checks.get(&web_a).map(|said| said.well),
            decision.gossip[&web_a].well,
        )
    };
    // Hidden by what its agent says; Consul's own check passes.
    assert_eq!(see(&one), (false, Some(true), true));
    one.checks[2].status = CheckStatus::Warning;
    assert_eq!(see(&one), (true, Some(true), true));
    one.checks[1].status = CheckStatus::Critical;
    one.checks[0].status = CheckStatus::Critical;
    assert_eq!(see(&one), (false, Some(false), false));
    one.checks = vec![
        check(SERF_HEALTH, "", CheckStatus::Passing),
        check("_node_maintenance", "", CheckStatus::Critical),
    ];
    assert_eq!(see(&one), (false, None, true));
}

#[test]
fn who_joins_no_consul_is_found_as_it_is_to_be() {
    let decision = decide(&fleet(vec![("ns-a", member(&[], Active, &[]))]));
    assert_eq!(decision.roles[&id("ns-a")], Active);
    assert_eq!(decision.visible, [id("ns-a")]);
    assert_eq!(decision.tell, BTreeMap::new());
}

#[test]
fn an_active_one_whose_client_was_begun_anew_is_not_told_to_stand_by() {
    let web = services("");
    let mut one = member(&web, Active, &[]);
    one.told = Some(Active);
    let decision = decide(&fleet(vec![("web-a", one)]));
    assert_eq!(decision.tell[&id("web-a")], Active);
}

/// Agents that do what they are told, and a Consul that does what is asked.
struct World {
    services: Vec<ServiceSpec>,
    /// By instance: what is registered.
    entries: BTreeMap<InstanceId, Vec<ServiceHealth>>,
    told: BTreeMap<InstanceId, CatalogueRole>,
    dead: Vec<InstanceId>,
}

impl World {
    fn decide(&self, wanted: &BTreeMap<InstanceId, CatalogueRole>) -> Decision {
        let members = self.entries.iter().map(|(id, entries)| {
            let member = Member {
                wanted: wanted[id],
                services: &self.services,
                needs: Needs::Nothing,
                agent: if self.dead.contains(id) {
                    Agent::Silent
                } else {
                    Agent::Listens
                },
                told: self.told.get(id).copied(),
                entries: entries.iter().collect(),
            };
            (id.clone(), member)
        });
        decide(&members.collect())
    }

    /// An agent does what it was told: in the new registration the tags are those just read.
    fn obey(&mut self, id: &InstanceId) {
        let Some(role) = self
            .told
            .get(id)
            .copied()
            .filter(|_| !self.dead.contains(id))
        else {
            return;
        };
        let mut entries = Vec::new();
        for service in &self.services {
            let Some(name) = registered::name(service, role) else {
                continue;
            };
            let read = self.entries[id]
                .iter()
                .find(|one| one.service.service == name);
            let mut one = entry(service, id, role, CheckStatus::Passing);
            if let Some(read) = read {
                one.service.tags.clone_from(&read.service.tags);
            } else if role == Active {
                one.service.tags = registered::tags(service, Active);
            }
            entries.push(one);
        }
        self.entries.insert(id.clone(), entries);
    }

    fn carry_out(&mut self, decision: &Decision) {
        for change in &decision.changes {
            let entries = self.entries.get_mut(&id(&change.node)).unwrap();
            for one in entries
                .iter_mut()
                .filter(|one| one.service.id == change.service.id)
            {
                one.service.tags.clone_from(&change.tags);
            }
        }
        for gone in &decision.leftovers {
            let entries = self.entries.get_mut(&id(&gone.node)).unwrap();
            entries.retain(|one| one.service.id != gone.id);
        }
        self.told.extend(decision.tell.clone());
    }

    /// Instances that are found as active in all that they serve.
    fn serving(&self) -> usize {
        let active = |service: &ServiceSpec, one: &ServiceHealth| {
            registered::role(service, &one.service.service, &one.service.tags) == Active
        };
        let serves = |entries: &&Vec<ServiceHealth>| {
            let mut services = self.services.iter();
            services.all(|service| entries.iter().any(|one| active(service, one)))
        };
        self.entries.values().filter(serves).count()
    }
}

fn roles() -> impl Strategy<Value = Vec<CatalogueRole>> {
    proptest::collection::vec(
        prop_oneof![Just(Absent), Just(Standby), Just(Entered), Just(Active)],
        6,
    )
}

proptest! {
    /// Whatever is wanted after whatever was: it comes about, and on the way there are never fewer
    /// active ones than the smaller of the two.
    #[test]
    fn every_wish_comes_true_and_nobody_is_taken_away_before_another_is_there(
        wishes in proptest::collection::vec(roles(), 1..5),
        all in any::<bool>(),
        dead in proptest::option::of(0_usize..6),
        order in any::<u64>(),
    ) {
        let ids: Vec<InstanceId> = (0..6).map(|n| id(&format!("web-{n}"))).collect();
        let second = "[[service]]\nname = \"admin\"\nport = 81\n";
        let more = if all { format!("untagged = \"all\"\n{second}") } else { second.to_owned() };
        let mut world = World {
            services: services(&more),
            entries: ids.iter().map(|id| (id.clone(), Vec::new())).collect(),
            told: BTreeMap::new(),
            dead: Vec::new(),
        };
        let mut random = fastrand::Rng::with_seed(order);
        for (number, wish) in wishes.iter().enumerate() {
            // It dies after the first wish came true, and is wanted no higher than it was from then on.
            if number == 1 {
                world.dead.extend(dead.map(|n| ids[n].clone()));
            }
            let mut wanted: BTreeMap<_, _> = ids.iter().cloned().zip(wish.iter().copied()).collect();
            for id in &world.dead {
                wanted.insert(id.clone(), Absent.max(if world.entries[id].is_empty() { Absent } else { Standby }));
            }
            let goal = wanted.values().filter(|role| **role == Active).count();
            let least = world.serving().saturating_sub(world.dead.len()).min(goal);
            for _ in 0..40 {
                let decision = world.decide(&wanted);
                world.carry_out(&decision);
                prop_assert!(world.serving() >= least, "{} of {least}", world.serving());
                for id in &ids {
                    if random.bool() {
                        world.obey(id);
                    }
                }
                prop_assert!(world.serving() >= least, "{} of {least}", world.serving());
            }
            for id in &ids {
                world.obey(id);
            }
            let decision = world.decide(&wanted);
            for (id, role) in &wanted {
                let read = decision.roles.get(id).copied().unwrap_or_default();
                let dead = world.dead.contains(id);
                // A dead one that never registered in a role cannot.
                prop_assert!(read == *role || dead && read < *role, "{id}: {read} instead of {role}");
            }
            prop_assert_eq!(decision.changes, vec![]);
        }
    }
}
