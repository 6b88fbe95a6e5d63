//! What is wanted, and what is there. One lock, held only to read and note; whatever takes time is
//! done by a worker that has marked the instance as its own.

mod entry;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::Child,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use calvin_engine::ports::{CreateOrder, Machine, MachineList};
use calvin_model::InstanceId;
use calvin_planner::FaultKind;

use self::entry::{Entry, Wish};
pub(super) use self::entry::{Seen, Started};
use super::{
    directories::Found,
    retry::{Fault, Retry},
};

/// The state, and its changes as an event.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<InstanceId, Entry>,
    /// When all machines were looked at last.
    looked: Option<Instant>,
    /// Inits that this run started. The kernel keeps an ended one until its parent has asked.
    children: Vec<Child>,
    closed: bool,
}

/// One piece of work for a worker.
#[derive(Debug)]
pub(super) enum Job {
    Create(CreateOrder),
    Delete(InstanceId),
}

impl Job {
    pub(super) fn instance(&self) -> &InstanceId {
        match self {
            Self::Create(order) => &order.instance,
            Self::Delete(instance) => instance,
        }
    }
}

/// Why a job failed, and whether it may be tried again.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) retry: Retry,
    pub(super) kind: FaultKind,
}

impl Shared {
    /// Begins with the machines that were found on disk.
    pub(super) fn new(found: BTreeMap<InstanceId, Found>) -> Self {
        let entries = found
            .into_iter()
            .map(|(instance, found)| (instance, Entry::found(found)))
            .collect();
        Self {
            state: Mutex::new(State {
                entries,
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a machine is wanted. The same again, and one that is being deleted, is ignored:
    /// an instance's id is never used twice.
    pub(super) fn create(&self, order: &CreateOrder) {
        let mut state = self.lock();
        if state.entries.contains_key(&order.instance) {
            return;
        }
        let entry = Entry::wanted(order.clone());
        state.entries.insert(order.instance.clone(), entry);
        self.changed.notify_all();
    }

    /// Notes that a machine is not wanted; whether that is news.
    pub(super) fn delete(&self, instance: &InstanceId) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(instance) else {
            return false;
        };
        if matches!(entry.wish, Wish::Delete) {
            return false;
        }
        entry.wish = Wish::Delete;
        // Whatever kept it from being made does not keep it from being deleted.
        entry.fault = None;
        self.changed.notify_all();
        true
    }

    /// As of the last look.
    pub(super) fn list(&self) -> MachineList {
        let state = self.lock();
        let now = Instant::now();
        let machines = state.entries.iter().filter_map(|(instance, entry)| {
            Some(Machine {
                instance: instance.clone(),
                state: entry.state()?,
                address: entry.machine.map(|machine| machine.address),
            })
        });
        let faults = state.entries.iter().filter_map(|(instance, entry)| {
            let fault = entry.fault.as_ref()?;
            Some((instance.clone(), fault.seen(now)))
        });
        MachineList {
            age: state.looked.map(|looked| now.duration_since(looked)),
            machines: machines.collect(),
            faults: faults.collect(),
        }
    }

    /// The addresses of all machines, also of those that do not run.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        let state = self.lock();
        let machines = state.entries.values().filter_map(|entry| entry.machine);
        machines.map(|machine| machine.address).collect()
    }

    /// Waits for something to do; `None` when the provider is closed.
    pub(super) fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            if let Some(job) = state.take_due(now) {
                return Some(job);
            }
            let wait = state.next_due().map(|due| due.duration_since(now));
            state = match wait {
                Some(wait) => {
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Notes that a machine was started.
    pub(super) fn created(&self, instance: &InstanceId, machine: Started, child: Child) {
        let mut state = self.lock();
        state.children.push(child);
        if let Some(entry) = state.entries.get_mut(instance) {
            entry.machine = Some(machine);
            entry.fault = None;
            entry.busy = false;
        }
        self.changed.notify_all();
    }

    /// Notes that a machine is gone.
    pub(super) fn deleted(&self, instance: &InstanceId) {
        self.lock().entries.remove(instance);
        self.changed.notify_all();
    }

    /// Notes that a job failed.
    pub(super) fn failed(&self, instance: &InstanceId, failure: Failure) {
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(instance) {
            entry.busy = false;
            // Deleting may have been asked for meanwhile; that has not failed yet.
            let still_wanted = !matches!(entry.wish, Wish::Delete) || entry.machine.is_some();
            entry.fault = still_wanted.then(|| {
                Fault::after(
                    entry.fault.as_ref(),
                    failure,
                    Instant::now(),
                    fastrand::f64(),
                )
            });
        }
        self.changed.notify_all();
    }

    /// The machines to look at.
    pub(super) fn started(&self) -> Vec<(InstanceId, Started)> {
        let state = self.lock();
        let machines = state.entries.iter().filter(|(_, entry)| !entry.busy);
        machines
            .filter_map(|(instance, entry)| Some((instance.clone(), entry.machine?)))
            .collect()
    }

    /// Notes what a look found: machines that run or not, and those that are not there any more.
    /// Returns whether anything is different.
    pub(super) fn looked(&self, seen: &[(InstanceId, Seen)]) -> bool {
        let mut state = self.lock();
        let mut different = false;
        for (instance, seen) in seen {
            let Some(entry) = state.entries.get_mut(instance) else {
                continue;
            };
            match (seen, entry.machine.as_mut()) {
                (Seen::Gone, _) if !entry.busy => {
                    state.entries.remove(instance);
                    different = true;
                }
                (Seen::Runs, Some(machine)) => {
                    different |= !machine.runs;
                    machine.runs = true;
                }
                (Seen::Stands, Some(machine)) => {
                    different |= machine.runs;
                    machine.runs = false;
                }
                (Seen::Gone | Seen::Runs | Seen::Stands, _) => {}
            }
        }
        state.looked = Some(Instant::now());
        different
    }

    /// Asks after the inits of this run that have ended, so that the kernel forgets them.
    pub(super) fn reap(&self) {
        let mut state = self.lock();
        state
            .children
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Ends all waiting.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for `pause` or for the end; whether it goes on.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, pause, |state| !state.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

impl State {
    fn take_due(&mut self, now: Instant) -> Option<Job> {
        for (instance, entry) in &mut self.entries {
            let is_due = entry
                .due()
                .is_some_and(|due| due.is_none_or(|due| due <= now));
            if !is_due {
                continue;
            }
            entry.busy = true;
            return match &entry.wish {
                Wish::Create(order) => Some(Job::Create(order.clone())),
                Wish::Delete => Some(Job::Delete(instance.clone())),
                // Never due.
                Wish::Keep => None,
            };
        }
        None
    }

    fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter_map(Entry::due).flatten().min()
    }
}
