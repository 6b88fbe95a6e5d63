//! Starting and reaping children. Init is the parent of agent and workload, and of every orphan
//! below them, so it reaps whatever ends and looks afterwards whose end it was.

use std::{
    fs::File,
    io::{self, PipeWriter},
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
};

use calvin_proto::machine::{ProcessId, descriptors::restore_limit};
use nix::{
    libc,
    sys::{
        signal::{self, SigHandler, SigSet},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use rustix::process::{Signal, kill_process_group, set_parent_process_death_signal};

use super::{
    guard::Announcement,
    sockets::{COUNT, DnsSockets, FIRST},
};
use crate::workload::{End, WorkloadSpec};

/// Signals by which a child can be asked to stop: those of `StopSignal`.
const ASK_TO_STOP: [signal::Signal; 6] = [
    signal::Signal::SIGTERM,
    signal::Signal::SIGINT,
    signal::Signal::SIGQUIT,
    signal::Signal::SIGHUP,
    signal::Signal::SIGUSR1,
    signal::Signal::SIGUSR2,
];

/// Keeps the descriptors that an agent gets its sockets as from being used for anything else: what
/// has one of them (the pipe over which a failed start is told, for instance) would be closed when
/// a socket is put there.
#[derive(Debug)]
pub(super) struct Reserved {
    _placeholders: Vec<File>,
}

impl Reserved {
    /// To be called before anything else opens descriptors.
    pub(super) fn take() -> io::Result<Self> {
        let mut placeholders = Vec::new();
        loop {
            let file = File::open("/dev/null")?;
            if file.as_raw_fd() >= FIRST + COUNT {
                return Ok(Self {
                    _placeholders: placeholders,
                });
            }
            placeholders.push(file);
        }
    }
}

/// Starts the agent: in a process group of its own, ended by the kernel when init ends, with the
/// machine's sockets as descriptors 3 and 4.
pub(super) fn spawn_agent(
    mut agent: Command,
    sockets: Option<&DnsSockets>,
    output: PipeWriter,
) -> io::Result<ProcessId> {
    if sockets.is_some() {
        agent.env("LISTEN_FDS", COUNT.to_string());
        agent.env("LISTEN_FDNAMES", "dns-udp:dns-tcp");
    }
    let descriptors = sockets.map(DnsSockets::descriptors);
    let init = rustix::process::getpid();
    // The program and environment of this first command are never used: the child replaces them
    // once it knows its own pid, which must be in its environment.
    let mut fork = Command::new(agent.get_program());
    fork.stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    before_exec(&mut fork, move || {
        end_with(init)?;
        if let Some(descriptors) = descriptors {
            hand_over(descriptors)?;
            agent.env("LISTEN_PID", std::process::id().to_string());
        }
        Err(agent.exec())
    });
    start(&mut fork)
}

/// Has the kernel end this process when init ends.
fn end_with(init: rustix::process::Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Init may have ended before that call.
    if rustix::process::getppid() != Some(init) {
        return Err(io::Error::other("init has ended"));
    }
    Ok(())
}

/// Starts the workload: in a process group of its own, which outlives the agent, and init where it
/// needs no lease: nobody else would see to its end. One that needs one announces itself.
pub(super) fn spawn_workload(
    spec: &WorkloadSpec,
    output: PipeWriter,
    announcement: Option<Announcement>,
) -> io::Result<ProcessId> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.arguments)
        .current_dir(&spec.directory)
        .env_clear()
        .envs(&spec.env)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    let init = rustix::process::getpid();
    let needs_lease = spec.needs_lease;
    before_exec(&mut command, move || {
        if needs_lease {
            end_with(init)?;
        }
        announcement.as_ref().map_or(Ok(()), Announcement::say)
    });
    start(&mut command)
}

#[allow(
    unsafe_code,
    reason = "a death signal, sockets by number, signals and limit can be set nowhere else"
)]
fn before_exec(
    command: &mut Command,
    mut prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: what may be called between fork and exec is limited because another thread may have
    // held a lock (the allocator's, for instance) when this one forked. Init has one thread when it
    // starts, which is checked, and later one more that never takes such a lock (`guard`).
    unsafe {
        command.pre_exec(move || {
            // Init reads its signals from a descriptor and has them blocked; a child inherits that.
            SigSet::all().thread_unblock()?;
            // And what init was started with: a shell has what it starts in the background ignore
            // some, and a child that is asked to stop by one of them would not hear it.
            for asks in ASK_TO_STOP {
                signal::signal(asks, SigHandler::SigDfl)?;
            }
            // What is started here may be others' code.
            restore_limit()?;
            prepare()
        });
    }
}

