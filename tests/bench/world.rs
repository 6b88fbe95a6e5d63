//! An environment of many fleets for benches, behind the engine's ports: machines that come up a
//! while after they were asked for, agents that do at once what they are told, and a catalogue that
//! shows what it was told. It answers from memory, so that a pass over it costs what the engine costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use calvin_engine::ports::{
    Admitted, AgentLink, AgentSeen, Batch, Catalogue, Clock, CreateOrder, Images, Machine,
    MachineList, Ports, Probe, ProbeTarget, Provider, Revision, Store, StoreError, Stored,
};
use calvin_model::{
    BootId, CatalogueEntry, CatalogueRole, DrainProgress, FleetName, FleetSpec, Generation, Health,
    ImageManifest, ImageRef, InstanceId, QuorumReport, Report, Role, Wanted, WorkloadState,
};
use calvin_planner::{
    AgentObserved, CatalogueObserved, DeleteBasis, EnvironmentRules, MachineState, ProbeObserved,
    SessionObserved,
};

/// From the order for a machine to the first report of its agent.
const MAKE: Duration = Duration::from_secs(3);
/// How old each observation is.
const AGE: Duration = Duration::from_millis(500);
/// Exclusive fleets, quorums, and the members of each quorum, among the fleets of an environment.
const EXCLUSIVE: u32 = 5;
const QUORUMS: u32 = 5;
const MEMBERS: u32 = 5;
/// Where machines are made.
const ZONES: [&str; 3] = ["a", "b", "c"];
/// What the names of quorums begin with: the order for a machine names its fleet, not the kind.
const QUORUM_PREFIX: &str = "votes-";

/// The fleets of an environment of this many instances: exclusive ones, quorums, and services with
/// zones, limits and budgets, replaced in waves of different sizes.
pub(crate) fn mixed(fleets: u32, instances: u32) -> Vec<FleetSpec> {
    let services = fleets - EXCLUSIVE - QUORUMS;
    let left = instances - EXCLUSIVE - QUORUMS * MEMBERS;
    (0..fleets)
        .map(|number| {
            let mut replace = "min_healthy = \"5s\"\nsettle = \"5s\"\nbake = \"20s\"\n".to_owned();
            let (mut name, mut head, mut tail) = (String::new(), String::new(), String::new());
            // Writing to a string cannot fail.
            let _ = if number < EXCLUSIVE {
                write!(name, "single-{number}")
                    .and(write!(head, "count = 1\nkind = \"exclusive\"\n"))
            } else if number < EXCLUSIVE + QUORUMS {
                replace.push_str("surge = 1\n");
                write!(name, "{QUORUM_PREFIX}{number}")
                    .and(write!(head, "count = {MEMBERS}\nkind = \"quorum\"\n"))
            } else {
                let index = number - EXCLUSIVE - QUORUMS;
                let count = left / services + u32::from(index < left % services);
                replace.push_str(match index % 4 {
                    0 => {
                        "surge = \"10%\"\nunavailable = \"5%\"\ncanary = 1\ncanary_soak = \"10s\"\n"
                    }
                    1 => "surge = \"25%\"\n",
                    2 => "surge = \"50%\"\n",
                    _ => "surge = \"100%\"\n",
                });
                if index.is_multiple_of(3) {
                    let _ = writeln!(head, "zones = {ZONES:?}");
                }
                if index.is_multiple_of(5) {
                    tail.push_str("[budget]\nin_flight = 20\ndeletions = 40\nwindow = \"1m\"\n");
                }
                if index.is_multiple_of(2) {
                    tail.push_str("[uses]\nlicences = 2\n");
                }
                write!(name, "service-{index}").and(writeln!(head, "count = {count}"))
            };
            let text =
                format!("name = \"{name}\"\nimage = \"web@1.0\"\n{head}[replace]\n{replace}{tail}");
            FleetSpec::parse("bench", &text).expect("a fleet file")
        })
        .collect()
}

/// What `calvin.toml` of such an environment says.
pub(crate) fn rules(instances: u32) -> EnvironmentRules {
    let mut rules = EnvironmentRules::default();
    let zones = ZONES.map(|zone| zone.parse().expect("a name"));
    let provider = rules.providers.entry("process".to_owned()).or_default();
    provider.zones.extend(zones);
    let licences = "licences".parse().expect("a name");
    rules.limits.insert(licences, 2 * instances);
    rules.budget.in_flight = Some(instances / 5);
    rules.budget.deletions = Some(instances);
    rules
}

