//! The store: a disk that outlives every run of the coordinator, and each run's hand on it, which
//! can crash the run at any of its writes.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
    time::Duration,
};

use calvin_engine::ports::{
    Batch, Recovering, RecoveringChange, Revision, Store, StoreError, Stored,
};
use calvin_model::{CatalogueRole, InstanceId};
use calvin_planner::{Instance, Rollout};

use crate::{
    check::{Rule, check_approval, check_commit},
    event::MachineNumber,
    log::Log,
    scenario::{Crash, Side},
};

/// What becomes of a file that is a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// It does not start.
    Refused,
    /// It starts, and recovers.
    Adopted,
}

/// No file is numbered so.
const NOWHERE: u64 = u64::MAX;

fn recovering(reason: String) -> Recovering {
    Recovering {
        reason,
        since_wall_ms: 0,
    }
}

/// What is durable. One at a time writes to it, whoever has it in hand.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) stored: Stored,
    /// Writes that were tried.
    pub(crate) writes: u64,
    /// Commits fail now; the side says whether they are durable all the same.
    pub(crate) failing: Option<Side>,
    /// The next write crashes who writes it.
    pub(crate) crash_next: Option<Side>,
    /// Identities that were revoked for good.
    pub(crate) revoked: BTreeSet<InstanceId>,
    /// Which machine spent the join token of an instance: another is refused.
    pub(crate) keys: BTreeMap<InstanceId, MachineNumber>,
    /// Instances that a restored store has no record of any more, or that an approval left out:
    /// nobody here revokes their identity, and a person deletes their machines.
    pub(crate) lost_track: BTreeSet<InstanceId>,
    /// Instances that an approval took as serving, by the word of their agents.
    pub(crate) approved: BTreeSet<InstanceId>,
    /// All that an approval kept, until clients find one of its fleet that answers.
    pub(crate) recovered: BTreeSet<InstanceId>,
    /// Greens of rollouts whose soak a person skipped.
    pub(crate) promoted: BTreeSet<InstanceId>,
    /// Which file it is, and as which it was made: where they differ it is a copy.
    file: u64,
    made_as: u64,
    crash: Crash,
    /// With `Crash::EveryWrite`: the write that is tried now has crashed already.
    tried: bool,
}

impl Disk {
    pub(crate) fn new(crash: Crash) -> Self {
        Self {
            stored: Stored::default(),
            writes: 0,
            failing: None,
            crash_next: None,
            revoked: BTreeSet::new(),
            keys: BTreeMap::new(),
            lost_track: BTreeSet::new(),
            approved: BTreeSet::new(),
            recovered: BTreeSet::new(),
            promoted: BTreeSet::new(),
            file: 0,
            made_as: 0,
            crash,
            tried: false,
        }
    }

    /// A copy of its file.
    pub(crate) fn copy(&self, file: u64) -> Self {
        Self {
            stored: self.stored.clone(),
            revoked: self.revoked.clone(),
            keys: self.keys.clone(),
            lost_track: self.lost_track.clone(),
            file,
            made_as: self.made_as,
            ..Self::new(Crash::Never)
        }
    }

    /// What is in a backup takes its place. It was made as no file at all, so that it does not
    /// start unless somebody says so; identities are as old as the rest.
    pub(crate) fn restore(&mut self, backup: Self, file: u64) {
        self.stored = backup.stored;
        self.stored.recovering = Some(recovering("it was restored from a backup".to_owned()));
        self.revoked = backup.revoked;
        self.keys = backup.keys;
        self.file = file;
        self.made_as = NOWHERE;
    }

    /// A coordinator opens it: a copy only where that is wanted, and then it recovers.
    pub(crate) fn open(&mut self, copies: Copies) -> Result<(), String> {
        if self.file == self.made_as {
            return Ok(());
        }
        let differs = format!(
            "it was made as the file with inode {}, this one has {}",
            self.made_as, self.file
        );
        match copies {
            Copies::Refused => Err(format!("{differs}; --adopt starts it all the same")),
            Copies::Adopted => {
                self.made_as = self.file;
                let reason = format!("its store was adopted: {differs}");
                self.stored.recovering = Some(recovering(reason));
                Ok(())
            }
        }
    }

    fn crash_now(&mut self, batch: &Batch) -> Option<Side> {
        if let Some(side) = self.crash_next.take() {
            return Some(side);
        }
        match self.crash {
            Crash::Never | Crash::AtAction(_) => None,
            Crash::AtWrite(number, side) => (self.writes == number).then_some(side),
            Crash::EveryWrite(side) => {
                if batch.fleets.is_empty() {
                    return None;
                }
                // The first try of each write crashes, the second gets through.
                self.tried = !self.tried;
                self.tried.then_some(side)
            }
        }
    }