#[allow(
    unsafe_code,
    reason = "a descriptor of a given number can be made in no other way"
)]
fn hand_over(descriptors: [RawFd; 2]) -> io::Result<()> {
    for (target, source) in (FIRST..).zip(descriptors) {
        // SAFETY: `source` is open: init holds the sockets for its whole life. `target` is one of
        // those that `Reserved` keeps for this. `into_raw_fd` leaves it open for the agent.
        let (source, mut target) = unsafe {
            (
                std::os::fd::BorrowedFd::borrow_raw(source),
                OwnedFd::from_raw_fd(target),
            )
        };
        let result = rustix::io::dup2(source, &mut target);
        let _ = target.into_raw_fd();
        result?;
    }
    Ok(())
}

fn start(command: &mut Command) -> io::Result<ProcessId> {
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // It may have ended already. It is not reaped before the next look at children, so its pid is
    // still its own; its start time only serves to know it later, when it is not there any more.
    Ok(ProcessId::of(pid).unwrap_or(ProcessId { pid, start: 0 }))
}

/// A child that has ended and is not reaped yet: nobody else can have its pid.
pub(super) fn next_ended() -> Option<(i32, End)> {
    loop {
        match look_at_ended() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // None has ended, or there is none.
            ended => return ended.ok().flatten(),
        }
    }
}

#[allow(
    unsafe_code,
    reason = "safe wrappers refuse a child that a real-time signal ended, or do not say which it is"
)]
fn look_at_ended() -> io::Result<Option<(i32, End)>> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: zeros are a `siginfo_t`, and mean that no child has ended. `waitid` writes nothing
    // else. The fields that are read are those of a `siginfo_t` that it has written (waitid(2)).
    unsafe {
        let mut ended: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(libc::P_ALL, 0, &raw mut ended, flags) != 0 {
            return Err(io::Error::last_os_error());
        }
        let (pid, status) = (ended.si_pid(), ended.si_status());
        let end = if ended.si_code == libc::CLD_EXITED {
            End::Exited(status)
        } else {
            End::Signalled(status)
        };
        Ok((pid != 0).then_some((pid, end)))
    }
}

/// Reaps a child that has ended. Its pid may now become another process's.
pub(super) fn reap(pid: i32) {
    // It is there: `next_ended` has seen it, and nobody else reaps. How it ended is known already.
    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
}

/// Whether anybody is left in the process group of this leader, who is reaped.
pub(super) fn group_is_there(leader: i32) -> bool {
    // Whatever else fails does not say that it is empty.
    rustix::process::Pid::from_raw(leader).is_some_and(|leader| {
        rustix::process::test_kill_process_group(leader) != Err(rustix::io::Errno::SRCH)
    })
}

/// Sends a signal to a process group whose leader is a child that is not reaped yet.
pub(super) fn signal_group(leader: i32, signal: Signal) {
    if let Some(leader) = rustix::process::Pid::from_raw(leader) {
        // The only failure is that nobody is left in it.
        let _ = kill_process_group(leader, signal);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        io::Errno,
    };

    use super::*;
    use crate::{clock::boottime, init::guard::Guard};

    #[test]
    fn a_start_that_waits_for_its_program_is_over_with_the_lease() {
        const LEASE: Duration = Duration::from_millis(300);
        const LIMIT: Timespec = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let guard = Guard::start().unwrap();
        guard.extend(boottime() + LEASE).unwrap();
        let announcement = guard.starting().unwrap();
        // In place of a disk that does not answer: nobody writes to this.
        let (never, _writer) = io::pipe().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60").process_group(0);
        before_exec(&mut command, move || {
            announcement.say()?;
            poll(&mut [PollFd::new(&never, PollFlags::IN)], Some(&LIMIT))?;
            Err(Errno::TIMEDOUT.into())
        });
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let took = began.elapsed();
        assert!((LEASE..LEASE * 10).contains(&took), "{took:?}");
        let ended = child.wait().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
        assert_eq!(signal, Some(Signal::KILL.as_raw()));
    }
}
