//! The embedded catalogue: entries and hidden ones become snapshots, agents acknowledge them.
//!
//! Nothing of it is durable but what agents have stored: a coordinator that starts again knows
//! nothing of what clients see until it has published anew.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use calvin_engine::ports::{Catalogue, NotPublished};
use calvin_model::{
    CatalogueEntry, CatalogueRole, Epoch, FleetName, InstanceId, NamesSnapshot, NamesVersion,
};
use calvin_planner::CatalogueObserved;

use crate::fuse::Fuse;

/// How long clients may keep an answer.
const TTL: Duration = Duration::from_secs(1);

/// One fleet as it was published last.
#[derive(Debug)]
struct Published {
    roles: BTreeMap<InstanceId, CatalogueRole>,
    visible: Vec<CatalogueEntry>,
    /// The snapshot that first said so.
    number: u64,
}

/// The catalogue of one run of the coordinator.
#[derive(Debug)]
pub(crate) struct SimCatalogue {
    fuse: Fuse,
    epoch: u64,
    entries: BTreeMap<FleetName, Vec<CatalogueEntry>>,
    hidden: Vec<InstanceId>,
    published: BTreeMap<FleetName, Published>,
    number: u64,
    /// What was set is not what was published.
    changed: bool,
    /// The newest snapshot of this run, if it has published any.
    pub(crate) snapshot: Option<Rc<NamesSnapshot>>,
    /// It was published in this pass, and the world has not sent it yet.
    pub(crate) fresh: bool,
    /// Nothing can be published now.
    pub(crate) down: bool,
    /// What each agent with a live session has said that it stored.
    pub(crate) stored: BTreeMap<InstanceId, Option<NamesVersion>>,
}

/// What agents have that never heard of any.
pub(crate) fn no_names() -> NamesSnapshot {
    NamesSnapshot {
        version: NamesVersion::default(),
        domain: "sim.internal".to_owned(),
        ttl: TTL,
        entries: Vec::new(),
    }
}

impl SimCatalogue {
    pub(crate) fn new(fuse: Fuse) -> Self {
        Self {
            fuse,
            epoch: 0,
            entries: BTreeMap::new(),
            hidden: Vec::new(),
            published: BTreeMap::new(),
            number: 0,
            changed: true,
            snapshot: None,
            fresh: false,
            down: false,
            stored: BTreeMap::new(),
        }
    }

    fn visible(&self, entries: &[CatalogueEntry]) -> Vec<CatalogueEntry> {
        let shown = |entry: &&CatalogueEntry| !self.hidden.contains(&entry.instance);
        entries.iter().filter(shown).cloned().collect()
    }

    fn unconfirmed(&self, number: u64) -> Vec<InstanceId> {
        let needed = NamesVersion {
            epoch: self.epoch,
            number,
        };
        self.stored
            .iter()
            .filter(|(_, stored)| stored.is_none_or(|stored| stored < needed))
            .map(|(instance, _)| instance.clone())
            .collect()
    }
}

impl Catalogue for SimCatalogue {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        if self.fuse.burn() {
            self.entries.insert(fleet.clone(), entries.to_vec());
            self.changed = true;
        }
    }

    fn set_visible(&mut self, hidden: &[InstanceId]) {
        self.hidden = hidden.to_vec();
        self.changed = true;
    }

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        let fleets = self.published.iter().map(|(fleet, published)| {
            let visible = published.visible.iter();
            let seen = CatalogueObserved {
                roles: published.roles.clone(),
                visible: visible.map(|entry| entry.instance.clone()).collect(),
                unconfirmed: self.unconfirmed(published.number),
                checks: BTreeMap::new(),
            };
            (fleet.clone(), seen)
        });
        fleets.collect()
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        self.entries
            .values()
            .flatten()
            .map(|entry| (entry.instance.clone(), entry.role))
            .collect()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        self.changed = true;
        for entries in self.entries.values_mut() {
            entries.retain(|entry| entry.instance != *instance);
        }
    }

    fn speak(&mut self, epoch: &Epoch) {
        self.epoch = epoch.number;
        self.entries.clear();
        self.published.clear();
        self.number = 0;
        self.snapshot = None;
        self.changed = true;
    }

    fn publish(&mut self) -> Result<(), NotPublished> {
        if self.fuse.is_burnt() {
            return Ok(());
        }
        if self.down {
            return Err(NotPublished("the catalogue is down".to_owned()));
        }
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let next = self.number + 1;
        let mut news = self.number == 0;
        let mut published = BTreeMap::new();
        for (fleet, entries) in &self.entries {
            let visible = self.visible(entries);
            let before = self.published.get(fleet);
            let same = before.filter(|before| before.visible == visible);
            news |= same.is_none();
            let fresh = Published {
                roles: entries
                    .iter()
                    .map(|entry| (entry.instance.clone(), entry.role))
                    .collect(),
                visible,
                number: same.map_or(next, |before| before.number),
            };
            published.insert(fleet.clone(), fresh);
        }
        self.published = published;
        if !news {
            return Ok(());
        }
        self.number = next;
        let visible = self.published.values().flat_map(|fleet| &fleet.visible);
        self.snapshot = Some(Rc::new(NamesSnapshot {
            version: NamesVersion {
                epoch: self.epoch,
                number: next,
            },
            entries: visible.cloned().collect(),
            ..no_names()
        }));
        self.fresh = true;
        Ok(())
    }
}
