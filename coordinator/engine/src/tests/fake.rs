//! A world of the engine's own tests: every port records what it was asked, and shows what the
//! test put there. What the world does by itself is the simulator's subject, not this one's.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use calvin_model::{
    CatalogueEntry, CatalogueRole, Digest, FleetName, FleetSpec, Generation, ImageManifest,
    ImageRef, InstanceId, Role, Wanted, image::Work,
};
use calvin_planner::{
    Build, CatalogueObserved, Command, CommandInput, CommandOutcome, DeleteBasis, EnvironmentRules,
    Event, FleetState, Instance, Life, MachineState, Moment, Plan, PlanInput, ProbeObserved,
    Purpose, Refusal,
};

use crate::{decide::Decide, ports::*};

pub(super) const MANIFEST: &str = r#"
name = "web"
version = "1.0"
[[service]]
name = "web"
port = 80
[[check]]
name = "http"
http = "/health"
port = 80
"#;

/// What a commit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    Works,
    /// Fails, and nothing was written.
    Fails,
    /// Fails although all was written.
    FailsAfterwards,
}

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) now: Duration,
    pub(super) wall_ms: u64,
    pub(super) disk: Disk,
    pub(super) stored: Stored,
    pub(super) history: Vec<HistoryLine>,
    pub(super) commits: usize,
    pub(super) machines: MachineList,
    pub(super) read_back: BTreeMap<FleetName, CatalogueObserved>,
    pub(super) listed: Vec<(InstanceId, CatalogueRole)>,
    pub(super) recorded: bool,
    pub(super) entries: Vec<CatalogueEntry>,
    /// Snapshots that clients were to be shown.
    pub(super) published: usize,
    /// Clients are not shown any.
    pub(super) names_refused: bool,
    /// Why the catalogue keeps decisions from being taken.
    pub(super) holds: Option<String>,
    /// What the catalogue did by itself.
    pub(super) deeds: Vec<Event>,
    pub(super) targets: BTreeMap<InstanceId, Vec<ProbeTarget>>,
    pub(super) admitted: BTreeMap<InstanceId, Admitted>,
    /// What is seen of agents.
    pub(super) seen: BTreeMap<InstanceId, AgentSeen>,
    /// What agents said when they came.
    pub(super) heard: BTreeMap<InstanceId, AgentHeard>,
    /// What machines' tags say.
    pub(super) tags: BTreeMap<InstanceId, MachineTag>,
    /// Every call that changes something, as text.
    pub(super) calls: Vec<String>,
}

impl Fake {
    pub(super) fn new(fleets: BTreeMap<FleetName, FleetState>) -> Self {
        Self {
            now: Duration::from_secs(100),
            wall_ms: 1_000_000,
            disk: Disk::Works,
            stored: Stored {
                moment: Moment { ms: 50_000 },
                fleets,
                ..Stored::default()
            },
            history: Vec::new(),
            commits: 0,
            machines: MachineList::default(),
            read_back: BTreeMap::new(),
            listed: Vec::new(),
            recorded: true,
            entries: Vec::new(),
            published: 0,
            names_refused: false,
            holds: None,
            deeds: Vec::new(),
            targets: BTreeMap::new(),
            admitted: BTreeMap::new(),
            seen: BTreeMap::new(),
            heard: BTreeMap::new(),
            tags: BTreeMap::new(),
            calls: Vec::new(),
        }
    }

    pub(super) fn forward(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    pub(super) fn list(&mut self, machines: &[(&InstanceId, MachineState, Option<IpAddr>)]) {
        self.machines.age = Some(Duration::ZERO);
        self.machines.machines = machines
            .iter()
            .map(|(instance, state, address)| Machine {
                instance: (*instance).clone(),
                state: *state,
                address: *address,
            })
            .collect();
    }

    /// Calls since the last time.
    pub(super) fn take_calls(&mut self) -> Vec<String> {
        std::mem::take(&mut self.calls)
    }
}

impl Clock for Fake {
    fn monotonic(&self) -> Duration {
        self.now
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms
    }
}

impl Store for Fake {
    fn load(&mut self) -> Result<Stored, StoreError> {
        match self.disk {
            Disk::Works | Disk::FailsAfterwards => Ok(self.stored.clone()),
            Disk::Fails => Err(failed("read")),
        }
    }

