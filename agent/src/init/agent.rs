//! The agent's process: always wanted, until the machine stops.

use std::{
    io::{self, PipeWriter},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use calvin_model::BootId;
use calvin_proto::machine::{
    BOOT_VARIABLE, MACHINE_VARIABLE, MachineFiles, ProcessId, processes::find_marked,
};
use rustix::process::Signal;

use super::{backoff::Backoff, child, sockets::DnsSockets};
use crate::command::COMMAND_VARIABLE;

/// First pause. Short: while an agent is away nobody checks the workload's health.
const RESTART_MIN: Duration = Duration::from_millis(100);
/// Longest pause. An agent that cannot start says why in its log each time.
const RESTART_MAX: Duration = Duration::from_secs(10);
/// How long an agent may take to end its session in good order.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The agent, from init's view.
#[derive(Debug)]
pub(super) struct Agent {
    program: PathBuf,
    files: MachineFiles,
    boot: BootId,
    backoff: Backoff,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Running {
        process: ProcessId,
        since: Instant,
    },
    Backoff {
        until: Instant,
    },
    Stopping {
        process: ProcessId,
        kill_at: Instant,
    },
    Stopped,
}

impl Agent {
    /// One that is to be started at once.
    pub(super) fn new(program: PathBuf, files: MachineFiles, boot: BootId, now: Instant) -> Self {
        Self {
            program,
            files,
            boot,
            backoff: Backoff::new(RESTART_MIN, RESTART_MAX),
            phase: Phase::Backoff { until: now },
        }
    }

    /// Starts it, or kills it, if that is due. Returns what to write down.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        random: f64,
        sockets: Option<&DnsSockets>,
        output: impl FnOnce() -> io::Result<PipeWriter>,
    ) -> Option<String> {
        match &self.phase {
            Phase::Backoff { until } if *until <= now => {
                let command = self.command();
                let started =
                    output().and_then(|output| child::spawn_agent(command, sockets, output));
                Some(match started {
                    Ok(process) => {
                        self.phase = Phase::Running {
                            process,
                            since: now,
                        };
                        format!("started the agent as pid {}", process.pid)
                    }
                    Err(error) => {
                        let pause = self.backoff.pause_after(Duration::ZERO, random);
                        self.phase = Phase::Backoff { until: now + pause };
                        let program = self.program.display();
                        format!("could not start {program}: {error}; again in {pause:.1?}")
                    }
                })
            }
            Phase::Stopping { process, kill_at } if *kill_at <= now => {
                child::signal_group(process.pid, Signal::KILL);
                // Its end is seen when it is reaped; there is nothing stronger to be sent.
                self.phase = Phase::Stopping {
                    process: *process,
                    kill_at: now + STOP_TIMEOUT,
                };
                Some("killed the agent, which did not stop".to_owned())
            }
            Phase::Backoff { .. }
            | Phase::Stopping { .. }
            | Phase::Running { .. }
            | Phase::Stopped => None,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("run")
            .arg("--machine")
            .arg(self.files.root())
            .env(MACHINE_VARIABLE, self.files.root())
            .env(BOOT_VARIABLE, self.boot.as_str());
        command
    }

    /// Its process has ended, and is not reaped yet. Returns the pause, if it is started again.
    pub(super) fn ended(&mut self, now: Instant, random: f64) -> Option<Duration> {
        let (process, pause) = match &self.phase {
            Phase::Running { process, since } => {
                let ran = now.duration_since(*since);
                (*process, Some(self.backoff.pause_after(ran, random)))
            }
            Phase::Stopping { process, .. } => (*process, None),
            Phase::Backoff { .. } | Phase::Stopped => return None,
        };
        self.phase = match pause {
            Some(pause) => Phase::Backoff { until: now + pause },
            None => Phase::Stopped,
        };
        // Checks and hooks that it ran, each in a group of its own. The next agent runs them anew.
        for orphan in find_marked(COMMAND_VARIABLE, &process.pid.to_string()) {
            // One that cannot be killed ends with the machine.
            let _ = orphan.signal(Signal::KILL);
        }
        pause
    }

    /// Ends it for good.
    pub(super) fn stop(&mut self, now: Instant) {
        match &self.phase {
            Phase::Running { process, .. } => {
                child::signal_group(process.pid, Signal::TERM);
                self.phase = Phase::Stopping {
                    process: *process,
                    kill_at: now + STOP_TIMEOUT,
                };
            }
            Phase::Backoff { .. } => self.phase = Phase::Stopped,
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
    }

    /// Whether it has ended for good.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// Its process, while there is one.
    pub(super) fn process(&self) -> Option<ProcessId> {
        match &self.phase {
            Phase::Running { process, .. } | Phase::Stopping { process, .. } => Some(*process),
            Phase::Backoff { .. } | Phase::Stopped => None,
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Stopping { kill_at, .. } => Some(*kill_at),
            Phase::Running { .. } | Phase::Stopped => None,
        }
    }
}
