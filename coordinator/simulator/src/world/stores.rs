//! What becomes of stores: a copy of one that somebody starts a coordinator on, backups, and one of
//! them that is put in the store's place. A coordinator on either only listens, until a person says
//! what is to become of the difference; that is judged here.

use std::{collections::BTreeSet, time::Duration};

use calvin_model::InstanceId;

use super::World;
use crate::{
    check::Rule,
    desk::{Desk, DeskNumber},
    event::Event,
    fault::Fault,
    machine::Machine,
    store::{Copies, Disk},
};

/// Time from one backup to the next.
const BACKUP_EVERY: Duration = Duration::from_secs(8);
/// Backups that are kept: the oldest is so many times [`BACKUP_EVERY`] old.
const BACKUPS: usize = 5;

/// Somebody starts a coordinator on a copy of the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    /// With `--adopt`, or without.
    pub(crate) copies: Copies,
    /// How long it runs, if it starts.
    pub(crate) stays: Duration,
}

impl World {
    /// The coordinator that started last on the store itself.
    pub(super) fn newest_desk(&self) -> Option<DeskNumber> {
        let mut desks = self.desks.iter().rev();
        let (number, _) = desks.find(|(_, desk)| !desk.on_copy)?;
        Some(*number)
    }

    /// Fate ends a coordinator's process.
    pub(super) fn kill(&mut self, number: DeskNumber) {
        let now = self.now;
        if let Some(desk) = self.desks.get_mut(&number) {
            desk.killed = true;
            desk.due = now;
        }
    }

    /// What there is for a coordinator on a copy of the store as it is now: nothing, if it does not
    /// start.
    pub(crate) fn desk_on_copy(&mut self, copies: Copies) -> Option<Box<Desk>> {
        let file = self.next_serial();
        let mut disk = self.disk.borrow().copy(file);
        if let Err(why) = disk.open(copies) {
            self.note(format_args!(
                "a coordinator on a copy of the store does not start: {why}"
            ));
            return None;
        }
        self.note(format_args!(
            "a coordinator starts on a copy of the store, with --adopt"
        ));
        Some(self.new_desk_on(disk))
    }

    /// Somebody ends the coordinator on a copy after this time.
    pub(crate) fn end_copy_after(&mut self, number: DeskNumber, stays: Duration) {
        self.queue.put(self.now + stays, Event::CopyEnds(number));
    }

    pub(super) fn copy_ends(&mut self, number: DeskNumber) {
        self.kill(number);
    }

    /// Makes a backup, when the next is due.
    pub(super) fn back_up(&mut self) {
        if !self.has(Fault::RestoredBackup) || self.now < self.backup_due {
            return;
        }
        self.backup_due = self.now + BACKUP_EVERY;
        let backup = self.disk.borrow().copy(0);
        self.backups.push_back(backup);
        if self.backups.len() > BACKUPS {
            self.backups.pop_front();
        }
    }

    /// Every coordinator is ended, so that an older state can take the place of the store.
    pub(super) fn begin_to_restore(&mut self, random: &mut fastrand::Rng) {
        if self.backups.is_empty() {
            return;
        }
        let place = random.usize(..self.backups.len());
        // Later ones were of a store that is no more.
        self.backups.truncate(place + 1);
        self.restoring = true;
        let numbers: Vec<DeskNumber> = self.desks.keys().copied().collect();
        for number in numbers {
            self.kill(number);
        }
    }

    /// Puts the newest backup that is left in the place of the store. No coordinator runs.
    pub(crate) fn restore(&mut self) {
        self.restoring = false;
        let Some(backup) = self.backups.back() else {
            return;
        };
        let backup = backup.copy(0);
        self.note(format_args!(
            "the store is restored from a backup of revision {}",
            backup.stored.revision.0
        ));
        let file = self.next_serial();
        let mut disk = self.disk.borrow_mut();
        let mut known: BTreeSet<InstanceId> = disk.records().cloned().collect();
        known.extend(self.machines.iter().map(|machine| machine.instance.clone()));
        disk.restore(backup, file);
        let records: BTreeSet<&InstanceId> = disk.records().collect();
        known.retain(|instance| !records.contains(instance));
        disk.lost_track.extend(known);
    }

    /// What is shown of a machine that no record names, a person deletes by hand: where the store
    /// lost track of it, or it is one of two that a creation made.
    pub(crate) fn may_delete_by_hand(&self, instance: &InstanceId) -> bool {
        let lost = self.disk.borrow().lost_track.contains(instance);
        let strays = &self.truth.strays;
        (lost || self.doubled.contains(instance)) && !strays.contains(instance)
    }

    /// Machines whose agents show another key than that which an instance has: alarms, which a person
    /// looks at.
    pub(crate) fn refused(&self) -> Vec<InstanceId> {
        let disk = self.disk.borrow();
        let refused = self.doubled.iter().filter(|instance| {
            let key = disk.keys.get(*instance);
            let number = self.by_instance.get(*instance);
            key.is_some() && number.is_some() && key != number
        });
        refused.cloned().collect()
    }

    /// Whether every agent that could say something to a coordinator that listens has done so.
    pub(crate) fn has_heard_all(&self, number: DeskNumber) -> bool {
        let Some(desk) = self.desks.get(&number) else {
            return false;
        };
        let mut there = self.by_instance.iter();
        there.all(|(instance, number)| {
            let machine = self.machine(*number);
            let speaks = machine.is_up() && machine.enrolled;
            !speaks || desk.link.has_heard(instance)
        })
    }

    /// An agent that a coordinator does not let in says what it has heard, and how it works.
    pub(super) fn hear(&mut self, number: DeskNumber, place: super::MachineNumber) {
        let now = self.now;
        let machine: &Machine = &self.machines[place.0];
        let Some(agent) = &machine.agent else {
            return;
        };
        let (epoch, generation) = agent.seen();
        let heard = calvin_engine::ports::AgentHeard {
            age: Duration::ZERO,
            fleet: machine.tag.fleet.clone(),
            epoch: epoch.cloned(),
            generation,
            role: agent.role(),
            health: agent.report_now().health,
            manifest: calvin_model::Digest::from_sha256([0; 32]),
            build: None,
        };
        let instance = machine.instance.clone();
        if let Some(desk) = self.desks.get_mut(&number) {
            desk.link.hear(&instance, place, heard);
            desk.poke(now + super::TOGETHER);
        }
    }

    /// A coordinator that recovers makes, deletes, publishes and tells nothing.
    pub(super) fn check_listener(&self, number: DeskNumber) {
        let Some(desk) = self.desks.get(&number) else {
            return;
        };
        if !desk.link.only_listens() {
            return;
        }
        let requests = desk.provider.requests.len();
        let told = desk.link.outbox.len();
        if requests > 0 || told > 0 || desk.catalogue.fresh {
            let published = if desk.catalogue.fresh { "" } else { "not " };
            let text = format!(
                "coordinator {}: {requests} requests to its provider, {told} orders to agents, names {published}published",
                number.0
            );
            self.broken(Rule::WhoRecoversOnlyListens, text);
        }
    }
}

impl Disk {
    /// Every instance that has a record.
    pub(super) fn records(&self) -> impl Iterator<Item = &InstanceId> {
        let fleets = self.stored.fleets.values();
        fleets.flat_map(|fleet| fleet.instances.keys())
    }
}
