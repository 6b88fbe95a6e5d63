//! Plans against a Consul of a few lines: a client with its services and checks, and servers that
//! have whatever is registered at once.

use calvin_consul::{catalog::CatalogService, health::CheckStatus};
use calvin_model::CatalogueRole;
use proptest::prelude::*;

use super::{super::own::OwnCheck, *};

const IMAGE: &str = "name = \"web\"\nversion = \"1.0\"\n[workload]\ncommand = [\"web\"]\n\
    [[service]]\nname = \"web\"\nport = 80\ntags = [\"http\"]\ntags_active = [\"route-/\"]\n\
    [[check]]\nname = \"page\"\nhttp = \"/health\"\nport = 80\nfall = 3\n\
    [[check]]\nname = \"disk\"\nexec = [\"disk\"]\n\
    [[check]]\nname = \"serves\"\ntcp = true\nport = 81\nwhen = \"active\"\n";
const OWN: &str = "web:web-abcdefgh";
const STANDBY: &str = "web-standby:web-abcdefgh";

/// Everything that a plan rests on.
#[derive(Debug, Clone)]
struct World {
    manifest: ImageManifest,
    provision: Provision,
    boot: BootId,
    told: Registration,
    own: Own,
    services: Services,
    checks: BTreeMap<String, Check>,
    servers: Services,
    before: Before,
    refresh: Refresh,
    renew: Renew,
    log: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self::of(IMAGE)
    }

    fn of(image: &str) -> Self {
        let text = format!(
            "environment = \"build\"\ninstance = \"web-abcdefgh\"\nfleet = \"web\"\n\
             coordinators = [\"127.0.0.1:1\"]\ndomain = \"build.example\"\njoin_token = \"\"\n\
             ca_pem = \"\"\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:{}\"\n",
            "01".repeat(32)
        );
        Self {
            manifest: ImageManifest::parse("image.toml", image).unwrap(),
            provision: Provision::parse("provision.toml", &text).unwrap(),
            boot: "b1".parse().unwrap(),
            told: Registration {
                role: CatalogueRole::Standby,
                exclusive: false,
            },
            own: Own {
                presence: Presence::AsTold,
                checks: vec![open(0), open(1)],
                workload: OwnWord::Passing,
            },
            services: Services::new(),
            checks: BTreeMap::new(),
            servers: Services::new(),
            before: Before::Never,
            refresh: Refresh::NotYet,
            renew: Renew::Nothing,
            log: Vec::new(),
        }
    }

    fn plan(&self, servers: Option<&Services>) -> Plan {
        plan(&Facts {
            manifest: &self.manifest,
            provision: &self.provision,
            boot: &self.boot,
            address: "10.0.0.9".parse().unwrap(),
            wanted: self.told,
            own: &self.own,
            services: &self.services,
            checks: &self.checks,
            catalogue: servers,
            before: self.before,
            refresh: self.refresh,
            renew: self.renew,
        })
    }

    /// Reads and does, as the task does, until there is nothing to do; at most some rounds.
    fn settle(&mut self) -> Plan {
        let mut verify = false;
        for _ in 0..6 {
            let mut plan = self.plan(None);
            if plan.look == Look::Servers || verify {
                plan = self.plan(Some(&self.servers.clone()));
            }
            let operations = plan.operations.clone();
            if operations.is_empty() {
                return plan;
            }
            verify = true;
            self.renew = Renew::Nothing;
            for operation in operations {
                self.apply(operation);
            }
        }
        panic!("it never ends: {:?}", self.log);
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Register(service) => {
                service.check().unwrap();
                self.log.push(format!(
                    "register {} {}",
                    service.name,
                    service.tags.join(" ")
                ));
                self.register(&service);
            }
            Operation::Deregister { id } => {
                self.log.push(format!("deregister {id}"));
                self.services.remove(&id);
                self.servers.remove(&id);
                self.checks.retain(|_, check| check.service_id != id);
            }
            Operation::Say {
                check,
                status,
                output,
            } => {
                self.log.push(format!("say {check} {status:?} {output}"));
                let check = self.checks.get_mut(&check).unwrap();
                (check.status, check.output) = (status, output);
            }
        }
    }

    fn register(&mut self, service: &ServiceRegistration) {
        let id = service.id.clone();
        let entry = CatalogService {
            id: id.clone(),
            service: service.name.clone(),
            tags: service.tags.clone(),
            address: service.address.clone(),
            port: service.port,
            meta: service.meta.clone(),
            tagged_addresses: service.tagged_addresses.clone(),
            weights: service.weights,
            enable_tag_override: service.enable_tag_override,
            ..CatalogService::default()
        };
        self.services.insert(id.clone(), entry.clone());
        self.servers.insert(id.clone(), entry);
        let named = |check: &Check| service.checks.iter().any(|named| named.id == check.id);
        self.checks
            .retain(|_, check| check.service_id != id || named(check));
        for named in &service.checks {
            let known = self.checks.get(&named.id).map(|check| check.status);
            let check = Check {
                node: "web-abcdefgh".into(),
                id: named.id.clone(),
                name: named.name.clone(),
                status: known.unwrap_or(named.status),
                notes: named.notes.clone(),
                output: String::new(),
                service_id: id.clone(),
                kind: String::new(),
                modify_index: 0,
            };
            self.checks.insert(named.id.clone(), check);
        }
    }

    fn tell(&mut self, role: CatalogueRole) -> Plan {
        self.told.role = role;
        self.settle()
    }

    /// The coordinator's transaction: the servers know, the client not yet.
    fn switch(&mut self, role: CatalogueRole) {
        let tags = registered::tags(&self.manifest.services[0], role);
        self.servers.get_mut(OWN).unwrap().tags = tags;
    }

    /// Everything is healthy, and Consul has seen that too.
    fn healthy(&mut self) {
        self.own.checks = vec![passing(0), passing(1)];
        self.own.workload = OwnWord::Passing;
        for check in self.checks.values_mut() {
            check.status = CheckStatus::Passing;
        }
    }

    fn status(&self, id: &str) -> CheckStatus {
        self.checks[id].status
    }

    fn ids(&self) -> Vec<&str> {
        self.services.keys().map(String::as_str).collect()
    }

    /// Entered, healthy, and settled.
    fn entered() -> Self {
        let mut world = Self::new();
        world.settle();
        world.healthy();
        world.tell(CatalogueRole::Entered);
        world.before = Before::InThisBoot;
        world.log.clear();
        world
    }

    fn active() -> Self {
        let mut world = Self::entered();
        world.switch(CatalogueRole::Active);
        let plan = world.tell(CatalogueRole::Active);
        assert_eq!(
            (plan.registered, plan.step),
            (CatalogueRole::Active, Step::In)
        );
        world.log.clear();
        world
    }
}

