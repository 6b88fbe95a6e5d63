//! The machine while it runs: one loop that waits for signals, requests, output and timers.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use calvin_model::image::StopSignal;
use calvin_proto::machine::{InitRecord, MachineFiles, ProcessId, READY_LINE, processes::kill_all};
use nix::{
    sys::{signal::Signal, signalfd::SignalFd},
    unistd::dup2_stdout,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    InitError,
    agent::Agent,
    child,
    console::{BoundedLog, Tap},
    guard::Guard,
    lease::{Lease, LeaseTimer},
    prepare::Prepared,
    server::{PeerIndex, Server},
    units::Units,
    workload::Workload,
};
use crate::{
    clock::boottime,
    workload::{
        RunnerState,
        protocol::{LEASE_OVER, Message, Order, Request},
    },
};

/// Each of the workload's two files: together 8 MB, a day of a chatty server's warnings, and small
/// beside any image.
const CONSOLE_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Each of the agent's two files.
const AGENT_FILE_BYTES: u64 = 1024 * 1024;
/// What is left at the very end is killed; that takes milliseconds.
const LAST_KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A machine that is up.
#[derive(Debug)]
pub(super) struct Machine {
    prepared: Prepared,
    agent: Agent,
    workload: Workload,
    lease: Lease,
    lease_timer: LeaseTimer,
    guard: Guard,
    units: Units,
    console: Tap,
    agent_log: Tap,
    stopping: Stopping,
    /// The record or the state changed since it was told.
    changed: bool,
}

/// How far the machine's stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Workload,
    Agent,
    Units,
    Done,
}

impl Machine {
    /// Starts the agent, and says on the standard output that the machine is up.
    pub(super) fn start(prepared: Prepared) -> Result<Self, InitError> {
        let files = prepared.files.clone();
        let tap = |path, bytes_max| {
            Tap::new(BoundedLog::open(path, bytes_max)).map_err(|source| InitError::System {
                what: "make a pipe",
                source,
            })
        };
        let agent = Agent::new(
            prepared.agent.clone(),
            files.clone(),
            prepared.record.boot.clone(),
            Instant::now(),
        );
        let lease_timer = LeaseTimer::new().map_err(|error| InitError::System {
            what: "make a timer",
            source: error.into(),
        })?;
        let guard = Guard::start().map_err(|source| InitError::System {
            what: "start the thread that ends leases",
            source,
        })?;
        let mut machine = Self {
            console: tap(&files.console(), CONSOLE_FILE_BYTES)?,
            agent_log: tap(&files.agent_log(), AGENT_FILE_BYTES)?,
            agent,
            workload: Workload::guarded(guard.clone()),
            lease: Lease::default(),
            lease_timer,
            guard,
            units: Units::new(files),
            prepared,
            stopping: Stopping::No,
            changed: true,
        };
        machine.note(&format!(
            "machine is up, boot {}",
            machine.prepared.record.boot
        ));
        machine.tick(Instant::now());
        machine.tell_changes(Instant::now());
        // A provider that does not see this line takes the machine for broken: better than a record
        // that is not there when the machine must be found again.
        if let Some(record) = InitRecord::read(&machine.prepared.files)?
            && record == machine.prepared.record
        {
            machine.say_ready();
        }
        Ok(machine)
    }

    fn say_ready(&mut self) {
        let said = writeln!(io::stdout(), "{READY_LINE}").and_then(|()| io::stdout().flush());
        // Whoever waits for the line must also see an end; and whoever started us may be gone.
        let closed = File::open("/dev/null").and_then(|null| Ok(dup2_stdout(null)?));
        if let Err(error) = said.and(closed) {
            self.note(&format!("could not say that the machine is up: {error}"));
        }
    }

    /// Runs until the machine is stopped.
    pub(super) fn run(mut self) {
        while self.stopping != Stopping::Done {
            self.wait();
            let now = Instant::now();
            // First: it may have been over for long, where the host or this process stood still.
            self.look_at_lease(now);
            self.drain_outputs();
            self.take_signals(now);
            self.reap(now);
            self.serve(now);
            self.advance_stop(now);
            self.tick(now);
            self.tell_changes(now);
        }
        self.finish();
    }

    fn drain_outputs(&mut self) {
        self.console.drain();
        self.agent_log.drain();
        self.units.drain();
    }

