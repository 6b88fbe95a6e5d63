//! What the engine commits: plans, checkpoints of its clock, and what is its state from then on.

use std::{sync::Arc, time::Duration};

use crate::{
    decide::Decide,
    engine::{Engine, NotCommitted},
    hold::chain,
    ports::{Batch, HistoryLine, Ports, RecoveringChange, StoreError, Stored},
    recover::Recovery,
};

/// Longest time without a commit: what a crash makes the decision clock lose at most. At one
/// durable write each it costs a disk nothing.
pub(crate) const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Who did what the catalogue did by itself.
const CATALOGUE: &str = "catalogue";

impl<P: Ports, D: Decide> Engine<P, D> {
    /// Commits a plan's changes, or a checkpoint of the clock when one is due. Says whether the
    /// state changed.
    pub(crate) fn commit_plan(&mut self, batch: Batch) -> Result<bool, NotCommitted> {
        let changed = !batch.fleets.is_empty() || batch.environment.is_some();
        // Who stood still may have been replaced meanwhile: its store says so, before it acts.
        let elapsed = batch.moment.since(self.committed_moment);
        let checkpoint_due = self.clock.stood_still() || elapsed >= CHECKPOINT_INTERVAL;
        if changed || !batch.history.is_empty() || checkpoint_due {
            self.commit(batch)?;
            self.deeds.clear();
        }
        Ok(changed)
    }

    /// Adds to a plan's changes what the catalogue did by itself. A commit that fails loses none of it:
    /// it is in the next one.
    pub(crate) fn note_deeds(&mut self, batch: &mut Batch) {
        self.deeds.extend(self.ports.catalogue().deeds());
        if self.deeds.is_empty() {
            return;
        }
        let wall_ms = self.ports.clock().wall_ms();
        batch
            .history
            .extend(self.deeds.iter().map(|event| HistoryLine {
                wall_ms,
                who: CATALOGUE.to_owned(),
                event: event.clone(),
            }));
    }

    /// Commits, and only then makes it the state of this run. A failure holds the engine.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> Result<(), NotCommitted> {
        batch.wall_ms = self.ports.clock().wall_ms();
        match self.ports.store().commit(self.revision, &batch) {
            Ok(revision) => {
                self.revision = revision;
                self.committed_moment = batch.moment;
                self.apply(batch);
                self.hold.end();
                Ok(())
            }
            Err(error) => {
                let wall_ms = self.ports.clock().wall_ms();
                match &error {
                    StoreError::Conflict { .. } => {
                        let reason = self.who_took_over().unwrap_or_else(|| chain(&error));
                        self.hold.stop(reason, wall_ms);
                    }
                    StoreError::Failed { .. } => {
                        let now = self.ports.clock().monotonic();
                        self.hold.fail(chain(&error), now, wall_ms);
                    }
                }
                Err(NotCommitted(error))
            }
        }
    }

    /// Which run wrote to the store, if that can be read and is not this one.
    fn who_took_over(&mut self) -> Option<String> {
        let stored = self.ports.store().load().ok()?;
        (stored.epoch.as_ref() != Some(&self.epoch)).then(|| taken_over(&stored))
    }

    pub(crate) fn apply(&mut self, batch: Batch) {
        match batch.recovering {
            Some(RecoveringChange::Begins(recovering)) => {
                let recovery = Recovery::new(recovering);
                recovery.begin(&mut self.ports);
                self.recovery = Some(recovery);
            }
            Some(RecoveringChange::Ends) => self.end_recovery(),
            None => {}
        }
        if let Some(environment) = batch.environment {
            self.environment = Arc::new(environment);
        }
        if batch.fleets.is_empty() {
            return;
        }
        let fleets = Arc::make_mut(&mut self.fleets);
        for (name, state) in batch.fleets {
            match state {
                Some(state) => {
                    fleets.insert(name, state);
                }
                None => {
                    if let Some(removed) = fleets.remove(&name) {
                        Arc::make_mut(&mut self.gone).insert(name, removed.rollouts);
                    }
                }
            }
        }
        self.fleets_version += 1;
    }
}

/// What a run says that another one has replaced.
pub(crate) fn taken_over(stored: &Stored) -> String {
    match &stored.epoch {
        Some(epoch) => {
            format!("another coordinator took the store over, with epoch {epoch}")
        }
        None => "the store holds no epoch any more: it was replaced while in use".to_owned(),
    }
}