fn open(place: usize) -> OwnCheck {
    let word = OwnWord::Open;
    OwnCheck { place, word }
}

fn passing(place: usize) -> OwnCheck {
    let word = OwnWord::Passing;
    OwnCheck { place, word }
}

#[test]
fn a_new_instance_is_registered_as_standby_with_everything_critical() {
    let mut world = World::new();
    let plan = world.plan(None);
    assert_eq!(plan.look, Look::Servers, "it may have been lost");
    assert!(plan.operations.is_empty());
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    assert_eq!(world.ids(), [STANDBY]);
    let service = &world.services[STANDBY];
    assert_eq!(service.tags, ["http", "standby"]);
    assert_eq!((service.address.as_str(), service.port), ("10.0.0.9", 80));
    assert_eq!(service.meta["calvin-boot"], "b1");
    assert!(service.enable_tag_override);
    // The page is Consul's to ask for; the command is the agent's to run.
    assert_eq!(world.checks.len(), 2);
    for check in world.checks.values() {
        assert_eq!(check.status, CheckStatus::Critical, "{}", check.id);
    }
}

#[test]
fn only_what_fails_makes_the_agents_check_critical_and_it_says_why() {
    let mut world = World::new();
    world.settle();
    let id = format!("{STANDBY}:agent");
    assert_eq!(world.log.len(), 1, "nothing is known yet, and nothing said");
    world.own.checks = vec![open(0), passing(1)];
    world.settle();
    assert_eq!(world.status(&id), CheckStatus::Passing);
    world.own.checks[1].word = OwnWord::Failing("check disk: full".into());
    world.settle();
    assert_eq!(world.checks[&id].output, "check disk: full");
    assert_eq!(world.status(&id), CheckStatus::Critical);
    world.own.checks[1].word = OwnWord::Open;
    let said = world.log.len();
    world.settle();
    assert_eq!(world.log.len(), said, "silence says nothing");
    world.own.checks[1].word = OwnWord::Passing;
    world.settle();
    assert_eq!(world.status(&id), CheckStatus::Passing);
    let said = world.log.len();
    world.refresh = Refresh::Due;
    for operation in world.plan(None).operations {
        world.apply(operation);
    }
    assert_eq!(world.log.len(), said + 1, "its time goes on");
}

