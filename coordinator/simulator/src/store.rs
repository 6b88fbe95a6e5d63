//! The store: durable over crashes of the coordinator, which it can cause at any of its writes.

use std::{fmt, time::Duration};

use calvin_engine::ports::{Batch, Revision, Store, StoreError, Stored};

use crate::{
    check::{Rule, Violations, check_commit},
    scenario::{Crash, Side},
    trace::Trace,
};

/// The store.
#[derive(Debug)]
pub(crate) struct SimStore {
    /// What is durable.
    pub(crate) stored: Stored,
    /// Writes that were tried.
    pub(crate) writes: u64,
    /// The coordinator's process has crashed in the middle of a write.
    pub(crate) crashed: bool,
    /// Commits fail now; the side says whether they are durable all the same.
    pub(crate) failing: Option<Side>,
    pub(crate) now: Duration,
    pub(crate) trace: Trace,
    pub(crate) violations: Violations,
    crash: Crash,
    /// With `Crash::EveryWrite`: the write that is tried now has crashed already.
    tried: bool,
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
    pub(crate) fn new(crash: Crash) -> Self {
        Self {
            stored: Stored::default(),
            writes: 0,
            crashed: false,
            failing: None,
            now: Duration::ZERO,
            trace: Trace::default(),
            violations: Violations::default(),
            crash,
            tried: false,
        }
    }

    fn crash_now(&mut self, batch: &Batch) -> Option<Side> {
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

    fn write(&mut self, batch: &Batch) {
        if let Some(environment) = &batch.environment {
            self.stored.environment = environment.clone();
        }
        for (name, after) in &batch.fleets {
            let before = self.stored.fleets.get(name);
            check_commit(before, after.as_ref(), self.now, &mut self.violations);
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
            self.trace
                .line(self.now, format_args!("{}: {}", line.who, line.event.text));
        }
        if batch.moment < self.stored.moment {
            let text = format!("{} after {}", batch.moment, self.stored.moment);
            self.violations.clock_went_back(self.now, text);
        }
        self.stored.moment = batch.moment;
        if let Some(epoch) = &batch.epoch {
            let before = self.stored.epoch.as_ref().map_or(0, |epoch| epoch.number);
            if epoch.number <= before {
                let text = format!("{} after {before}", epoch.number);
                self.violations
                    .add(self.now, Rule::EpochNeverGoesBack, text);
            }
            self.trace
                .line(self.now, format_args!("epoch {}", epoch.number));
            self.stored.epoch = Some(epoch.clone());
        }
        self.stored.revision.0 += 1;
    }
}

impl Store for SimStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        if self.crashed {
            return Err(failed("read", "the process has crashed"));
        }
        Ok(self.stored.clone())
    }

    fn commit(&mut self, expected: Revision, batch: &Batch) -> Result<Revision, StoreError> {
        if self.crashed {
            return Err(failed("write", "the process has crashed"));
        }
        if expected != self.stored.revision {
            return Err(StoreError::Conflict {
                expected,
                found: self.stored.revision,
            });
        }
        self.writes += 1;
        let crash = self.crash_now(batch);
        let side = crash.or(self.failing);
        match side {
            None => {
                self.write(batch);
                return Ok(self.stored.revision);
            }
            Some(Side::Before) => {}
            Some(Side::After) => {
                self.write(batch);
                // The retry that got through was this one: the next write is a new one.
                self.tried = false;
            }
        }
        if crash.is_some() {
            self.crashed = true;
            self.trace.line(
                self.now,
                format_args!("crash at write {}, {side:?} it is durable", self.writes),
            );
        }
        Err(failed("write", "no space left on device"))
    }
}