/// What is told to a machine, and what it says.
#[derive(Debug)]
struct Vm {
    asked: Duration,
    address: IpAddr,
    quorum: Option<FleetName>,
    wanted: Option<Wanted>,
}

/// Everything behind the ports.
#[derive(Debug)]
pub(crate) struct World {
    now: Duration,
    rules: EnvironmentRules,
    revision: u64,
    machines: BTreeMap<InstanceId, Vm>,
    made: u32,
    revoked: BTreeSet<InstanceId>,
    targets: BTreeSet<InstanceId>,
    catalogue: BTreeMap<FleetName, CatalogueObserved>,
    manifest: ImageManifest,
    boot: BootId,
}

impl World {
    /// Nothing is there yet.
    pub(crate) fn new(rules: EnvironmentRules) -> Self {
        let manifest = "name = \"web\"\nversion = \"1.0\"\n[[service]]\nname = \"web\"\nport = 80\n\
             [[check]]\nname = \"http\"\nhttp = \"/health\"\nport = 80\n";
        Self {
            now: Duration::from_secs(1_000),
            rules,
            revision: 0,
            machines: BTreeMap::new(),
            made: 0,
            revoked: BTreeSet::new(),
            targets: BTreeSet::new(),
            catalogue: BTreeMap::new(),
            manifest: ImageManifest::parse("image.toml", manifest).expect("a manifest"),
            boot: "b0".parse().expect("a boot id"),
        }
    }

    /// Lets time go by.
    pub(crate) fn forward(&mut self, time: Duration) {
        self.now += time;
    }

    /// How many machines there are.
    pub(crate) fn machines(&self) -> usize {
        self.machines.len()
    }

    fn report(&self, vm: &Vm, up: Duration, leader: bool, voters: u32) -> Report {
        let role = vm.wanted.map(|wanted| wanted.role);
        let workload = match role {
            Some(Role::Active | Role::Draining) => WorkloadState::Running,
            Some(Role::Standby | Role::Retired) | None => WorkloadState::NotWanted,
        };
        let drain = match role {
            Some(Role::Draining) => Some(DrainProgress {
                done: true,
                connections: Some(0),
                time_left: Duration::ZERO,
            }),
            Some(Role::Active | Role::Standby | Role::Retired) | None => None,
        };
        Report {
            boot: self.boot.clone(),
            sequence: 9,
            generation_applied: vm.wanted.map_or(Generation(0), |wanted| wanted.generation),
            role_applied: role,
            health: Health::Healthy,
            health_for: up,
            flaps: 0,
            clock_offset_ms: Some(0),
            workload,
            names: None,
            drain,
            failing: Vec::new(),
            connections: None,
            refused: None,
            names_unsaved: None,
            quorum: vm.quorum.is_some().then_some(QuorumReport {
                voters,
                needed: MEMBERS / 2 + 1,
                leader,
                caught_up: true,
                age: AGE,
            }),
            consul: None,
        }
    }
}

impl Clock for World {
    fn monotonic(&self) -> Duration {
        self.now
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(self.now.as_millis()).expect("not that long")
    }
}

impl Store for World {
    fn load(&mut self) -> Result<Stored, StoreError> {
        Ok(Stored::default())
    }

    fn commit(&mut self, _: Revision, _: &Batch) -> Result<Revision, StoreError> {
        self.revision += 1;
        Ok(Revision(self.revision))
    }
}

impl Provider for World {
    fn create(&mut self, order: &CreateOrder) {
        if self.machines.contains_key(&order.instance) {
            return;
        }
        self.made += 1;
        let quorum = order.fleet.as_str().starts_with(QUORUM_PREFIX);
        let machine = Vm {
            asked: self.now,
            address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + self.made)),
            quorum: quorum.then(|| order.fleet.clone()),
            wanted: None,
        };
        self.machines.insert(order.instance.clone(), machine);
    }

    fn delete(&mut self, instance: &InstanceId, _: &DeleteBasis) {
        self.machines.remove(instance);
    }

    fn list(&self) -> MachineList {
        let machines = self.machines.iter().map(|(instance, vm)| Machine {
            instance: instance.clone(),
            state: MachineState::Running,
            address: Some(vm.address),
        });
        MachineList {
            age: Some(AGE),
            machines: machines.collect(),
            faults: BTreeMap::new(),
        }
    }
}