#[test]
fn entering_takes_the_states_along_and_leaves_the_old_name_last() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.log.clear();
    let plan = world.tell(CatalogueRole::Entered);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Entered, Step::In)
    );
    assert_eq!(
        world.log,
        [
            "register web http standby".to_owned(),
            format!("deregister {STANDBY}")
        ]
    );
    for id in [format!("{OWN}:0"), format!("{OWN}:agent")] {
        assert_eq!(world.status(&id), CheckStatus::Passing, "as just read");
    }
}

#[test]
fn the_old_name_stays_until_the_servers_show_the_new_one() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.told.role = CatalogueRole::Entered;
    let servers = world.servers.clone();
    for operation in world.plan(Some(&servers)).operations {
        world.apply(operation);
    }
    // They have not heard of it yet.
    let plan = world.plan(Some(&servers));
    assert_eq!((plan.step, plan.operations.len()), (Step::Out, 0));
    assert_eq!(plan.missing.as_deref(), Some(OWN));
    assert_eq!(world.ids().len(), 2);
    world.settle();
    assert_eq!(world.ids(), [OWN]);
}

#[test]
fn the_switch_is_the_coordinators_and_the_client_takes_its_tags_over() {
    let mut world = World::entered();
    assert_eq!(world.plan(None).look, Look::Enough, "nothing to ask");
    world.switch(CatalogueRole::Active);
    let plan = world.tell(CatalogueRole::Active);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(world.log, ["register web http active route-/"]);
    assert_eq!(world.plan(None).look, Look::Enough);
}

#[test]
fn told_active_before_the_catalogue_says_so_changes_no_tag() {
    let mut world = World::entered();
    let plan = world.tell(CatalogueRole::Active);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Entered, Step::Out)
    );
    assert!(world.log.is_empty(), "{:?}", world.log);
    // Not even where it was never entered.
    let mut world = World::new();
    world.settle();
    let plan = world.tell(CatalogueRole::Active);
    assert_eq!(plan.registered, CatalogueRole::Entered);
    assert_eq!(world.services[OWN].tags, ["http", "standby"]);
}

#[test]
fn an_active_one_goes_back_under_the_name_of_standbys() {
    let mut world = World::active();
    world.switch(CatalogueRole::Entered);
    let plan = world.tell(CatalogueRole::Standby);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    assert_eq!(world.ids(), [STANDBY]);
    assert_eq!(world.status(&format!("{STANDBY}:0")), CheckStatus::Passing);
}

#[test]
fn a_client_that_lost_everything_gets_back_what_the_servers_show() {
    let mut world = World::active();
    (world.services, world.checks) = (Services::new(), BTreeMap::new());
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(world.log, ["register web http active route-/"]);
    let page = world.status(&format!("{OWN}:0"));
    assert_eq!(page, CheckStatus::Passing, "the agent has seen it itself");
}

#[test]
fn where_nothing_can_be_read_the_last_role_holds_and_exclusive_is_never_active() {
    for (exclusive, registered) in [
        (false, CatalogueRole::Active),
        (true, CatalogueRole::Entered),
    ] {
        let mut world = World::active();
        world.told.exclusive = exclusive;
        (world.services, world.checks) = (Services::new(), BTreeMap::new());
        world.servers = Services::new();
        let plan = world.settle();
        assert_eq!(plan.registered, registered);
        assert_eq!(world.ids(), [OWN]);
    }
}

