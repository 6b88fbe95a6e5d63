//! The embedded catalogue: entries and hidden ones become snapshots, agents acknowledge them.
//!
//! The last snapshot is durable, so that a coordinator that starts again knows what clients see.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::ports::Catalogue;
use calvin_model::{
    CatalogueEntry, CatalogueRole, FleetName, InstanceId, NamesSnapshot, NamesVersion,
};
use calvin_planner::CatalogueObserved;

use crate::{event::Entries, fuse::Fuse};

/// How long clients may keep an answer.
const TTL: Duration = Duration::from_secs(1);

/// The catalogue.
#[derive(Debug)]
pub(crate) struct SimCatalogue {
    entries: BTreeMap<FleetName, Entries>,
    /// The entries of the newest snapshot, hidden ones too; durable.
    durable: BTreeMap<FleetName, Entries>,
    hidden: Vec<InstanceId>,
    changed: bool,
    /// The newest snapshot; durable.
    pub(crate) snapshot: NamesSnapshot,
    /// A snapshot was published that the world has not sent yet.
    pub(crate) fresh: bool,
    epoch: u64,
    fuse: Fuse,
    /// What each live agent stored, by instance.
    pub(crate) stored: BTreeMap<InstanceId, Option<NamesVersion>>,
}

impl SimCatalogue {
    pub(crate) fn new(fuse: Fuse) -> Self {
        Self {
            fuse,
            entries: BTreeMap::new(),
            durable: BTreeMap::new(),
            hidden: Vec::new(),
            changed: false,
            snapshot: NamesSnapshot {
                version: NamesVersion::default(),
                domain: "sim.internal".to_owned(),
                ttl: TTL,
                entries: Vec::new(),
            },
            fresh: false,
            epoch: 0,
            stored: BTreeMap::new(),
        }
    }

    /// The process that held this is gone: only what is durable stays.
    pub(crate) fn crash(&mut self) {
        self.entries.clone_from(&self.durable);
        self.hidden.clear();
        self.changed = true;
        self.fresh = false;
        self.stored.clear();
    }

    /// A new run of the coordinator speaks from now on.
    pub(crate) fn speak(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    fn is_shown(&self, instance: &InstanceId) -> bool {
        !self.hidden.contains(instance)
    }
}

impl Catalogue for SimCatalogue {
    fn set_roles(&mut self, fleet: &FleetName, entries: &[CatalogueEntry]) {
        if self.fuse.burn() && self.entries.get(fleet).map(Vec::as_slice) != Some(entries) {
            self.entries.insert(fleet.clone(), entries.to_vec());
            self.changed = true;
        }
    }

    fn set_visible(&mut self, hidden: &[InstanceId]) {
        if self.hidden != hidden {
            self.hidden = hidden.to_vec();
            self.changed = true;
        }
    }

    fn read_back(&self) -> BTreeMap<FleetName, CatalogueObserved> {
        let newest = self.snapshot.version;
        let behind = |stored: &Option<NamesVersion>| stored.is_none_or(|stored| stored < newest);
        let unconfirmed: Vec<InstanceId> = self
            .stored
            .iter()
            .filter(|(_, stored)| behind(stored))
            .map(|(instance, _)| instance.clone())
            .collect();
        let mut fleets: BTreeMap<FleetName, CatalogueObserved> = BTreeMap::new();
        for (fleet, entries) in &self.entries {
            let seen = fleets.entry(fleet.clone()).or_default();
            seen.unconfirmed.clone_from(&unconfirmed);
            for entry in entries {
                seen.roles.insert(entry.instance.clone(), entry.role);
                if self.is_shown(&entry.instance) {
                    seen.visible.push(entry.instance.clone());
                }
            }
        }
        fleets
    }

    fn list(&self) -> Vec<(InstanceId, CatalogueRole)> {
        self.entries
            .values()
            .flatten()
            .map(|entry| (entry.instance.clone(), entry.role))
            .collect()
    }

    fn remove_ghost(&mut self, instance: &InstanceId) {
        for entries in self.entries.values_mut() {
            let before = entries.len();
            entries.retain(|entry| entry.instance != *instance);
            self.changed |= entries.len() != before;
        }
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) || self.fuse.is_burnt() {
            return;
        }
        self.durable.clone_from(&self.entries);
        let mut entries: Vec<CatalogueEntry> = self
            .entries
            .values()
            .flatten()
            .filter(|entry| self.is_shown(&entry.instance))
            .cloned()
            .collect();
        entries.sort_by(|a, b| a.instance.cmp(&b.instance));
        let last = self.snapshot.version;
        let number = if last.epoch == self.epoch {
            last.number + 1
        } else {
            1
        };
        self.snapshot.version = NamesVersion {
            epoch: self.epoch,
            number,
        };
        self.snapshot.entries = entries;
        self.fresh = true;
    }
}
