//! One simulated machine: its disk, its workload, and the agent's real lifecycle.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use calvin_engine::ports::MachineTag;
use calvin_lifecycle::{AgentRecord, Input, Lifecycle, Spec};
use calvin_model::{BootId, Generation, InstanceId, NamesSnapshot, Role, WorkloadState};
use calvin_planner::MachineState;

use crate::{
    desk::{DeskNumber, drifted},
    event::{AgentRun, SessionNumber},
    image::Behaviour,
};

/// An agent's end of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) desk: DeskNumber,
    pub(crate) number: SessionNumber,
}

/// A workload that answers and does not answer by turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flapping {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// It does not answer in the first half of each turn.
    pub(crate) turn: Duration,
}

impl Flapping {
    fn is_silent(self, now: Duration) -> bool {
        let into = now.saturating_sub(self.from).as_millis();
        let turn = self.turn.as_millis().max(2);
        now < self.until && into % turn < turn / 2
    }
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) instance: InstanceId,
    /// What its tag says beyond that.
    pub(crate) tag: MachineTag,
    pub(crate) address: IpAddr,
    pub(crate) spec: Arc<Spec>,
    behaviour: Behaviour,
    /// Its state at its provider; `Absent` when it is gone.
    pub(crate) state: MachineState,
    pub(crate) boot: BootId,
    /// It is dead, whatever its provider says.
    pub(crate) dead: bool,
    /// What its clock shows when the world's shows zero.
    clock_offset: Duration,
    /// By how many millionths its clock is too fast.
    fast_ppm: u32,
    /// By how much its wall clock is ahead of the world's, in milliseconds.
    pub(crate) wall_ahead_ms: i64,
    pub(crate) enrolled: bool,
    /// The agent's record.
    pub(crate) disk: Option<AgentRecord>,
    /// The names that it serves.
    pub(crate) names: Option<Rc<NamesSnapshot>>,
    /// The agent's process.
    pub(crate) agent: Option<Lifecycle>,
    pub(crate) run: AgentRun,
    pub(crate) session: Option<Link>,
    pub(crate) checks: Vec<usize>,
    /// When the agent's deadline is put into the queue.
    pub(crate) tick_at: Option<Duration>,
    pub(crate) workload: WorkloadState,
    /// It has been a member of a quorum: from when it had caught up.
    pub(crate) joined: bool,
    /// Its process is there.
    pub(crate) at_work: bool,
    /// Since when its process runs, or ran last.
    pub(crate) running_since: Duration,
    pub(crate) workload_orders: u64,
    /// When it became active for the first time.
    active_since: Option<Duration>,
    /// The newest generation that its agent has taken.
    pub(crate) generation: Generation,
    /// It is kept down until then, whatever starts agents.
    pub(crate) away_until: Duration,
    /// Its agent stands still until then.
    pub(crate) hung_until: Duration,
    /// What its agent hears when it goes on.
    pub(crate) unheard: Vec<Input>,
    /// Its disk is full until then.
    pub(crate) full_until: Duration,
    pub(crate) flapping: Option<Flapping>,
    /// When a workload that leaks stops to do so.
    leaks_until: Duration,
}

/// What a new machine is made from.
pub(crate) struct Making {
    pub(crate) instance: InstanceId,
    pub(crate) tag: MachineTag,
    pub(crate) address: IpAddr,
    pub(crate) spec: Arc<Spec>,
    pub(crate) behaviour: Behaviour,
    pub(crate) boot: BootId,
    pub(crate) clock_offset: Duration,
    pub(crate) fast_ppm: u32,
    pub(crate) leaks_until: Duration,
}

impl Machine {
    pub(crate) fn new(making: Making) -> Self {
        Self {
            instance: making.instance,
            tag: making.tag,
            address: making.address,
            spec: making.spec,
            behaviour: making.behaviour,
            state: MachineState::Creating,
            dead: false,
            boot: making.boot,
            clock_offset: making.clock_offset,
            fast_ppm: making.fast_ppm,
            wall_ahead_ms: 0,
            enrolled: false,
            disk: None,
            names: None,
            agent: None,
            run: AgentRun(0),
            session: None,
            checks: Vec::new(),
            tick_at: None,
            workload: WorkloadState::NotWanted,
            joined: false,
            at_work: false,
            running_since: Duration::ZERO,
            workload_orders: 0,
            active_since: None,
            generation: Generation::default(),
            away_until: Duration::ZERO,
            hung_until: Duration::ZERO,
            unheard: Vec::new(),
            full_until: Duration::ZERO,
            flapping: None,
            leaks_until: making.leaks_until,
        }
    }

    /// What the machine's own clock shows.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        drifted(now, self.fast_ppm) + self.clock_offset
    }

    /// When the machine's own clock shows `at`, or a little later.
    pub(crate) fn world_time(&self, at: Duration) -> Duration {
        let at = at.saturating_sub(self.clock_offset);
        if self.fast_ppm == 0 {
            return at;
        }
        // Slower by as much and by a little more, so that a deadline is never asked for too early.
        at - at / 1_000 * self.fast_ppm.saturating_sub(1) / 1_001
    }

    /// Its wall clock minus that of a coordinator.
    pub(crate) fn wall_ahead_of(&self, coordinator_ahead_ms: i64) -> i64 {
        self.wall_ahead_ms.saturating_sub(coordinator_ahead_ms)
    }

    /// Whether it works.
    pub(crate) fn is_up(&self) -> bool {
        self.state == MachineState::Running && !self.dead
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
        if !self.is_up() || self.workload != WorkloadState::Running {
            return false;
        }
        let silent = self.flapping.is_some_and(|it| it.is_silent(now));
        !silent && !self.is_bad(now)
    }

    /// Whether its workload can never stay healthy for long.
    pub(crate) fn is_unfit(&self) -> bool {
        match self.behaviour {
            Behaviour::NeverHealthy | Behaviour::Flapping { .. } => true,
            Behaviour::Good
            | Behaviour::BadOnceActive { .. }
            | Behaviour::LeaksOnceActive { .. } => false,
        }
    }

    /// Whether its image makes it fail now, as it would on every machine.
    pub(crate) fn is_bad(&self, now: Duration) -> bool {
        let active_for = |after: Duration| self.active_since.is_some_and(|at| now >= at + after);
        match self.behaviour {
            Behaviour::Good => false,
            Behaviour::NeverHealthy => true,
            Behaviour::Flapping { turn } => {
                let flapping = Flapping {
                    from: Duration::ZERO,
                    until: Duration::MAX,
                    turn,
                };
                flapping.is_silent(now)
            }
            Behaviour::BadOnceActive { after } => active_for(after),
            Behaviour::LeaksOnceActive { after } => now < self.leaks_until && active_for(after),
        }
    }
}