#[test]
fn servers_that_do_not_answer_are_waited_for_and_the_agents_word_is_said_all_the_same() {
    let mut world = World::new();
    world.settle();
    world.healthy();
    world.told.role = CatalogueRole::Entered;
    world.own.workload = OwnWord::Failing("it ended".into());
    let plan = world.plan(None);
    assert_eq!(
        (plan.look, plan.registered),
        (Look::Servers, CatalogueRole::Standby)
    );
    assert!(matches!(
        plan.operations.as_slice(),
        [Operation::Say {
            status: CheckStatus::Critical,
            ..
        }]
    ));
}

#[test]
fn in_a_new_boot_everything_is_critical_and_the_role_tags_stay() {
    let mut world = World::active();
    world.boot = "b2".parse().unwrap();
    world.before = Before::Never;
    world.own.checks = vec![passing(0), open(1)];
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(
        world.log,
        [
            format!("deregister {OWN}"),
            "register web http active route-/".to_owned()
        ]
    );
    for check in world.checks.values() {
        assert_eq!(check.status, CheckStatus::Critical, "{}", check.id);
    }
}

#[test]
fn with_another_token_everything_is_registered_again_as_it_is() {
    let mut world = World::active();
    let (services, checks) = (world.services.clone(), world.checks.clone());
    world.renew = Renew::Everything;
    assert_eq!(world.plan(None).look, Look::Servers);
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Active, Step::In)
    );
    assert_eq!(world.log, ["register web http active route-/"]);
    assert_eq!((world.services, world.checks), (services, checks));
}

#[test]
fn whoever_is_absent_or_leaves_is_deregistered() {
    for leaving in [Presence::AsTold, Presence::Leaving] {
        let mut world = World::active();
        world.own.presence = leaving;
        if leaving == Presence::AsTold {
            world.told.role = CatalogueRole::Absent;
        }
        let before = world.plan(None);
        assert_eq!(
            (before.registered, before.step),
            (CatalogueRole::Active, Step::Out)
        );
        let plan = world.settle();
        assert_eq!(
            (plan.registered, plan.step),
            (CatalogueRole::Absent, Step::In)
        );
        assert!(world.ids().is_empty() && world.checks.is_empty());
    }
}

#[test]
fn a_check_that_begins_to_count_with_a_role_is_registered_once_it_has_run() {
    let mut world = World::active();
    let id = format!("{OWN}:2");
    world.own.checks.push(open(2));
    world.settle();
    assert!(
        !world.checks.contains_key(&id),
        "it would take the active one out"
    );
    world.own.checks[2].word = OwnWord::Passing;
    world.settle();
    assert_eq!(world.status(&id), CheckStatus::Passing);
    assert_eq!(world.services[OWN].tags, ["http", "active", "route-/"]);
    world.own.checks.pop();
    world.settle();
    assert!(
        !world.checks.contains_key(&id),
        "it does not count any more"
    );
}

#[test]
fn what_others_have_registered_at_the_client_is_theirs() {
    let mut world = World::new();
    let other = CatalogService {
        id: "web:somebody".into(),
        service: "web".into(),
        ..CatalogService::default()
    };
    world.services.insert(other.id.clone(), other);
    world.tell(CatalogueRole::Entered);
    world.tell(CatalogueRole::Absent);
    assert_eq!(world.ids(), ["web:somebody"]);
}

#[test]
fn one_that_is_found_without_a_tag_anyhow_keeps_its_name() {
    let image = IMAGE.replace("tags_active", "untagged = \"all\"\ntags_active");
    let mut world = World::of(&image);
    let plan = world.settle();
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    let plan = world.tell(CatalogueRole::Entered);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Entered, Step::In)
    );
    assert_eq!(world.log.len(), 1, "{:?}", world.log);
    world.switch(CatalogueRole::Active);
    world.tell(CatalogueRole::Active);
    world.switch(CatalogueRole::Standby);
    let plan = world.tell(CatalogueRole::Standby);
    assert_eq!(
        (plan.registered, plan.step),
        (CatalogueRole::Standby, Step::In)
    );
    assert_eq!(world.ids(), [OWN]);
}

