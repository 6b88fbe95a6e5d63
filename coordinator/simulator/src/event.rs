//! What is yet to happen, in the order of its time; what comes at the same time, in the order in
//! which it was put there.

use std::{collections::BTreeMap, time::Duration};

use calvin_lifecycle::HookRun;
use calvin_model::{InstanceId, WorkloadState};
use calvin_proto::wire;

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
    LinkLost(SessionNumber),
    /// A message reaches an agent.
    ToAgent(MachineNumber, SessionNumber, Box<wire::ToAgent>),
    /// A message reaches the coordinator.
    FromAgent(SessionNumber, Box<wire::FromAgent>),
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
    /// Fate looks whether something goes wrong now.
    Fate,
    /// A cut ends.
    Heal(InstanceId),
    /// The store works again.
    StoreWorks,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
}

impl Queue {
    /// Puts an event at its time.
    pub(crate) fn put(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<(Duration, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }
}
