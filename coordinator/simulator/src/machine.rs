//! One simulated machine: its disk, its workload, and the agent's real lifecycle.

use std::{net::IpAddr, sync::Arc, time::Duration};

use calvin_lifecycle::{AgentRecord, Lifecycle, Spec};
use calvin_model::{BootId, Generation, InstanceId, NamesSnapshot, Role, WorkloadState};
use calvin_planner::MachineState;

use crate::{
    event::{AgentRun, SessionNumber},
    scenario::Behaviour,
};

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) instance: InstanceId,
    pub(crate) address: IpAddr,
    pub(crate) spec: Arc<Spec>,
    behaviour: Behaviour,
    /// Its state at its provider; `Absent` when it is gone.
    pub(crate) state: MachineState,
    pub(crate) boot: BootId,
    /// What its clock shows when the world's shows zero.
    clock_offset: Duration,
    pub(crate) enrolled: bool,
    /// The agent's record.
    pub(crate) disk: Option<AgentRecord>,
    /// The names that it serves.
    pub(crate) names: Option<NamesSnapshot>,
    /// The agent's process.
    pub(crate) agent: Option<Lifecycle>,
    pub(crate) run: AgentRun,
    pub(crate) session: Option<SessionNumber>,
    pub(crate) checks: Vec<usize>,
    /// When the agent's deadline is put into the queue.
    pub(crate) tick_at: Option<Duration>,
    pub(crate) workload: WorkloadState,
    pub(crate) workload_orders: u64,
    /// When it became active for the first time.
    active_since: Option<Duration>,
    /// The newest generation that its agent has taken.
    pub(crate) generation: Generation,
    /// It is kept down until then, whatever starts agents.
    pub(crate) away_until: Duration,
}

/// What a new machine is made from.
pub(crate) struct Making {
    pub(crate) instance: InstanceId,
    pub(crate) address: IpAddr,
    pub(crate) spec: Arc<Spec>,
    pub(crate) behaviour: Behaviour,
    pub(crate) boot: BootId,
    pub(crate) clock_offset: Duration,
}

impl Machine {
    pub(crate) fn new(making: Making) -> Self {
        Self {
            instance: making.instance,
            address: making.address,
            spec: making.spec,
            behaviour: making.behaviour,
            state: MachineState::Creating,
            boot: making.boot,
            clock_offset: making.clock_offset,
            enrolled: false,
            disk: None,
            names: None,
            agent: None,
            run: AgentRun(0),
            session: None,
            checks: Vec::new(),
            tick_at: None,
            workload: WorkloadState::NotWanted,
            workload_orders: 0,
            active_since: None,
            generation: Generation::default(),
            away_until: Duration::ZERO,
        }
    }

    /// What the machine's own clock shows.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        now + self.clock_offset
    }

    /// When the machine's own clock shows `at`.
    pub(crate) fn world_time(&self, at: Duration) -> Duration {
        at.saturating_sub(self.clock_offset)
    }

    /// The role that the agent has applied.
    pub(crate) fn role(&self) -> Option<Role> {
        self.agent.as_ref().and_then(Lifecycle::role)
    }

    /// Notes when it became active.
    pub(crate) fn note_role(&mut self, now: Duration) {
        if self.role() == Some(Role::Active) && self.active_since.is_none() {
            self.active_since = Some(now);
        }
    }

    /// Whether the workload answers as it should: the truth, whatever anybody says of it.
    pub(crate) fn answers(&self, now: Duration) -> bool {
        if self.state != MachineState::Running || self.workload != WorkloadState::Running {
            return false;
        }
        match self.behaviour {
            Behaviour::Good => true,
            Behaviour::NeverHealthy => false,
            Behaviour::Flapping { each } => now.as_millis() / each.as_millis().max(1) % 2 == 0,
            Behaviour::BadOnceActive { after } => {
                self.active_since.is_none_or(|since| now < since + after)
            }
        }
    }

    /// Whether its workload can never stay healthy for long.
    pub(crate) fn is_unfit(&self) -> bool {
        match self.behaviour {
            Behaviour::NeverHealthy | Behaviour::Flapping { .. } => true,
            Behaviour::Good | Behaviour::BadOnceActive { .. } => false,
        }
    }

    /// Whether it exists at its provider.
    pub(crate) fn exists(&self) -> bool {
        match self.state {
            MachineState::Creating
            | MachineState::Running
            | MachineState::Stopped
            | MachineState::Deleting => true,
            MachineState::Absent => false,
        }
    }
}
