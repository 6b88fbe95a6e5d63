//! What must hold in every state of every simulation.

use std::{fmt, time::Duration};

use calvin_model::{CatalogueRole, InstanceId};
use calvin_planner::{
    Cause, DeleteBasis, FleetState, Instance, InvariantId, Life, Phase, transition,
};

use crate::log::Log;

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One of the planner's own.
    Planner(InvariantId),
    /// The decision clock never goes back.
    ClockNeverGoesBack,
    /// The decision clock counts no time in which nobody could decide.
    ClockStandsStillWhileAway,
    /// The epoch grows with each start of a coordinator.
    EpochNeverGoesBack,
    /// An instance is called healthy only when its agent has freshly said so.
    HealthyOnlyWhenSaid,
    /// A phase changes only as the transition table says.
    PhaseByTheTable,
    /// A record leaves only from `Retiring`.
    RecordLeavesOnlyRetired,
    /// A change of the catalogue never takes away the last entry that answers.
    LastEntryThatAnswersStays,
    /// No machine is deleted that clients still find.
    NoMachineDeletedThatClientsFind,
    /// A fleet never has more machines than two sets and what repairs them.
    MachinesBounded,
    /// The world is asked for a machine only with a committed intent, and to delete one only with
    /// its removal committed.
    OnlyCommittedReachesTheWorld,
    /// A coordinator that recovers makes, deletes, publishes and tells nothing.
    WhoRecoversOnlyListens,
    /// Once all is quiet, there is one machine for each record, and no other.
    NothingLeakedOnceQuiet,
    /// Once all is quiet, the fleet is as it is wanted.
    EndsAsWanted,
    /// The engine refuses no action of the planner, and the wire no message of ours.
    NothingOfOursIsRefused,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planner(invariant) => invariant.fmt(f),
            Self::ClockNeverGoesBack
            | Self::ClockStandsStillWhileAway
            | Self::EpochNeverGoesBack
            | Self::HealthyOnlyWhenSaid
            | Self::PhaseByTheTable
            | Self::RecordLeavesOnlyRetired
            | Self::LastEntryThatAnswersStays
            | Self::NoMachineDeletedThatClientsFind
            | Self::MachinesBounded
            | Self::OnlyCommittedReachesTheWorld
            | Self::WhoRecoversOnlyListens
            | Self::NothingLeakedOnceQuiet
            | Self::EndsAsWanted
            | Self::NothingOfOursIsRefused => fmt::Debug::fmt(self, f),
        }
    }
}

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, in virtual time.
    pub at: Duration,
    /// Which rule.
    pub rule: Rule,
    /// By what.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:03} {}: {}",
            self.at.as_secs(),
            self.at.subsec_millis(),
            self.rule,
            self.text
        )
    }
}

/// Breaches found so far.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    pub(crate) list: Vec<Violation>,
}

/// More of one rule are not kept: the first ones tell what is wrong.
const KEPT: usize = 4;

impl Violations {
    pub(crate) fn add(&mut self, at: Duration, rule: Rule, text: String) {
        let kept = self.list.iter().filter(|broken| broken.rule == rule);
        if kept.count() < KEPT {
            self.list.push(Violation { at, rule, text });
        }
    }
}

/// Checks one committed change of a fleet.
pub(crate) fn check_commit(before: Option<&FleetState>, after: Option<&FleetState>, log: &Log) {
    let Some(before) = before else {
        return;
    };
    let gone = before
        .instances
        .iter()
        .filter(|(id, _)| after.is_none_or(|after| !after.instances.contains_key(id)));
    for (id, instance) in gone {
        if !is_retiring(instance) {
            let text = format!("{id} was {:?}", instance.life);
            log.broken(Rule::RecordLeavesOnlyRetired, text);
        }
    }
    let Some(after) = after else {
        return;
    };
    for (id, new) in &after.instances {
        if let Some(old) = before.instances.get(id) {
            check_instance(id, old, new, log);
        }
    }
    check_phase(before, after, log);
    check_blue(after, log);
}