    /// Waits for anything to happen, or to be due.
    fn wait(&mut self) {
        let server = &self.prepared.server;
        let due = [
            self.workload.due(),
            self.units.due(),
            self.agent.due(),
            server.due(),
        ];
        let timeout = due.into_iter().flatten().min().map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            Timespec {
                // A deadline is at most ten years away.
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let fixed = [
            self.prepared.signals.as_fd(),
            self.lease_timer.as_fd(),
            self.console.as_fd(),
            self.agent_log.as_fd(),
        ];
        let mut descriptors: Vec<_> = fixed
            .into_iter()
            .chain(self.units.descriptors())
            .map(|output| PollFd::from_borrowed_fd(output, PollFlags::IN))
            .collect();
        for (descriptor, flags) in server.interests() {
            descriptors.push(PollFd::from_borrowed_fd(descriptor, flags));
        }
        // Interrupted, or out of memory for a moment: the loop looks at everything anyway.
        let _ = poll(&mut descriptors, timeout.as_ref());
    }

    /// Ends work whose lease is over. The guard has, where something held this up.
    fn look_at_lease(&mut self, now: Instant) {
        self.lease_timer.clear();
        if self.workload.lease_is(self.lease.at(boottime()), now) {
            self.changed = true;
            self.note(&format!("the workload: {LEASE_OVER}"));
        }
    }

    fn extend_lease(&mut self, until: Duration, at: Instant) -> Option<String> {
        // It may be over since this turn began, and what ran with it has ended then.
        self.look_at_lease(at);
        let now = boottime();
        let mut lease = self.lease;
        if let Some(refused) = lease.extend(until, now) {
            return Some(refused);
        }
        // Without a timer nothing would end it in time.
        let timer = self.lease_timer.set(lease.until());
        let set = timer.map_err(io::Error::from);
        if let Err(error) = set.and_then(|()| self.guard.extend(lease.until())) {
            return Some(format!("could not set a timer: {error}"));
        }
        self.changed |= self.lease.at(now) != lease.at(now);
        self.lease = lease;
        None
    }

    fn take_signals(&mut self, now: Instant) {
        while let Ok(Some(signal)) = read_signal(&self.prepared.signals) {
            if !matches!(signal, Signal::SIGTERM | Signal::SIGINT) {
                // A child ended: all of them are looked at after this.
                continue;
            }
            self.changed = true;
            if self.stopping == Stopping::No {
                self.note(&format!("stopping, by {signal}"));
                self.stopping = Stopping::Workload;
                self.workload.stop_as_specified(now);
            } else {
                // Told twice: whoever it is does not want to wait for the workload.
                let signal = StopSignal::Term;
                self.workload.stop(signal, Duration::ZERO, now);
                self.units.kill(now);
            }
        }
    }

    fn reap(&mut self, now: Instant) {
        while let Some((pid, end)) = child::next_ended() {
            // What the guard has ended did not end by itself.
            self.look_at_lease(now);
            let is = |process: Option<ProcessId>| process.is_some_and(|process| process.pid == pid);
            if is(self.workload.process()) {
                self.workload.ended(end, now, fastrand::f64());
                self.note(&format!("the workload, pid {pid}, ended with {end}"));
                self.changed = true;
            } else if is(self.agent.process()) {
                let pause = self.agent.ended(now, fastrand::f64());
                let again = pause.map_or(String::new(), |pause| format!("; again in {pause:.1?}"));
                self.note(&format!("the agent, pid {pid}, ended with {end}{again}"));
                self.changed = true;
            } else if let Some(note) = self.units.ended(pid, end, now, fastrand::f64()) {
                self.note(&note);
                self.changed = true;
            }
            child::reap(pid);
        }
    }

    fn serve(&mut self, now: Instant) {
        let greeting = Message::State(Box::new(self.state(now)));
        let refused = self.server().accept(&greeting, now);
        let (requests, lost) = self.server().requests();
        for note in refused.iter().chain(&lost) {
            self.note(note);
        }
        for (peer, request) in requests {
            self.take(peer, request, now);
        }
        self.server().flush();
        self.server().forget_lost();
    }

    fn take(&mut self, peer: PeerIndex, request: Request, now: Instant) {
        let Request { id, order } = request;
        let refused = match order {
            Order::Start(_) | Order::StartUnit { .. } if self.stopping != Stopping::No => {
                Some("the machine is being stopped".to_owned())
            }
            Order::Start(spec) => {
                let refused = self.workload.start(*spec, now);
                self.changed = true;
                refused
            }
            Order::Stop { signal, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms).min(STOP_TIMEOUT_MAX);
                self.workload.stop(signal, timeout, now);
                self.changed = true;
                None
            }
            Order::Lease { until_ms } => self.extend_lease(Duration::from_millis(until_ms), now),
            Order::StartUnit { name, spec } => {
                let refused = self.units.start(name, *spec, now);
                self.changed = true;
                refused
            }
            Order::StopUnit {
                name,
                signal,
                timeout_ms,
            } => {
                let timeout = Duration::from_millis(timeout_ms).min(STOP_TIMEOUT_MAX);
                self.units.stop(&name, signal, timeout, now);
                self.changed = true;
                None
            }
            Order::Query => {
                let state = Message::State(Box::new(self.state(now)));
                self.server().send(peer, &state);
                None
            }
        };
        self.server().send(peer, &Message::Answer { id, refused });
    }