    fn write(&mut self, batch: &Batch, log: &Log) {
        if let Some(environment) = &batch.environment {
            self.stored.environment = environment.clone();
        }
        let approved =
            self.stored.recovering.is_some() && batch.recovering == Some(RecoveringChange::Ends);
        if let Some(change) = &batch.recovering {
            self.stored.recovering = change.after();
        }
        for (name, after) in &batch.fleets {
            let before = self.stored.fleets.get(name);
            if approved {
                check_approval(before, after.as_ref(), log);
            } else {
                check_commit(before, after.as_ref(), log);
            }
            if let (true, Some(before), Some(after)) = (approved, before, after) {
                let left_out = before.instances.keys();
                let left_out = left_out.filter(|id| !after.instances.contains_key(*id));
                self.lost_track.extend(left_out.cloned());
                self.lost_track
                    .retain(|id| !after.instances.contains_key(id));
                let serves = |one: &Instance| one.catalogue == CatalogueRole::Active;
                let serving = after.instances.iter().filter(|(_, one)| serves(one));
                self.approved.extend(serving.map(|(id, _)| id.clone()));
                self.recovered.extend(after.instances.keys().cloned());
            }
            let rollout = after.as_ref().and_then(|after| after.rollout.as_ref());
            let skips = |it: &&Rollout| it.promoted.is_some() || it.emergency.is_some();
            if let Some(rollout) = rollout.filter(skips) {
                self.promoted.extend(rollout.sets.green.iter().cloned());
            }
            match after {
                Some(after) => {
                    self.stored.fleets.insert(name.clone(), after.clone());
                }
                None => {
                    if let Some(removed) = self.stored.fleets.remove(name) {
                        self.stored.gone.insert(name.clone(), removed.rollouts);
                    }
                }
            }
        }
        for line in &batch.history {
            log.line(format_args!("{}: {}", line.who, line.event.text));
        }
        if batch.moment < self.stored.moment {
            let text = format!("{} after {}", batch.moment, self.stored.moment);
            log.broken(Rule::ClockNeverGoesBack, text);
        }
        self.stored.moment = batch.moment;
        if let Some(epoch) = &batch.epoch {
            let before = self.stored.epoch.as_ref().map_or(0, |epoch| epoch.number);
            if epoch.number <= before {
                let text = format!("{} after {before}", epoch.number);
                log.broken(Rule::EpochNeverGoesBack, text);
            }
            log.line(format_args!("epoch {}", epoch.number));
            self.stored.epoch = Some(epoch.clone());
        }
        self.stored.revision.0 += 1;
    }
}

/// One run's hand on a disk.
#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) disk: Rc<RefCell<Disk>>,
    /// The run has crashed in the middle of a write.
    pub(crate) crashed: bool,
    log: Log,
}

#[derive(Debug)]
struct Broken(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

fn failed(doing: &'static str, why: &'static str) -> StoreError {
    StoreError::Failed {
        doing,
        source: Box::new(Broken(why)),
    }
}

impl SimStore {
    pub(crate) fn new(disk: Rc<RefCell<Disk>>, log: Log) -> Self {
        Self {
            disk,
            crashed: false,
            log,
        }
    }
}

impl Store for SimStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        if self.crashed {
            return Err(failed("read", "the process has crashed"));
        }
        Ok(self.disk.borrow().stored.clone())
    }

    fn commit(&mut self, expected: Revision, batch: &Batch) -> Result<Revision, StoreError> {
        if self.crashed {
            return Err(failed("write", "the process has crashed"));
        }
        let disk = &mut *self.disk.borrow_mut();
        if expected != disk.stored.revision {
            return Err(StoreError::Conflict {
                expected,
                found: disk.stored.revision,
            });
        }
        disk.writes += 1;
        let crash = disk.crash_now(batch);
        match crash.or(disk.failing) {
            None => {
                disk.write(batch, &self.log);
                return Ok(disk.stored.revision);
            }
            Some(Side::Before) => {}
            Some(Side::After) => {
                disk.write(batch, &self.log);
                // The retry that got through was this one: the next write is a new one.
                disk.tried = false;
            }
        }
        if let Some(side) = crash {
            self.crashed = true;
            let number = disk.writes;
            self.log.line(format_args!(
                "crash at write {number}, {side:?} it is durable"
            ));
        }
        Err(failed("write", "no space left on device"))
    }
}

/// How long a store that fails does so, in milliseconds.
pub(crate) const STORE_FAILS_MS: (u64, u64) = (200, 6_000);
/// How long a disk is full, in milliseconds.
pub(crate) const DISK_FULL_MS: (u64, u64) = (2_000, 20_000);
/// Time of a commit on a machine's disk.
pub(crate) const AGENT_DISK: Duration = Duration::from_millis(5);
