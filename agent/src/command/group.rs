//! A child process that leads a process group of its own, and ends with it.

use std::{
    io::{self, PipeWriter},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
};

use calvin_proto::machine::descriptors::start_with_own_limit;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::{Child, Command},
};

use super::{COMMAND_VARIABLE, CommandSpec};
use crate::workload::End;

/// The group; killed when this is dropped, and its leader is then reaped by tokio.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    pid: Pid,
    process: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Group {
    /// Starts the command, with `output` as its standard output and error.
    pub(super) fn spawn(spec: &CommandSpec, output: PipeWriter) -> io::Result<Self> {
        let mut command = Command::new(&spec.program);
        start_with_own_limit(command.as_std_mut());
        let leader = command
            .args(&spec.arguments)
            .current_dir(&spec.directory)
            .env_clear()
            .envs(&spec.env)
            .env(COMMAND_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = leader
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .ok_or_else(|| io::Error::other("the command has no pid"))?;
        let process = pidfd_open(pid, PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(watch);
        match process {
            Ok(process) => Ok(Self {
                leader,
                pid,
                process,
                reaped: false,
            }),
            Err(error) => {
                // Dropping the child alone would leave its children.
                let _ = kill_process_group(pid, Signal::KILL);
                Err(error)
            }
        }
    }

    /// Waits until the leader has ended, and leaves it unreaped, so that its pid, which is the
    /// group's number too, stays taken.
    pub(super) async fn ended(&self) -> io::Result<()> {
        self.process.readable().await.map(|_| ())
    }

    /// Kills whatever is left of the group.
    pub(super) fn kill(&self) {
        if !self.reaped {
            // The only failure is that nobody is left.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Reaps the leader, which has ended or was killed.
    pub(super) async fn reap(&mut self) -> io::Result<End> {
        let status = self.leader.wait().await?;
        self.reaped = true;
        Ok(end_of(status))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[allow(
    unsafe_code,
    reason = "tokio offers no safe way to wait for a descriptor of a type that it does not know"
)]
fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd::as_raw_fd` gives the same open descriptor for as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        // A process that was waited for has ended one way or the other.
        (None, signal) => End::Signalled(signal.unwrap_or_default()),
    }
}
