//! What is wanted, and what is there. One lock, held only to read and note; whatever takes time is
//! done by a worker that has marked the instance as its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    process::Child,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use calvin_engine::ports::{CreateOrder, Machine, MachineList};
use calvin_model::InstanceId;
use calvin_planner::MachineState;
use calvin_proto::machine::ProcessId;

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

/// One instance that is to have a machine, or has one.
#[derive(Debug)]
struct Entry {
    wish: Wish,
    machine: Option<Started>,
    fault: Option<Fault>,
    /// A worker is at it.
    busy: bool,
}

/// What the engine asked for last.
#[derive(Debug, Clone)]
enum Wish {
    /// Found on disk; nobody has asked for anything in this run.
    Keep,
    Create(CreateOrder),
    Delete,
}

/// A machine that was started once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    pub(super) address: IpAddr,
    /// Its first process; `None` when no record of it can be read.
    pub(super) init: Option<ProcessId>,
    /// Whether that process was alive at the last look.
    pub(super) runs: bool,
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
}

impl Shared {
    /// Begins with the machines that were found on disk.
    pub(super) fn new(found: BTreeMap<InstanceId, Found>) -> Self {
        let entry = |found: Found| Entry {
            wish: Wish::Keep,
            machine: Some(Started {
                address: found.address,
                init: found.init,
                runs: false,
            }),
            fault: None,
            busy: false,
        };
        let entries = found
            .into_iter()
            .map(|(instance, found)| (instance, entry(found)))
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
        let entry = Entry {
            wish: Wish::Create(order.clone()),
            machine: None,
            fault: None,
            busy: false,
        };
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
                    failure.message,
                    failure.retry,
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

/// What a look found of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its init is alive.
    Runs,
    /// Its init is gone, its directory is there.
    Stands,
    /// Somebody else removed its directory, and nothing of it runs.
    Gone,
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

impl Entry {
    /// When there is something to do: `Some(None)` is at once.
    fn due(&self) -> Option<Option<Instant>> {
        let is_open = match &self.wish {
            Wish::Keep => false,
            Wish::Create(_) => self.machine.is_none(),
            Wish::Delete => true,
        };
        if !is_open || self.busy {
            return None;
        }
        match &self.fault {
            None => Some(None),
            Some(fault) => fault.due().map(Some),
        }
    }

    /// `None` when there is no machine, and will be none.
    fn state(&self) -> Option<MachineState> {
        let given_up = |fault: &Fault| fault.retry == Retry::Never;
        match (&self.wish, &self.machine) {
            (Wish::Delete, _) => Some(MachineState::Deleting),
            (Wish::Create(_) | Wish::Keep, Some(machine)) if machine.runs => {
                Some(MachineState::Running)
            }
            (Wish::Create(_) | Wish::Keep, Some(_)) => Some(MachineState::Stopped),
            (Wish::Create(_) | Wish::Keep, None) if self.fault.as_ref().is_some_and(given_up) => {
                None
            }
            (Wish::Create(_) | Wish::Keep, None) => Some(MachineState::Creating),
        }
    }
}