fn role() -> impl Strategy<Value = CatalogueRole> {
    prop_oneof![
        Just(CatalogueRole::Absent),
        Just(CatalogueRole::Standby),
        Just(CatalogueRole::Entered),
        Just(CatalogueRole::Active),
    ]
}

/// What can happen to a world.
#[derive(Debug, Clone)]
enum Event {
    Tell(CatalogueRole),
    Switch(CatalogueRole),
    ClientLost,
    ServersLost,
    Boot,
    Healthy,
    Fails,
    Knows(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => role().prop_map(Event::Tell),
        2 => prop_oneof![Just(CatalogueRole::Entered), Just(CatalogueRole::Active)]
            .prop_map(Event::Switch),
        1 => Just(Event::ClientLost),
        1 => Just(Event::ServersLost),
        1 => Just(Event::Boot),
        1 => Just(Event::Healthy),
        1 => Just(Event::Fails),
        1 => (0..3_usize).prop_map(Event::Knows),
    ]
}

fn happens(world: &mut World, event: Event, boots: &mut u32) {
    match event {
        Event::Tell(role) => world.told.role = role,
        Event::Switch(role) => {
            if world.servers.contains_key(OWN) {
                world.switch(role);
            }
        }
        Event::ClientLost => (world.services, world.checks) = Default::default(),
        Event::ServersLost => world.servers = Services::new(),
        Event::Boot => {
            *boots += 1;
            world.boot = format!("b{boots}").parse().unwrap();
            world.before = Before::Never;
        }
        Event::Healthy => world.healthy(),
        Event::Fails => world.own.workload = OwnWord::Failing("it ended".into()),
        Event::Knows(count) => {
            world.own.checks = [passing(0), open(1), passing(2)][..count].to_vec();
        }
    }
    // A client brings to its servers what they have lost.
    for (id, service) in &world.services {
        let known = world.servers.entry(id.clone());
        known.or_insert_with(|| service.clone());
    }
}

proptest! {
    #[test]
    fn whatever_happens_it_settles_and_never_changes_the_role_tags_of_the_catalogue(
        exclusive in any::<bool>(),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut world = World::new();
        world.told.exclusive = exclusive;
        let mut boots = 1;
        for event in events {
            happens(&mut world, event, &mut boots);
            let shown = world.servers.get(OWN).map(|service| service.tags.clone());
            let plan = world.settle();
            let told = world.told.role;
            if let (Some(before), Some(after)) = (shown, world.servers.get(OWN)) {
                prop_assert_eq!(&before, &after.tags, "{:?}", world.log);
            }
            let names = match told {
                CatalogueRole::Absent => vec![],
                CatalogueRole::Standby => vec![STANDBY],
                CatalogueRole::Entered | CatalogueRole::Active => vec![OWN],
            };
            prop_assert_eq!(world.ids(), names);
            for service in world.services.values() {
                prop_assert!(is_of(service, &world.boot));
            }
            if plan.step == Step::In {
                prop_assert_eq!(plan.registered, told);
            } else {
                // Only the coordinator's own word about the tags is missing.
                prop_assert!(told >= CatalogueRole::Entered);
                prop_assert!(plan.registered != told);
            }
        }
    }

    #[test]
    fn a_registered_instance_is_under_one_of_its_names_at_every_step(
        from in role(), to in role(), switched in any::<bool>(),
    ) {
        let mut world = World::new();
        world.settle();
        world.healthy();
        world.tell(from);
        if switched && world.servers.contains_key(OWN) {
            world.switch(CatalogueRole::Active);
        }
        world.told.role = to;
        let there = |world: &World| !world.services.is_empty();
        let was = there(&world);
        for _ in 0..6 {
            let servers = world.servers.clone();
            for operation in world.plan(Some(&servers)).operations {
                world.apply(operation);
                if was && to != CatalogueRole::Absent {
                    prop_assert!(there(&world), "{:?}", world.log);
                }
            }
        }
    }
}