/// Checks what a person's approval makes of one fleet: the records become what is there, whatever
/// they were, and nothing leaves for it.
pub(crate) fn check_approval(before: Option<&FleetState>, after: Option<&FleetState>, log: &Log) {
    let (Some(before), Some(after)) = (before, after) else {
        let text = "an approval makes or removes a fleet".to_owned();
        log.broken(Rule::RecordLeavesOnlyRetired, text);
        return;
    };
    for (id, new) in &after.instances {
        let old = before.instances.get(id);
        if new.leaving() && old.is_none_or(|old| !old.leaving()) {
            let rule = Rule::Planner(InvariantId::NoDeleteWithoutTwoSourcesOrOrder);
            log.broken(rule, format!("an approval removes {id}"));
        }
        if old.is_some_and(|old| new.wanted.generation <= old.wanted.generation) {
            let rule = Rule::Planner(InvariantId::GenerationNeverGoesBack);
            log.broken(rule, format!("{id}: {:?} is approved", new.wanted));
        }
    }
}

fn is_retiring(instance: &Instance) -> bool {
    match instance.life {
        Life::Retiring(_) => true,
        Life::Making | Life::Up | Life::Draining(_) => false,
    }
}

fn check_instance(id: &InstanceId, old: &Instance, new: &Instance, log: &Log) {
    let broken = |invariant, text: String| {
        log.broken(Rule::Planner(invariant), format!("{id}: {text}"));
    };
    let (was, is) = (old.wanted.generation, new.wanted.generation);
    if is < was || (is == was && old.wanted != new.wanted) {
        let text = format!("{:?} after {:?}", new.wanted, old.wanted);
        broken(InvariantId::GenerationNeverGoesBack, text);
    }
    if is_retiring(old) && old.life != new.life {
        let text = format!("{:?} after {:?}", new.life, old.life);
        broken(InvariantId::NoDeleteWithoutTwoSourcesOrOrder, text);
    }
    let entered = |role| match role {
        CatalogueRole::Absent | CatalogueRole::Standby => false,
        CatalogueRole::Entered | CatalogueRole::Active => true,
    };
    if entered(new.catalogue) && !entered(old.catalogue) && !new.proven {
        let text = "enters without ever having been healthy".to_owned();
        broken(InvariantId::UnprovenNeverServes, text);
    }
}

fn check_phase(before: &FleetState, after: &FleetState, log: &Log) {
    let (Some(old), Some(new)) = (&before.rollout, &after.rollout) else {
        return;
    };
    if old.id != new.id || old.phase == new.phase {
        return;
    }
    let next = |phase: Phase| {
        Cause::ALL
            .into_iter()
            .filter_map(move |cause| transition(Some(phase), cause).ok())
    };
    // One pass may take several steps, such as from baking to done where nothing of blue is left.
    let reached = next(old.phase).any(|phase| phase == new.phase)
        || next(old.phase)
            .flat_map(next)
            .any(|phase| phase == new.phase)
        || next(old.phase)
            .flat_map(next)
            .flat_map(next)
            .any(|phase| phase == new.phase);
    if !reached {
        let text = format!("{}: {} after {}", new.id, new.phase, old.phase);
        log.broken(Rule::PhaseByTheTable, text);
    }
}

/// Blue is kept until its rollout drains it.
fn check_blue(after: &FleetState, log: &Log) {
    let Some(rollout) = after.running() else {
        return;
    };
    let kept = match rollout.phase {
        Phase::Provisioning
        | Phase::Soaking
        | Phase::AwaitingSwitch
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::RollingBack => true,
        Phase::MakingRoom
        | Phase::Draining
        | Phase::Retiring
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    };
    for id in &rollout.sets.blue {
        let replaced = after
            .instances
            .get(id)
            .is_some_and(|blue| blue.life == Life::Retiring(DeleteBasis::Replaced));
        if kept && replaced {
            let rule = Rule::Planner(InvariantId::BlueStaysUntilGreenIsProven);
            log.broken(rule, format!("{id} goes while {}", rollout.phase));
        }
    }
}
