//! How many descriptors a process may have. The soft limit that a process gets, 1024 as a rule, is
//! for programs that use `select(2)`, which breaks above it. Ours do not, and a coordinator of some
//! hundred agents needs more; but what they start is others' code, and gets the limit that they
//! were started with (systemd.exec(5) on `LimitNOFILE=` asks for exactly this).

use std::{io, os::unix::process::CommandExt as _, process::Command, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that this process was started with, once it has raised them. One for the process, as
/// the limits themselves are.
static STARTED_WITH: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to the hard one. To be called once, before it starts
/// anything. Returns the soft limit before and after; `None` stands for no limit.
///
/// # Errors
/// Where the kernel refuses: then the limit is as it was.
pub fn raise_limit() -> io::Result<(Option<u64>, Option<u64>)> {
    let before = *STARTED_WITH.get_or_init(|| getrlimit(Resource::Nofile));
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok((before.current, raised.current))
}

/// Gives this process the soft limit again that it was started with, if it has raised it. The hard
/// one stays: if somebody lowered it meanwhile (prlimit(1)), to raise it again is a privilege, and the
/// soft one may not be above it. It allocates nothing and takes no lock, so that it may be called
/// between fork and exec.
///
/// # Errors
/// Where the kernel refuses.
pub fn restore_limit() -> io::Result<()> {
    let Some(started) = STARTED_WITH.get() else {
        return Ok(());
    };
    let now = getrlimit(Resource::Nofile);
    let restored = Rlimit {
        current: lower_of(started.current, now.maximum),
        maximum: now.maximum,
    };
    Ok(setrlimit(Resource::Nofile, restored)?)
}

/// `None` stands for no limit.
fn lower_of(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (limit, None) | (None, limit) => limit,
    }
}

/// Has a program started with the soft limit that this process was started with.
#[allow(
    unsafe_code,
    reason = "between fork and exec is the only place where a child's limit can be set in time"
)]
pub fn start_with_own_limit(command: &mut Command) {
    // SAFETY: what may be called between fork and exec is limited because another thread may have
    // held a lock when this one forked. `restore_limit` reads what was initialised before and
    // makes two system calls.
    unsafe {
        command.pre_exec(restore_limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(
        unsafe_code,
        reason = "the test stands in for somebody with prlimit(1)"
    )]
    fn lower_first(
        command: &mut Command,
        lower: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) {
        // SAFETY: it makes one system call.
        unsafe {
            command.pre_exec(lower);
        }
    }

    #[test]
    fn a_process_may_have_more_and_what_it_starts_as_many_as_before() {
        let limits = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(128),
            maximum: limits.maximum,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        assert_eq!(raise_limit().unwrap(), (Some(128), limits.maximum));
        assert_eq!(getrlimit(Resource::Nofile).current, limits.maximum);
        assert_eq!(raise_limit().unwrap().0, Some(128), "again is harmless");

        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -Sn"]);
        start_with_own_limit(&mut command);
        let said = command.output().unwrap().stdout;
        assert_eq!(String::from_utf8(said).unwrap(), "128\n");

        // Somebody lowers the hard limit meanwhile: in a process of its own, it cannot be undone.
        for (hard, soft) in [(512, "128\n"), (64, "64\n")] {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "ulimit -Sn"]);
            let lower = move || {
                let lowered = Rlimit {
                    current: Some(hard),
                    maximum: Some(hard),
                };
                Ok(setrlimit(Resource::Nofile, lowered)?)
            };
            lower_first(&mut command, lower);
            start_with_own_limit(&mut command);
            let said = command.output().unwrap().stdout;
            assert_eq!(String::from_utf8(said).unwrap(), soft);
        }
    }
}
