//! Counts what is taken, once in each pass, over all fleets: one step for each instance.

use std::collections::{BTreeMap, BTreeSet};

use calvin_model::{FleetName, InstanceId, LimitName};

use super::Claim;
use crate::{
    observed::{Capacity, InstanceObserved, MachineState},
    phase::Phase,
    plan::PlanInput,
    state::{FleetState, Instance, Life, Rollout},
};

/// What is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts<'a> {
    providers: BTreeMap<&'a str, OfProvider>,
    limits: BTreeMap<&'a LimitName, OfLimit>,
    making: BTreeMap<&'a FleetName, u32>,
    making_all: u32,
    deleted: BTreeMap<&'a FleetName, u32>,
    deleted_all: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OfProvider {
    /// How many more it can make, if it says so.
    free: Option<u32>,
    /// Intents of which it has no machine yet.
    unmade: u32,
    /// Machines that waves have reserved, and of which there is no intent yet.
    reserved: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OfLimit {
    used: u64,
    reserved: u64,
}

impl<'a> Counts<'a> {
    /// What all fleets take.
    pub(crate) fn of(
        input: &PlanInput<'a>,
        fleets: impl Iterator<Item = (&'a FleetName, &'a FleetState)>,
    ) -> Self {
        let mut counts = Self::default();
        for (name, capacity) in &input.observed.capacity {
            counts.providers.entry(name).or_default().free = match capacity {
                Capacity::Unknown => None,
                Capacity::Free(number) => Some(*number),
            };
        }
        for (name, state) in fleets {
            counts.add(input, name, state);
        }
        counts
    }

    fn add(&mut self, input: &PlanInput<'a>, name: &'a FleetName, state: &'a FleetState) {
        let (mut making, mut unmade) = (0, 0);
        for (id, instance) in &state.instances {
            if instance.life == Life::Making {
                let seen = input.observed.instances.get(id);
                // One that has reported leaves its place to another in the same pass.
                making += u32::from(seen.is_none_or(|seen| seen.agent.is_none()));
                unmade += u32::from(is_unmade(seen));
            }
        }
        self.making.insert(name, making);
        self.making_all += making;
        let reserved = reserved(state);
        let provider = self.providers.entry(&state.spec.provider).or_default();
        provider.unmade += unmade;
        provider.reserved += reserved;
        for (limit, each) in &state.spec.uses {
            let of = self.limits.entry(limit).or_default();
            of.used += state.instances.len() as u64 * u64::from(*each);
            of.reserved += u64::from(reserved) * u64::from(*each);
        }
        if !state.deletions.is_empty() {
            let own = state.spec.budget.window.0.0;
            let everywhere = input.rules.budget.window.0.0;
            self.deleted
                .insert(name, state.deleted_within(input.now, own));
            self.deleted_all += state.deleted_within(input.now, everywhere);
        }
    }

    /// How many more machines a provider can make, if it says so.
    pub(crate) fn free(&self, provider: &str) -> Option<u32> {
        self.providers.get(provider)?.free
    }

    pub(crate) fn unmade(&self, provider: &str) -> u32 {
        self.providers.get(provider).map_or(0, |one| one.unmade)
    }

    pub(super) fn reserved(&self, provider: &str) -> u32 {
        self.providers.get(provider).map_or(0, |one| one.reserved)
    }

    /// How much of a limit is used by what there is.
    pub(crate) fn used(&self, limit: &LimitName) -> u64 {
        self.limits.get(limit).map_or(0, |one| one.used)
    }

    pub(super) fn to_be_used(&self, limit: &LimitName) -> u64 {
        self.limits.get(limit).map_or(0, |one| one.reserved)
    }

    /// Machines of a fleet that are intended and have not reported.
    pub(crate) fn making(&self, fleet: &FleetName) -> u32 {
        self.making.get(fleet).copied().unwrap_or_default()
    }

    pub(crate) fn making_all(&self) -> u32 {
        self.making_all
    }

    pub(crate) fn deleted(&self, fleet: &FleetName) -> u32 {
        self.deleted.get(fleet).copied().unwrap_or_default()
    }

    pub(crate) fn deleted_all(&self) -> u32 {
        self.deleted_all
    }

    pub(super) fn reserve(&mut self, state: &FleetState, number: u32) {
        if let Some(provider) = self.providers.get_mut(state.spec.provider.as_str()) {
            provider.reserved += number;
        }
        for (limit, each) in &state.spec.uses {
            if let Some(of) = self.limits.get_mut(limit) {
                of.reserved += u64::from(number) * u64::from(*each);
            }
        }
    }

    pub(super) fn release(&mut self, state: &FleetState, number: u32) {
        if let Some(provider) = self.providers.get_mut(state.spec.provider.as_str()) {
            provider.reserved = provider.reserved.saturating_sub(number);
        }
        for (limit, each) in &state.spec.uses {
            if let Some(of) = self.limits.get_mut(limit) {
                let taken = u64::from(number) * u64::from(*each);
                of.reserved = of.reserved.saturating_sub(taken);
            }
        }
    }

    pub(super) fn made(&mut self, fleet: &'a FleetName, state: &FleetState, claim: Claim) {
        let released = match claim {
            Claim::Reserved => 1,
            Claim::New => 0,
        };
        if let Some(provider) = self.providers.get_mut(state.spec.provider.as_str()) {
            provider.unmade += 1;
            provider.reserved = provider.reserved.saturating_sub(released);
        }
        for (limit, each) in &state.spec.uses {
            if let Some(of) = self.limits.get_mut(limit) {
                let each = u64::from(*each);
                of.used += each;
                of.reserved = of.reserved.saturating_sub(each * u64::from(released));
            }
        }
        *self.making.entry(fleet).or_default() += 1;
        self.making_all += 1;
    }

    pub(super) fn delete(&mut self, fleet: &'a FleetName) {
        *self.deleted.entry(fleet).or_default() += 1;
        self.deleted_all += 1;
    }
}

/// Whether a provider has no machine of an intent, as far as it is known. One that was asked for it
/// only now counts it twice, until it lists it: for a moment there seems to be less room than there
/// is, never more.
fn is_unmade(seen: Option<&InstanceObserved>) -> bool {
    let machine = seen.and_then(|seen| seen.machine);
    match machine.map(|machine| machine.state) {
        None | Some(MachineState::Absent) => true,
        Some(
            MachineState::Creating
            | MachineState::Running
            | MachineState::Stopped
            | MachineState::Deleting,
        ) => false,
    }
}

/// Machines that a fleet's rollout has reserved and not made: the rest of its wave's greens, or
/// what it must make again to go back.
fn reserved(state: &FleetState) -> u32 {
    let Some(rollout) = state.running() else {
        return 0;
    };
    match rollout.phase {
        Phase::RollingBack if rollout.from.is_some() => missing_to_go_back(state, rollout),
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => rollout.sets.to_make,
    }
}

/// How many instances a rollout that goes back lacks beside its greens.
pub(crate) fn missing_to_go_back(state: &FleetState, rollout: &Rollout) -> u32 {
    let greens: BTreeSet<&InstanceId> = rollout.sets.green.iter().collect();
    let stays = |(id, one): &(&InstanceId, &Instance)| !one.leaving() && !greens.contains(*id);
    let staying = state.instances.iter().filter(stays).count();
    rollout
        .count
        .saturating_sub(u32::try_from(staying).unwrap_or(u32::MAX))
}