impl Catalogue for World {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        let found = |entry: &&CatalogueEntry| entry.role >= CatalogueRole::Entered;
        let roles = entries.iter();
        let visible = entries.iter().filter(found);
        let shown = CatalogueObserved {
            checks: BTreeMap::new(),
            roles: roles.map(|one| (one.instance.clone(), one.role)).collect(),
            visible: visible.map(|one| one.instance.clone()).collect(),
            unconfirmed: Vec::new(),
        };
        self.catalogue.insert(fleet.clone(), shown);
    }

    fn set_visible(&mut self, _: &[InstanceId]) {}

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        self.catalogue.clone()
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        let entries = self.catalogue.values().flat_map(|fleet| &fleet.roles);
        entries.map(|(id, role)| (id.clone(), *role)).collect()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        for fleet in self.catalogue.values_mut() {
            fleet.roles.remove(instance);
        }
    }
}

impl AgentLink for World {
    fn tell(&mut self, instance: &InstanceId, wanted: &Wanted) {
        if let Some(vm) = self.machines.get_mut(instance) {
            vm.wanted = Some(*wanted);
        }
    }

    fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>) {
        self.revoked
            .retain(|instance| admitted.contains_key(instance));
    }

    fn revoke(&mut self, instance: &InstanceId) {
        self.revoked.insert(instance.clone());
    }

    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen> {
        let mut voters: BTreeMap<&FleetName, u32> = BTreeMap::new();
        for fleet in self.machines.values().filter_map(|vm| vm.quorum.as_ref()) {
            *voters.entry(fleet).or_default() += 1;
        }
        let mut led: BTreeSet<&FleetName> = BTreeSet::new();
        let mut seen = BTreeMap::new();
        for (id, vm) in &self.machines {
            let up = self.now.saturating_sub(vm.asked + MAKE);
            if self.now < vm.asked + MAKE || self.revoked.contains(id) {
                continue;
            }
            let leader = vm.quorum.as_ref().is_some_and(|fleet| led.insert(fleet));
            let of = vm.quorum.as_ref().and_then(|fleet| voters.get(fleet));
            let report = self.report(vm, up, leader, of.copied().unwrap_or(0));
            let one = AgentSeen {
                from: None,
                agent: Some(AgentObserved { age: AGE, report }),
                session: SessionObserved::Alive(up),
                revoked: false,
                alarm: None,
            };
            seen.insert(id.clone(), one);
        }
        for id in &self.revoked {
            let one = AgentSeen {
                session: SessionObserved::Ended(Duration::from_secs(60)),
                revoked: true,
                ..AgentSeen::default()
            };
            seen.insert(id.clone(), one);
        }
        seen
    }

    fn report_interval(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl Probe for World {
    fn watch(&mut self, targets: &BTreeMap<InstanceId, Vec<ProbeTarget>>) {
        self.targets = targets.keys().cloned().collect();
    }

    fn results(&self) -> BTreeMap<InstanceId, ProbeObserved> {
        let there = |id: &&InstanceId| self.machines.contains_key(*id);
        let passing = ProbeObserved {
            age: AGE,
            passing: true,
            same_for: Duration::from_secs(60),
        };
        let watched = self.targets.iter().filter(there);
        watched.map(|id| (id.clone(), passing)).collect()
    }
}

impl Images for World {
    fn manifest(&self, _: &ImageRef) -> Option<ImageManifest> {
        Some(self.manifest.clone())
    }
}

impl Ports for World {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn rules(&self) -> EnvironmentRules {
        self.rules.clone()
    }

    fn store(&mut self) -> &mut dyn Store {
        self
    }

    fn providers(&self) -> Vec<(&str, &dyn Provider)> {
        vec![("process", self)]
    }

    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider> {
        (name == "process").then_some(self as &mut dyn Provider)
    }

    fn catalogue(&mut self) -> &mut dyn Catalogue {
        self
    }

    fn agents(&mut self) -> &mut dyn AgentLink {
        self
    }

    fn probe(&mut self) -> &mut dyn Probe {
        self
    }

    fn images(&self) -> &dyn Images {
        self
    }
}
