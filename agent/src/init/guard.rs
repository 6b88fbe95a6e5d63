//! Ends work whose lease is over, in a thread of its own. The loop writes a record and logs: a disk
//! that does not answer holds it up in the kernel for as long as it likes, and the work would go on
//! when somebody else has begun it.
//!
//! The thread waits for a timer and sends one signal. It opens no file, asks the allocator for nothing,
//! and takes no lock but the one here, which no child touches: so what the loop forks is as a child of
//! a process with one thread (`child`).

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::Signal,
};

use super::{child::signal_group, lease::LeaseTimer};
use crate::clock::boottime;

/// The loop's handle to the thread. Its calls wait for nothing but each other.
#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    timer: LeaseTimer,
    watched: Mutex<Watched>,
}

/// What the thread looks at.
#[derive(Debug)]
struct Watched {
    /// When the lease is over.
    until: Duration,
    work: Work,
}

/// Work that needs a lease.
#[derive(Debug)]
enum Work {
    None,
    /// The loop waits for its program, which may lie on a disk that does not answer. The process
    /// says its number here before that.
    Starting(PipeReader),
    /// The process group of this leader, a child that is not reaped.
    Runs(i32),
}

/// By what a process says who it is, between fork and exec.
#[derive(Debug)]
pub(super) struct Announcement {
    to: PipeWriter,
    /// No lease is taken before the start is over, so it gets no longer meanwhile.
    until: Duration,
}

impl Guard {
    /// Starts the thread. It is there, and has done all that a new thread does, when this returns.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            timer: LeaseTimer::new()?,
            watched: Mutex::new(Watched {
                until: Duration::ZERO,
                work: Work::None,
            }),
        });
        let begun = Arc::new(Barrier::new(2));
        let (own, own_begun) = (shared.clone(), begun.clone());
        thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || {
                own_begun.wait();
                loop {
                    own.wait_and_enforce();
                }
            })?;
        begun.wait();
        Ok(Self(shared))
    }

    /// Lets the lease last until then. What ran beyond the one before does not any more.
    pub(super) fn extend(&self, until: Duration) -> io::Result<()> {
        let mut watched = self.0.watched();
        watched.enforce();
        self.0.timer.set(until)?;
        watched.until = until;
        Ok(())
    }

    /// Work is about to be started.
    pub(super) fn starting(&self) -> io::Result<Announcement> {
        let (from, to) = io::pipe()?;
        rustix::io::ioctl_fionbio(&from, true)?;
        let mut watched = self.0.watched();
        watched.work = Work::Starting(from);
        Ok(Announcement {
            to,
            until: watched.until,
        })
    }

    /// It runs, as the process group of this leader.
    pub(super) fn started(&self, leader: i32) {
        let mut watched = self.0.watched();
        watched.work = Work::Runs(leader);
        watched.enforce();
    }

    /// It does not run, or its leader is about to be reaped: then the number may become another's.
    pub(super) fn release(&self) {
        self.0.watched().work = Work::None;
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_and_enforce(&self) {
        // Whatever ends it, the clock is looked at.
        let _ = poll(&mut [PollFd::new(&self.timer, PollFlags::IN)], None);
        self.timer.clear();
        self.watched().enforce();
    }
}

impl Watched {
    /// Kills the work, if its lease is over. Nothing here waits.
    fn enforce(&mut self) {
        if boottime() < self.until {
            return;
        }
        if let Work::Starting(from) = &mut self.work {
            let mut leader = [0; size_of::<i32>()];
            // One that has said nothing yet looks at the clock when it has.
            if from.read_exact(&mut leader).is_ok() {
                self.work = Work::Runs(i32::from_ne_bytes(leader));
            }
        }
        if let Work::Runs(leader) = self.work {
            signal_group(leader, Signal::KILL);
        }
    }
}

impl Announcement {
    /// Says the number of this process, which leads a process group. For between fork and exec: it makes
    /// three system calls.
    pub(super) fn say(&self) -> io::Result<()> {
        let leader = rustix::process::getpid().as_raw_nonzero().get();
        (&self.to).write_all(&leader.to_ne_bytes())?;
        // Only now: whoever looked for the number before this found none.
        if boottime() < self.until {
            Ok(())
        } else {
            Err(Errno::TIME.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Child, Command, Stdio},
        time::Instant,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(600);
    const LIMIT: Duration = Duration::from_secs(20);

    fn sleeper() -> (Child, i32) {
        // One that is left by a test that fails ends by itself, and keeps no output open.
        let mut command = Command::new("sleep");
        command.arg("60").process_group(0);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let leader = i32::try_from(child.id()).unwrap();
        (child, leader)
    }

    /// Whether it ends, and is not reaped for that before.
    fn ends(child: &mut Child, within: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < within {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    #[test]
    fn work_ends_with_its_lease_while_nobody_else_does_anything() {
        let guard = Guard::start().unwrap();
        let (mut child, leader) = sleeper();
        guard.extend(boottime() + SHORT).unwrap();
        guard.started(leader);
        assert!(ends(&mut child, LIMIT));
        guard.release();
    }

    #[test]
    fn a_longer_lease_counts_and_what_was_released_is_left_alone() {
        let guard = Guard::start().unwrap();
        let (mut child, leader) = sleeper();
        guard.extend(boottime() + SHORT).unwrap();
        guard.started(leader);
        guard.extend(boottime() + LONG).unwrap();
        assert!(!ends(&mut child, SHORT * 2));
        guard.release();
        guard.extend(boottime()).unwrap();
        assert!(!ends(&mut child, SHORT));
        guard.started(leader);
        assert!(ends(&mut child, LIMIT), "it has none any more");
    }

    #[test]
    fn work_whose_lease_is_over_before_it_has_begun_does_not_begin() {
        let guard = Guard::start().unwrap();
        guard.extend(boottime() + SHORT).unwrap();
        let announcement = guard.starting().unwrap();
        announcement.say().unwrap();
        let late = guard.starting().unwrap();
        thread::sleep(SHORT * 2);
        let refused = late.say().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::TIME.raw_os_error()));
    }
}