    fn server(&mut self) -> &mut Server {
        &mut self.prepared.server
    }

    /// Goes on with the machine's stop: the workload first, while its agent still looks after it; then
    /// the agent, which gives the lock of that work back; a Consul client that left before would leave
    /// both without one that answers.
    fn advance_stop(&mut self, now: Instant) {
        if self.stopping == Stopping::Workload && self.workload.process().is_none() {
            self.stopping = Stopping::Agent;
            self.agent.stop(now);
        }
        if self.stopping == Stopping::Agent && self.agent.is_stopped() {
            self.stopping = Stopping::Units;
            self.units.stop_as_specified(now);
        }
        if self.stopping == Stopping::Units && self.units.are_stopped() {
            self.stopping = Stopping::Done;
        }
    }

    /// Starts and kills what is due.
    fn tick(&mut self, now: Instant) {
        self.look_at_lease(now);
        let console = &self.console;
        let had_fault = self.workload.fault.clone();
        if self
            .workload
            .tick(now, fastrand::f64(), || console.writer())
        {
            self.changed = true;
            if let Some(fault) = self.workload.fault.clone().filter(|_| had_fault.is_none()) {
                self.note(&fault);
            }
        }
        if let Some(notes) = self.units.tick(now, fastrand::f64()) {
            self.changed = true;
            for note in notes {
                self.note(&note);
            }
        }
        let (log, sockets) = (&self.agent_log, self.prepared.sockets.as_ref());
        let note = self
            .agent
            .tick(now, fastrand::f64(), sockets, || log.writer());
        if let Some(note) = note {
            self.note(&note);
            self.changed = true;
        }
    }

    /// Writes the record and tells everyone connected, if something changed.
    fn tell_changes(&mut self, now: Instant) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let (agent, workload) = (self.agent.process(), self.workload.process());
        let units = self.units.processes();
        let record = &mut self.prepared.record;
        let first = record.agent.is_none() && record.workload.is_none();
        let same = (record.agent, record.workload) == (agent, workload) && record.units == units;
        if first || !same {
            (record.agent, record.workload) = (agent, workload);
            record.units = units;
            if let Err(error) = record.write(&self.prepared.files) {
                // Its processes are found by session and environment too.
                self.note(&format!("{error}"));
            }
        }
        let state = Message::State(Box::new(self.state(now)));
        self.server().send_all(&state);
        self.server().flush();
        self.server().forget_lost();
    }

    fn state(&self, now: Instant) -> RunnerState {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        RunnerState {
            boot: self.prepared.record.boot.clone(),
            workload: self.workload.state(),
            pid: self.workload.process().map(|process| process.pid),
            starts: self.workload.starts,
            last_end: self.workload.last_end,
            fault: self.workload.fault.clone(),
            restart_in_ms: self.workload.restart_in(now).map(ms),
            lease_left_ms: self
                .workload
                .needs_lease()
                .then(|| ms(self.lease.left(boottime()))),
            console: self.console.log.counts(),
            units: self.units.states(now),
        }
    }

    /// Writes a line of init's own to the agent's log.
    fn note(&mut self, text: &str) {
        let line = format!("{} init: {text}\n", jiff::Timestamp::now());
        self.agent_log.log.write(line.as_bytes());
    }

    /// The last steps of a machine that was stopped.
    fn finish(mut self) {
        let files: MachineFiles = self.prepared.files.clone();
        let left = kill_all(files.root(), Some(&self.prepared.record), LAST_KILL_TIMEOUT);
        if let Err(error) = left {
            self.note(&error.to_string());
        }
        self.drain_outputs();
        // A socket that nobody listens on is removed by the next start too.
        let _ = std::fs::remove_file(files.init_socket());
        self.note("machine is stopped");
    }
}

/// Longest time given to a workload to stop. Far above any drain, and far from overflowing a clock.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 86_400);

fn read_signal(signals: &SignalFd) -> io::Result<Option<Signal>> {
    let Some(info) = signals.read_signal()? else {
        return Ok(None);
    };
    let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
    Ok(Some(Signal::try_from(number)?))
}
