//! Exclusive fleets: never two of their instances may be at work at once. One counts as at work from
//! when it is told to be active until its work is *known* to have stopped. The catalogue's word is not
//! enough for that, silence is not, and a person's order is not.

use std::{fmt, time::Duration};

use calvin_model::{InstanceId, Role, WorkloadState, fleet::FleetKind};

use crate::{
    judge::{Judgement, Loss},
    observed::InstanceObserved,
    state::{FleetState, Instance},
};

/// What proves that the work of an instance has stopped, and how old that word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Its agent reported it, in the newest role.
    SaysItsAgent(Duration),
    /// Its path is silent, and its provider says that its machine is gone or not powered.
    SaysItsProvider(Duration),
}

impl Stopped {
    /// Age of the word.
    #[must_use]
    pub fn age(self) -> Duration {
        match self {
            Self::SaysItsAgent(age) | Self::SaysItsProvider(age) => age,
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SaysItsAgent(_) => "its agent says so",
            Self::SaysItsProvider(_) => "its provider says that its machine is off or gone",
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
    let machine = seen.machine?;
    // Gossip alone is no word that work has stopped: a machine that is cut off from it goes on.
    (machine.is_off() && judgement.loss == Loss::TwoSources)
        .then_some(Stopped::SaysItsProvider(machine.age))
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
