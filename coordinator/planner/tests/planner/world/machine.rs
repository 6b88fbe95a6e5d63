//! One machine of the world, with its agent and its workload.

use std::time::Duration;

use calvin_model::{
    BootId, DrainProgress, Generation, Health, Report, Role, Wanted, WorkloadState, image::Work,
};
use calvin_planner::MachineState;

/// How instances of an image behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Healthy from their first report.
    Healthy,
    /// Never healthy.
    Broken,
    /// Healthy until they are active.
    FailsWhenActive,
    /// Their provider cannot make them.
    CannotBeMade,
    /// Their provider takes the order and never makes them.
    NeverMade,
}

/// One machine with its agent and workload.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) state: MachineState,
    pub(crate) agent: Agent,
    pub(crate) workload_answers: bool,
    pub(crate) path_cut_at: Option<u64>,
    /// Since when it does not reach the catalogue's servers.
    pub(crate) catalogue_cut_at: Option<u64>,
    /// Its workload runs only while it is active.
    pub(super) pulls: bool,
    pub(super) version: String,
    pub(super) made_at: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// `None` while it runs; otherwise when it ended.
    pub(crate) ended_at: Option<u64>,
    pulls: bool,
    /// What it pulled does not end, whatever it is told.
    pub(crate) work_goes_on: bool,
    /// Its quorum's command fails.
    pub(crate) quorum_fails: bool,
    /// It has joined the others and does not vote yet.
    pub(crate) learns: bool,
    pub(crate) last_word_at: Option<u64>,
    pub(crate) report: Report,
    healthy_since: u64,
    pub(crate) forced: Option<Health>,
    pub(crate) drain_takes: Option<Duration>,
    drain_since: Option<u64>,
}

impl Machine {
    pub(crate) fn new(ms: u64, version: String, work: Work) -> Self {
        let pulls = work == Work::OnActive;
        let report = Report {
            boot: "b0".parse::<BootId>().unwrap(),
            sequence: 0,
            generation_applied: Generation(0),
            role_applied: None,
            health: Health::Unknown,
            health_for: Duration::ZERO,
            flaps: 0,
            clock_offset_ms: None,
            workload: if pulls {
                WorkloadState::NotWanted
            } else {
                WorkloadState::Running
            },
            names: None,
            drain: None,
            failing: Vec::new(),
            connections: Default::default(),
            refused: Default::default(),
            names_unsaved: Default::default(),
            quorum: Default::default(),
            consul: None,
        };
        Self {
            state: MachineState::Running,
            workload_answers: true,
            path_cut_at: None,
            catalogue_cut_at: None,
            pulls,
            version,
            made_at: ms,
            agent: Agent {
                ended_at: None,
                pulls,
                work_goes_on: false,
                quorum_fails: false,
                learns: false,
                last_word_at: None,
                report,
                healthy_since: ms,
                forced: None,
                drain_takes: Some(Duration::ZERO),
                drain_since: None,
            },
        }
    }

    pub(super) fn step(&mut self, ms: u64, behaviour: Behaviour, boot_delay_ms: u64) {
        if self.agent.ended_at.is_some() || self.state != MachineState::Running {
            return;
        }
        if self.made_at + boot_delay_ms > ms {
            return;
        }
        let active = self.agent.report.role_applied == Some(Role::Active);
        let says = match behaviour {
            Behaviour::Healthy => Health::Healthy,
            Behaviour::Broken => Health::Unhealthy,
            Behaviour::FailsWhenActive if active => Health::Unhealthy,
            Behaviour::FailsWhenActive | Behaviour::CannotBeMade | Behaviour::NeverMade => {
                Health::Healthy
            }
        };
        self.agent.say(self.agent.forced.unwrap_or(says), ms);
        if self.path_cut_at.is_none() {
            self.agent.last_word_at = Some(ms);
        }
    }
}

impl Agent {
    pub(super) fn apply(&mut self, wanted: Wanted, ms: u64) {
        if wanted.generation <= self.report.generation_applied {
            return;
        }
        let running = self.report.workload == WorkloadState::Running;
        // It waits for its lock.
        let starting = self.report.workload == WorkloadState::Starting;
        match wanted.role {
            Role::Standby | Role::Retired if self.pulls && running && self.work_goes_on => return,
            Role::Standby | Role::Retired if self.pulls && (running || starting) => {
                self.report.workload = WorkloadState::Stopped;
            }
            Role::Active => self.report.workload = WorkloadState::Running,
            Role::Standby | Role::Retired | Role::Draining => {}
        }
        self.report.generation_applied = wanted.generation;
        self.report.role_applied = Some(wanted.role);
        self.drain_since = (wanted.role == Role::Draining).then_some(ms);
        self.report.drain = None;
    }

    /// Begins its count anew, as after a fault that was over before the next report.
    pub(crate) fn flap(&mut self) {
        self.healthy_since += u64::try_from(self.report.health_for.as_millis()).unwrap();
        self.report.health_for = Duration::ZERO;
        self.report.flaps += 1;
    }

    fn say(&mut self, health: Health, ms: u64) {
        if self.report.health != health {
            self.healthy_since = ms;
        }
        self.report.health = health;
        self.report.health_for = Duration::from_millis(ms - self.healthy_since);
        self.report.sequence += 1;
        self.report.drain = self.drain_since.map(|since| {
            let took = Duration::from_millis(ms - since);
            let done = self.drain_takes.is_some_and(|takes| took >= takes);
            DrainProgress {
                done,
                connections: Some(u32::from(!done)),
                time_left: Duration::ZERO,
            }
        });
    }
}
