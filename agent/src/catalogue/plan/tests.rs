//! Plans against a Consul of a few lines: a client with its services and checks, and servers that
//! have whatever is registered at once.

mod properties;
mod scenarios;

use calvin_consul::{catalog::CatalogService, health::CheckStatus};
use calvin_model::CatalogueRole;

use super::{
    super::own::{OwnCheck, Presence},
    *,
};

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
                role: None,
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
