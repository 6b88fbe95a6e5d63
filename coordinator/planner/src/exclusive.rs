//! Exclusive fleets: never two of their instances may be at work at once. One counts as at work from
//! when it is told to be active until its work is *known* to have stopped. The catalogue's word is not
//! enough for that, silence is not, and a person's order is not.
//!
//! Where the catalogue has locks, an instance works only with that of its fleet, and the lock itself keeps
//! two from being at work, whatever is decided here. Its word still has to be sound: it says when another
//! may be told to be active, and from when on nobody was. So it counts
//!
//! - only of one that held the lock and lost it longer ago than its runner may go on without, and has not
//!   had it since: who reads the lock counts that, and says nothing of those that never held it;
//! - only as it was read after the newest order: before that it might have begun again;
//! - not against a newer word of its agent or a probe that something of it still runs.
//!
//! One that has not heard the order may take a free lock again, and work. Then nobody else does: who was
//! told to be active waits for the lock, which the report says.

use std::{fmt, time::Duration};

use calvin_model::{InstanceId, Role, WorkloadState, fleet::FleetKind};

use crate::{
    judge::{Judgement, Loss},
    moment::Moment,
    observed::{InstanceObserved, LockSeen},
    state::{FleetState, Instance},
};

/// What is read of a lock counts for this long: three times the ten seconds for which a catalogue may be
/// unconfirmed before it holds all decisions.
pub const LOCK_FRESH: Duration = Duration::from_secs(30);

/// What proves that the work of an instance has stopped, and how old that word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Its agent reported it, in the newest role.
    SaysItsAgent(Duration),
    /// Its path is silent, and its provider says that its machine is gone or not powered.
    SaysItsProvider(Duration),
    /// It held the lock of its fleet, which is free or another's: its runner has ended its work.
    SaysTheLock(Duration),
}

impl Stopped {
    /// Age of the word.
    #[must_use]
    pub fn age(self) -> Duration {
        match self {
            Self::SaysItsAgent(age) | Self::SaysItsProvider(age) | Self::SaysTheLock(age) => age,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SaysItsAgent(_) => "its agent says so",
            Self::SaysItsProvider(_) => "its provider says that its machine is off or gone",
            Self::SaysTheLock(_) => {
                "it has lost the lock of its fleet, and its runner ends work without it"
            }
        })
    }
}

/// Whether the work of an instance is known to have stopped, and will not begin again by itself:
/// while it is wanted active, it may.
#[must_use]
pub fn stopped(
    instance: &Instance,
    seen: Option<&InstanceObserved>,
    judgement: Judgement,
    now: Moment,
) -> Option<Stopped> {
    if instance.wanted.role == Role::Active {
        return None;
    }
    let seen = seen?;
    if let Some(agent) = &seen.agent {
        let report = &agent.report;
        let newest = report.generation_applied >= instance.wanted.generation
            && report.role_applied == Some(instance.wanted.role);
        if newest && idle(instance.wanted.role, report.workload) {
            return Some(Stopped::SaysItsAgent(agent.age));
        }
    }
    // Gossip alone is no word that work has stopped: a machine that is cut off from it goes on.
    let machine = seen.machine.filter(|machine| machine.is_off());
    if let Some(machine) = machine.filter(|_| judgement.loss == Loss::TwoSources) {
        return Some(Stopped::SaysItsProvider(machine.age));
    }
    let ended_for = ended_by_lock(seen, seen.lock.as_ref()?, now.since(instance.wanted_since))?;
    Some(Stopped::SaysTheLock(ended_for))
}

/// How long the work of an instance that got its newest order so long ago has been over by the word of
/// its fleet's lock.
fn ended_by_lock(
    seen: &InstanceObserved,
    lock: &LockSeen,
    ordered_for: Duration,
) -> Option<Duration> {
    let ended_for = lock.ended_for?;
    let counts = lock.age <= LOCK_FRESH && lock.age < ordered_for;
    let works = seen
        .agent
        .as_ref()
        .is_some_and(|agent| agent.age < ended_for && runs(agent.report.workload));
    let answers = seen
        .probe
        .is_some_and(|probe| probe.age < ended_for && probe.passing);
    (counts && !works && !answers).then_some(ended_for)
}

/// Whether something of a workload may still run.
fn runs(workload: WorkloadState) -> bool {
    match workload {
        WorkloadState::Starting
        | WorkloadState::Running
        | WorkloadState::Backoff
        | WorkloadState::Stopping => true,
        WorkloadState::NotWanted | WorkloadState::Stopped => false,
    }
}

/// Whether a workload that runs only while active has ended for good. A standby and a retired one
/// are that only after it is gone; one that drains goes on with what it has, and an agent that has
/// not heard of its runner yet says that nothing is wanted.
fn idle(role: Role, workload: WorkloadState) -> bool {
    match (role, workload) {
        (Role::Standby | Role::Retired, WorkloadState::NotWanted | WorkloadState::Stopped)
        | (Role::Draining, WorkloadState::Stopped) => true,
        (Role::Active, _)
        | (Role::Draining, WorkloadState::NotWanted)
        | (
            Role::Standby | Role::Retired | Role::Draining,
            WorkloadState::Starting
            | WorkloadState::Running
            | WorkloadState::Backoff
            | WorkloadState::Stopping,
        ) => false,
    }
}

/// The first instance, other than `id`, that may still be at work in an exclusive fleet: while there
/// is one, `id` must not be told to be active. Every order to be active passes here.
#[must_use]
pub fn other_at_work<'a>(
    state: &'a FleetState,
    id: &InstanceId,
) -> Option<(&'a InstanceId, &'a Instance)> {
    match state.spec.kind {
        FleetKind::Exclusive => {}
        FleetKind::Service | FleetKind::Quorum => return None,
    }
    let mut others = state.instances.iter().filter(|(other, _)| *other != id);
    others.find(|(_, other)| other.may_work())
}

#[cfg(test)]
mod tests;
