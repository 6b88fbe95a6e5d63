//! The locks of exclusive fleets, where the world's catalogue has some: whoever works holds the lock, and
//! the runner of one that cannot renew it ends its work before it is given away.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{InstanceId, Role, WorkloadState};
use calvin_planner::{LockHolder, LockSeen, MachineState};

use super::{Machine, World};

/// How long work goes on without a renewal, and how long the lock is kept.
pub(crate) const LEASE_MS: u64 = 12_000;
const TTL_MS: u64 = 15_000;

/// The lock of the one fleet, as the catalogue has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lock {
    pub(crate) holder: Option<InstanceId>,
    /// Who held it, and since when he does not any more.
    lost: BTreeMap<InstanceId, u64>,
    /// How old what is read of it is.
    pub(crate) age_ms: u64,
}

impl Machine {
    /// Since when nothing of it renews its lock.
    fn renews_no_more(&self) -> Option<u64> {
        let ends = [self.agent.ended_at, self.catalogue_cut_at];
        ends.into_iter().flatten().min()
    }

    fn works(&self) -> bool {
        self.state == MachineState::Running && self.agent.report.workload == WorkloadState::Running
    }
}

impl World {
    /// What is read of the lock, as an instance is concerned.
    pub(super) fn see_lock(&self, id: &InstanceId) -> Option<LockSeen> {
        let lock = self.lock.as_ref()?;
        let holder = match &lock.holder {
            None => LockHolder::Nobody,
            Some(holder) if holder == id => LockHolder::Itself,
            Some(holder) => LockHolder::Another(holder.to_string()),
        };
        let lost_for = lock.lost.get(id).map(|at| self.ms.saturating_sub(*at));
        let over = lost_for.filter(|lost_for| *lost_for >= LEASE_MS + lock.age_ms);
        Some(LockSeen {
            age: Duration::from_millis(lock.age_ms),
            holder,
            ended_for: over.map(|lost_for| Duration::from_millis(lost_for - LEASE_MS)),
        })
    }

    /// A moment passes: work without a lease ends, locks are given back, run out and are taken.
    pub(super) fn keep_lock(&mut self) {
        let Some(lock) = &mut self.lock else {
            return;
        };
        let ms = self.ms;
        if let Some(holder) = lock.holder.clone() {
            let machine = self.machines.get_mut(&holder);
            let keeps = machine.is_some_and(|machine| match machine.renews_no_more() {
                Some(since) => {
                    if ms >= since + LEASE_MS && machine.works() {
                        machine.agent.report.workload = WorkloadState::Stopped;
                        machine.workload_answers = false;
                    }
                    ms < since + TTL_MS
                }
                None => machine.works() || machine.agent.report.role_applied == Some(Role::Active),
            });
            if !keeps {
                lock.lost.insert(holder, ms);
                lock.holder = None;
            }
        }
        for (id, machine) in &mut self.machines {
            let is_active = machine.agent.report.role_applied == Some(Role::Active);
            let wants = is_active && machine.state == MachineState::Running;
            if !wants || lock.holder.as_ref() == Some(id) {
                continue;
            }
            // Who is told to be active works as soon as it has the lock, and no sooner.
            let gets_it = lock.holder.is_none() && machine.renews_no_more().is_none();
            machine.workload_answers = gets_it;
            machine.agent.report.workload = if gets_it {
                lock.lost.remove(id);
                lock.holder = Some(id.clone());
                WorkloadState::Running
            } else {
                WorkloadState::Starting
            };
        }
    }

    /// Cuts a machine off from the catalogue's servers.
    pub(crate) fn cut_catalogue(&mut self, id: &InstanceId) {
        let ms = self.ms;
        let machine = self.machines.get_mut(id).unwrap();
        machine.catalogue_cut_at.get_or_insert(ms);
    }
}
