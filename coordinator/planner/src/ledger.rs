//! What all fleets of an environment share, and how much of it is left in this pass: providers'
//! capacity, declared limits, machines in flight, deletions. Every fleet takes from the same ledger,
//! one after the other, so that no two count on the same machine.
//!
//! A wave is reserved whole before its first machine is asked for. What it has reserved and not made
//! yet nobody else gets, also while it makes room first: the room is its own.

mod count;
mod shortage;

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{FleetName, LimitName};

use crate::{environment::EnvironmentRules, state::FleetState};
pub(crate) use count::{Counts, missing_to_go_back};
pub(crate) use shortage::{Scope, Shortage};

/// Whether a machine was reserved before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// With its wave, or because what it replaces is gone by our doing.
    Reserved,
    /// It was not: it takes what nobody has reserved.
    New,
}

/// What is left for a fleet that has reserved nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// So many more machines.
    pub(crate) fits: u32,
    /// Why no more, where there is a bound.
    pub(crate) bound: Option<Shortage>,
}

/// What all fleets share, in this pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger<'a> {
    rules: Option<&'a EnvironmentRules>,
    counts: Counts<'a>,
    /// Why fleets that others come after do not serve what they should.
    unready: BTreeMap<&'a FleetName, String>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(
        rules: &'a EnvironmentRules,
        counts: Counts<'a>,
        unready: BTreeMap<&'a FleetName, String>,
    ) -> Self {
        Self {
            rules: Some(rules),
            counts,
            unready,
        }
    }

    /// The first fleet that this one comes after and that does not serve what it should, and why.
    pub(crate) fn waits_for(&self, state: &FleetState) -> Option<String> {
        state.spec.after.iter().find_map(|first| {
            let why = self.unready.get(first)?;
            Some(format!("fleet {first} to serve what it should: {why}"))
        })
    }

    /// How many machines fit that nobody has reserved.
    pub(crate) fn room(&self, state: &FleetState) -> Room {
        let mut room = Room {
            fits: u32::MAX,
            bound: None,
        };
        let mut narrow = |fits: u32, bound: Shortage| {
            if fits < room.fits {
                room = Room {
                    fits,
                    bound: Some(bound),
                };
            }
        };
        let provider = &state.spec.provider;
        if let Some(free) = self.counts.free(provider) {
            let taken = self.counts.unmade(provider) + self.counts.reserved(provider);
            let free = free.saturating_sub(taken);
            narrow(free, Shortage::provider(provider, free));
        }
        for (limit, each) in &state.spec.uses {
            if let Some(of) = self.limit(limit) {
                let taken = self.counts.used(limit) + self.counts.to_be_used(limit);
                let left = u64::from(of).saturating_sub(taken);
                let fits = left / u64::from((*each).max(1));
                let fits = u32::try_from(fits).unwrap_or(u32::MAX);
                narrow(fits, Shortage::limit(limit, left, of, *each));
            }
        }
        room
    }

    fn limit(&self, name: &LimitName) -> Option<u32> {
        self.rules?.limits.get(name).copied()
    }

    /// Reserves a wave.
    pub(crate) fn reserve(&mut self, state: &FleetState, number: u32) {
        self.counts.reserve(state, number);
    }

    /// Takes a reservation back.
    pub(crate) fn release(&mut self, state: &FleetState, number: u32) {
        self.counts.release(state, number);
    }

    /// Makes one machine, if the budgets allow it now and there is room for it.
    pub(crate) fn make(
        &mut self,
        fleet: &'a FleetName,
        state: &FleetState,
        claim: Claim,
    ) -> Result<(), Shortage> {
        self.in_flight(fleet, state)?;
        match claim {
            Claim::Reserved => self.fits_reserved(state)?,
            Claim::New => {
                let room = self.room(state);
                if let (0, Some(bound)) = (room.fits, room.bound) {
                    return Err(bound);
                }
            }
        }
        self.counts.made(fleet, state, claim);
        Ok(())
    }

    /// What was reserved may be made as soon as a machine fits at all.
    fn fits_reserved(&self, state: &FleetState) -> Result<(), Shortage> {
        let provider = &state.spec.provider;
        if let Some(free) = self.counts.free(provider) {
            let left = free.saturating_sub(self.counts.unmade(provider));
            if left == 0 {
                return Err(Shortage::provider(provider, left));
            }
        }
        for (limit, each) in &state.spec.uses {
            if let Some(of) = self.limit(limit) {
                let left = u64::from(of).saturating_sub(self.counts.used(limit));
                if left < u64::from(*each) {
                    return Err(Shortage::limit(limit, left, of, *each));
                }
            }
        }
        Ok(())
    }

    fn in_flight(&self, fleet: &FleetName, state: &FleetState) -> Result<(), Shortage> {
        let making = self.counts.making(fleet);
        if let Some(bound) = state.spec.budget.in_flight.filter(|bound| making >= *bound) {
            return Err(Shortage::in_flight(Scope::Fleet, making, bound));
        }
        let making = self.counts.making_all();
        let bound = self.rules.and_then(|rules| rules.budget.in_flight);
        if let Some(bound) = bound.filter(|bound| making >= *bound) {
            return Err(Shortage::in_flight(Scope::Environment, making, bound));
        }
        Ok(())
    }

    /// Whether one more machine may be deleted now, beside `leaving` that are on their way to it.
    pub(crate) fn may_delete(
        &self,
        fleet: &FleetName,
        state: &FleetState,
        leaving: u32,
    ) -> Result<(), Shortage> {
        let budget = &state.spec.budget;
        let done = self.counts.deleted(fleet).saturating_add(leaving);
        if let Some(bound) = budget.deletions.filter(|bound| done >= *bound) {
            let window = budget.window.0;
            return Err(Shortage::deletions(Scope::Fleet, done, bound, window));
        }
        let Some(budget) = self.rules.map(|rules| &rules.budget) else {
            return Ok(());
        };
        let done = self.counts.deleted_all().saturating_add(leaving);
        if let Some(bound) = budget.deletions.filter(|bound| done >= *bound) {
            let window = budget.window.0;
            return Err(Shortage::deletions(Scope::Environment, done, bound, window));
        }
        Ok(())
    }

    /// Whether deletions of a fleet count against any budget.
    pub(crate) fn counts_deletions(&self, state: &FleetState) -> bool {
        let everywhere = self.rules.and_then(|rules| rules.budget.deletions);
        everywhere.is_some() || state.spec.budget.deletions.is_some()
    }

    /// One machine more is deleted.
    pub(crate) fn deleted(&mut self, fleet: &'a FleetName) {
        self.counts.delete(fleet);
    }

    /// How long deletions of a fleet are remembered: for as long as a budget asks.
    pub(crate) fn window(&self, state: &FleetState) -> Duration {
        let budgets = [Some(&state.spec.budget), self.rules.map(|it| &it.budget)];
        let asking = budgets.into_iter().flatten();
        let asking = asking.filter(|budget| budget.deletions.is_some());
        let windows = asking.map(|budget| budget.window.0.0);
        windows.max().unwrap_or_default()
    }
}
