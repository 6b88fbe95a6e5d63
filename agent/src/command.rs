//! Runs one command of an image to its end: an exec check or a hook. It gets a process group of
//! its own, which is killed as a whole when it takes too long, when whoever waits for it stops
//! waiting, and when it ended and left children behind: nothing of its group outlives its run.
//!
//! A child that leaves the group (`setsid`, a daemon) does: without a cgroup for each run, which
//! needs rights that an agent may not have, it could be found only by a look at every process after
//! every run. The runner finds it by [`COMMAND_VARIABLE`] and ends it, once the agent has ended.

mod group;
mod leftover;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::unix::pipe,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use self::{group::Group, leftover::Leftover};
use crate::workload::{End, UnknownVariable, Variables};

/// The newest output that is kept of one run: enough for a stack trace, and the reason for a
/// failure is mostly at the end.
pub const OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// Environment variable of every command: the pid of the agent that runs it. By it the runner
/// finds and ends what a killed agent left running.
pub const COMMAND_VARIABLE: &str = "CALVIN_COMMAND_OF";
/// Time for a killed command to be gone: the kernel takes milliseconds, unless the command waits in
/// it for something that does not answer; then it may never be gone.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program: a path, or a name that is looked up in the environment's `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, OsString>,
    /// Its working directory.
    pub directory: PathBuf,
}

impl CommandSpec {
    /// The command `words` of an image in the directory `image`, with the machine's variables and
    /// those of `added` in its environment. Program and `${CALVIN_*}` are as for the workload.
    ///
    /// # Errors
    /// A variable that there is not.
    pub fn new(
        words: &[String],
        variables: &Variables,
        added: &BTreeMap<String, String>,
        image: &Path,
    ) -> Result<Self, UnknownVariable> {
        let mut words = words
            .iter()
            .map(|word| variables.fill_in(word))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        // An empty command is refused when the manifest is read; starting one fails by itself.
        let program = words.next().unwrap_or_default();
        Ok(Self {
            program: crate::workload::resolve(&program, image),
            arguments: words.collect(),
            env: variables.environment(added),
            directory: image.to_owned(),
        })
    }
}

/// How a run went.
#[derive(Debug)]
pub struct CommandOutcome {
    /// How it ended.
    pub end: CommandEnd,
    /// The newest of what it wrote to its standard output and error, at most
    /// [`OUTPUT_BYTES_MAX`]; what is not UTF-8 is replaced.
    pub output: String,
    /// Bytes that it wrote before those.
    pub output_dropped: u64,
    /// How long it ran.
    pub took: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub enum CommandEnd {
    /// By itself, or by a signal that was not ours.
    Ended(End),
    /// It took too long and was killed with all its children.
    TimedOut(Killed),
    /// It could not be started.
    NotStarted(io::Error),
}

/// What became of a command that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// It is gone.
    Gone,
    /// It is still there: it waits in the kernel, where no signal ends it.
    WaitsInKernel,
}

impl CommandOutcome {
    /// Whether it ended by itself with exit code 0.
    #[must_use]
    pub fn passed(&self) -> bool {
        matches!(self.end, CommandEnd::Ended(End::Exited(0)))
    }
}

/// Runs a command, for at most `timeout`. Dropping the future kills it with all its children.
pub async fn run_command(spec: &CommandSpec, timeout: Duration) -> CommandOutcome {
    run_with(spec, timeout, |mut group| async move { group.reap().await }).await
}

/// With `reap` as what waits for the end of a group that was killed.
async fn run_with<R>(
    spec: &CommandSpec,
    timeout: Duration,
    reap: impl FnOnce(Group) -> R,
) -> CommandOutcome
where
    R: Future<Output = io::Result<End>> + Send + 'static,
{
    let started = Instant::now();
    let mut output = Tail::default();
    let end = match run(spec, started + timeout, &mut output, reap).await {
        Ok(end) => end,
        Err(error) => CommandEnd::NotStarted(error),
    };
    CommandOutcome {
        end,
        output: String::from_utf8_lossy(&output.kept).into_owned(),
        output_dropped: output.dropped,
        took: started.elapsed(),
    }
}

async fn run<R>(
    spec: &CommandSpec,
    deadline: Instant,
    output: &mut Tail,
    reap: impl FnOnce(Group) -> R,
) -> io::Result<CommandEnd>
where
    R: Future<Output = io::Result<End>> + Send + 'static,
{
    let leftover = Leftover::of(spec);
    if leftover.is_there() {
        let problem = "an earlier run was killed and is not gone: it waits in the kernel";
        return Err(io::Error::other(problem));
    }
    // One pipe for both, so that the order of what was written is kept.
    let (reader, writer) = io::pipe()?;
    let reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let group = Group::spawn(spec, writer)?;
    let ended = tokio::select! {
        ended = group.ended() => { ended?; true }
        never = output.read_all(&reader) => match never {},
        () = tokio::time::sleep_until(deadline) => false,
    };
    // Before the leader is reaped: until then nobody else can get the group's number.
    group.kill();
    let status = reaped(reap(group), leftover).await?;
    // What was written before the end is in the pipe. Its end may never come: a child that left
    // the group can hold it open.
    output.read_rest(&reader);
    Ok(match status {
        Some(status) if ended => CommandEnd::Ended(status),
        Some(_) => CommandEnd::TimedOut(Killed::Gone),
        None => CommandEnd::TimedOut(Killed::WaitsInKernel),
    })
}

/// Waits for the end of a group that was killed; `None` if it does not come soon. Then it is waited
/// for on the side.
async fn reaped(
    reap: impl Future<Output = io::Result<End>> + Send + 'static,
    leftover: Leftover,
) -> io::Result<Option<End>> {
    // A task of its own, which goes on when nobody waits for it any more.
    let mut reaping = tokio::spawn(reap);
    if let Ok(status) = timeout(REAP_TIMEOUT, &mut reaping).await {
        return status.map_err(io::Error::other)?.map(Some);
    }
    warn!(?leftover, "was killed, and waits in the kernel");
    leftover.note();
    tokio::spawn(async move {
        // However it ended, nothing is left of it.
        drop(reaping.await);
        info!(?leftover, "is gone after all");
        leftover.forget();
    });
    Ok(None)
}

/// The newest bytes of a stream.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    dropped: u64,
}

/// What a pipe holds by default (`pipe(7)`).
const PIPE_BYTES: usize = 64 * 1024;

impl Tail {
    /// Reads for as long as it is polled: also after the end, so that it can stand beside what
    /// really ends the wait.
    async fn read_all(&mut self, pipe: &pipe::Receiver) -> std::convert::Infallible {
        loop {
            let mut chunk = [0; 4096];
            match pipe
                .readable()
                .await
                .and_then(|()| pipe.try_read(&mut chunk))
            {
                Ok(0) => std::future::pending().await,
                Ok(count) => self.push(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Reads what is there, but not more than a pipe holds: a writer that left the group may go on.
    fn read_rest(&mut self, pipe: &pipe::Receiver) {
        let mut rest = vec![0; PIPE_BYTES];
        let mut read = 0;
        while read < PIPE_BYTES {
            match pipe.try_read(&mut rest[read..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
        self.push(&rest[..read]);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let excess = self.kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        self.kept.drain(..excess);
        self.dropped += excess as u64;
    }
}