    fn commit(&mut self, expected: Revision, batch: &Batch) -> Result<Revision, StoreError> {
        if self.disk == Disk::Fails {
            return Err(failed("write"));
        }
        if expected != self.stored.revision {
            return Err(StoreError::Conflict {
                expected,
                found: self.stored.revision,
            });
        }
        self.commits += 1;
        self.stored.revision.0 += 1;
        self.stored.moment = batch.moment;
        self.stored.wall_ms = batch.wall_ms;
        if let Some(epoch) = &batch.epoch {
            self.stored.epoch = Some(epoch.clone());
        }
        for (name, fleet) in &batch.fleets {
            match fleet {
                Some(fleet) => {
                    self.stored.fleets.insert(name.clone(), fleet.clone());
                }
                None => {
                    if let Some(removed) = self.stored.fleets.remove(name) {
                        self.stored.gone.insert(name.clone(), removed.rollouts);
                    }
                }
            }
        }
        if let Some(change) = &batch.recovering {
            self.stored.recovering = change.after();
        }
        self.history.extend(batch.history.iter().cloned());
        if self.disk == Disk::FailsAfterwards {
            return Err(failed("write"));
        }
        Ok(self.stored.revision)
    }
}

fn failed(doing: &'static str) -> StoreError {
    StoreError::Failed {
        doing,
        source: "no space left on device".into(),
    }
}

impl Provider for Fake {
    fn create(&mut self, order: &CreateOrder) {
        self.calls.push(format!("create {}", order.instance));
    }

    fn delete(&mut self, instance: &InstanceId, basis: &DeleteBasis) {
        self.calls.push(format!("delete {instance} {basis}"));
    }

    fn list(&self) -> MachineList {
        self.machines.clone()
    }

    fn tags(&self) -> BTreeMap<InstanceId, MachineTag> {
        self.tags.clone()
    }
}

impl Catalogue for Fake {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        self.calls.push(format!("roles {fleet} {}", entries.len()));
        self.entries = entries.to_vec();
    }

    fn set_visible(&mut self, hidden: &[InstanceId]) {
        self.calls.push(format!("hide {}", hidden.len()));
    }

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        self.read_back.clone()
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        self.listed.clone()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        self.calls.push(format!("ghost {instance}"));
    }

    fn publish(&mut self) -> Result<(), NotPublished> {
        self.published += 1;
        if self.names_refused {
            return Err(NotPublished("too many".to_owned()));
        }
        Ok(())
    }

    fn holds(&self) -> Option<String> {
        self.holds.clone()
    }

    fn deeds(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.deeds)
    }
}

impl AgentLink for Fake {
    fn tell(&mut self, instance: &InstanceId, wanted: &Wanted) {
        self.calls.push(format!("tell {instance} {}", wanted.role));
    }

    fn admit(&mut self, admitted: &BTreeMap<InstanceId, Admitted>) {
        self.calls.push(format!("admit {}", admitted.len()));
        self.admitted = admitted.clone();
    }

    fn revoke(&mut self, instance: &InstanceId) {
        self.calls.push(format!("revoke {instance}"));
    }

    fn observe(&self) -> BTreeMap<InstanceId, AgentSeen> {
        self.seen.clone()
    }

    fn report_interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn only_listen(&mut self, why: Option<&str>) {
        let what = if why.is_some() { "listen" } else { "speak" };
        self.calls.push(what.to_owned());
    }

    fn heard(&self) -> BTreeMap<InstanceId, AgentHeard> {
        self.heard.clone()
    }

