//! What is yet to happen, in the order of its time; what comes at the same time, in the order in
//! which it was put there.

use std::{cmp::Ordering, collections::BinaryHeap, rc::Rc, time::Duration};

use calvin_engine::ports::CreateOrder;
use calvin_lifecycle::HookRun;
use calvin_model::{InstanceId, NamesSnapshot, WorkloadState};
use calvin_proto::wire;

use crate::desk::DeskNumber;

/// A machine, by its place in the world's list. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MachineNumber(pub(crate) usize);

/// A session, counted over the whole simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionNumber(pub(crate) u64);

/// One run of one agent, counted over the whole simulation: what was begun by a run that crashed
/// ends nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AgentRun(pub(crate) u64);

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The provider has made a machine.
    MachineMade(MachineNumber),
    /// The provider has deleted a machine.
    MachineGone(MachineNumber),
    /// The provider completes a list of its machines.
    List,
    /// The coordinator probes its targets.
    Probe,
    /// An agent tries to open a session.
    Connect(MachineNumber, AgentRun),
    /// A session ends at the agent's side.
    AgentLost(MachineNumber, SessionNumber),
    /// A session ends at the coordinator's side.
    LinkLost(DeskNumber, SessionNumber),
    /// A message reaches an agent.
    ToAgent(MachineNumber, SessionNumber, Box<wire::ToAgent>),
    /// A snapshot of the names reaches an agent.
    Names(MachineNumber, SessionNumber, Rc<NamesSnapshot>),
    /// A message reaches the coordinator.
    FromAgent(DeskNumber, SessionNumber, Box<wire::FromAgent>),
    /// An agent's disk has committed.
    Committed(MachineNumber, AgentRun, u64),
    /// An agent's check is due.
    Check(MachineNumber, AgentRun, usize),
    /// An agent's hook has ended.
    Hook(MachineNumber, AgentRun, HookRun),
    /// An agent's deadline has come.
    Tick(MachineNumber, AgentRun),
    /// A workload's process changes its state, by the order of that number.
    Workload(MachineNumber, u64, WorkloadState),
    /// An agent starts.
    AgentStarts(MachineNumber),
    /// An agent that stood still goes on.
    AgentGoesOn(MachineNumber),
    /// A provider notices that a machine is dead.
    DeathNoticed(MachineNumber),
    /// A machine appears whose creation was said to have failed.
    MadeAfterAll(Box<CreateOrder>),
    /// The provider does again what it is asked.
    ProviderWorks,
    /// Fate looks whether something goes wrong now.
    Fate,
    /// A cut ends.
    Heal(InstanceId),
    /// The store works again.
    StoreWorks,
    /// The catalogue works again.
    CatalogueWorks,
    /// It is noted what clients would see.
    Sample,
    /// Somebody ends the coordinator on a copy of the store.
    CopyEnds(DeskNumber),
}

/// An event at its time.
#[derive(Debug)]
struct Entry {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, as a heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BinaryHeap<Entry>,
    count: u64,
}

impl Queue {
    /// Puts an event at its time.
    pub(crate) fn put(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.push(Entry {
            at,
            number: self.count,
            event,
        });
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.events.peek().map(|entry| entry.at)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<(Duration, Event)> {
        self.events.pop().map(|entry| (entry.at, entry.event))
    }
}