    fn adopt(&mut self, instances: &[InstanceId]) -> Result<(), NotAdopted> {
        self.calls.push(format!("adopt {}", instances.len()));
        Ok(())
    }
}

impl Probe for Fake {
    fn watch(&mut self, targets: &BTreeMap<InstanceId, Vec<ProbeTarget>>) {
        self.calls.push(format!("watch {}", targets.len()));
        self.targets = targets.clone();
    }

    fn results(&self) -> BTreeMap<InstanceId, ProbeObserved> {
        BTreeMap::new()
    }
}

impl Images for Fake {
    fn manifest(&self, _: &ImageRef) -> Option<ImageManifest> {
        self.recorded
            .then(|| ImageManifest::parse("image.toml", MANIFEST).unwrap())
    }
}

impl Ports for Fake {
    fn rules(&self) -> EnvironmentRules {
        EnvironmentRules::default()
    }

    fn clock(&self) -> &dyn Clock {
        self
    }

    fn store(&mut self) -> &mut dyn Store {
        self
    }

    fn providers(&self) -> Vec<(&str, &dyn Provider)> {
        vec![("process", self)]
    }

    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider> {
        if name == "process" { Some(self) } else { None }
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

/// Plans what the test says, pass by pass, and then nothing.
#[derive(Default)]
pub(super) struct Script {
    plans: RefCell<Vec<Plan>>,
    /// The input of each pass: the moment and how long it has been watching.
    pub(super) seen: RefCell<Vec<(Moment, Duration)>>,
}

impl Script {
    pub(super) fn of(plans: impl IntoIterator<Item = Plan>) -> Self {
        let mut plans: Vec<Plan> = plans.into_iter().collect();
        plans.reverse();
        Self {
            plans: RefCell::new(plans),
            seen: RefCell::default(),
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Decide for Script {
    fn plan(&self, input: &PlanInput<'_>) -> Plan {
        self.seen
            .borrow_mut()
            .push((input.now, input.observed.watching_for));
        self.plans.borrow_mut().pop().unwrap_or_default()
    }

    fn command(
        &self,
        input: &CommandInput<'_>,
        order: &Command,
        who: &str,
    ) -> Result<CommandOutcome, Refusal> {
        calvin_planner::command(input, order, who)
    }
}

pub(super) fn fleet_name() -> FleetName {
    "web".parse().unwrap()
}

pub(super) fn id(number: u64) -> InstanceId {
    InstanceId::new(&fleet_name(), number)
}

pub(super) fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, last).into()
}

pub(super) fn build() -> Build {
    Build {
        image: ImageRef {
            tag: "web@1.0".parse().unwrap(),
            digest: Digest::from_sha256([1; 32]),
        },
        work: Work::Boot,
        services: true,
        quorum: false,
    }
}

pub(super) fn instance(life: Life) -> Instance {
    Instance {
        zone: None,
        protected: None,
        at_work: false,
        ordered: None,
        build: build(),
        purpose: Purpose::Scale,
        life,
        since: Moment::default(),
        created: Moment::default(),
        replace: None,
        wanted_since: Moment::default(),
        wanted: Wanted {
            generation: Generation(1),
            role: Role::Active,
            drain: None,
        },
        catalogue: CatalogueRole::Active,
        proven: true,
    }
}

pub(super) fn fleet(lives: &[Life]) -> FleetState {
    let spec = FleetSpec::parse(
        "web.toml",
        "name = \"web\"\nimage = \"web@1.0\"\ncount = 2\n",
    );
    let instances = lives.iter().enumerate();
    let instances = instances
        .map(|(number, life)| (id(number as u64), instance(life.clone())))
        .collect();
    FleetState {
        serving: Some(build()),
        instances,
        ..FleetState::new(spec.unwrap())
    }
}

pub(super) fn fleets(lives: &[Life]) -> BTreeMap<FleetName, FleetState> {
    BTreeMap::from([(fleet_name(), fleet(lives))])
}
