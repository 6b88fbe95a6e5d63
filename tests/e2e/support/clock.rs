//! A wall clock that a test sets, for the processes that it gives it to: libfaketime between them
//! and the C library. Monotonic clocks stay real, as they do when a person or NTP sets a clock; the
//! clock of the machine is not touched.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::environment::{Environment, binary};

/// The variant for programs with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// Where libfaketime keeps a file and a semaphore for each process. It removes them when the process
/// ends by itself, and not when it is killed.
const SHARED_MEMORY: &str = "/dev/shm";

/// A wall clock, as far from the real one as its file says. Made before the environment that uses
/// it, so that it goes after it.
pub(crate) struct Clock {
    folder: TempDir,
    library: PathBuf,
}

impl Clock {
    /// One that is right.
    ///
    /// # Panics
    /// libfaketime is not installed: a test that cannot set a clock proves nothing.
    pub(crate) fn new() -> Self {
        let library = library().unwrap_or_else(|| {
            panic!("there is no {LIBRARY} below /usr/lib; tests/run installs it (faketime)")
        });
        let clock = Self {
            folder: tempfile::tempdir().expect("a directory"),
            library,
        };
        clock.set_hours(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Sets it so many hours away from the real time.
    pub(crate) fn set_hours(&self, hours: i64) {
        // By a second name: whoever reads it between two writes must not find half of it.
        let draft = self.folder.path().join("clock.new");
        fs::write(&draft, format!("{hours:+}h\n")).expect("a file can be written");
        fs::rename(&draft, self.file()).expect("a file can be renamed");
    }

    /// What a process needs in its environment to see this clock.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // The times of files are the file system's own.
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // A process of another test that runs is left alone.
        let gone = |name: &str| -> Option<bool> {
            let number = name
                .strip_prefix("faketime_shm_")
                .or_else(|| name.strip_prefix("sem.faketime_sem_"))?;
            let pid: u32 = number.parse().ok()?;
            // One that is dead and not yet waited for has no arguments.
            let arguments = fs::read(format!("/proc/{pid}/cmdline"));
            Some(arguments.map_or(true, |bytes| bytes.is_empty()))
        };
        for entry in fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
            if entry.file_name().to_str().and_then(gone) == Some(true) {
                // Another test may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut places = vec![
        PathBuf::from("/usr/lib/faketime"),
        PathBuf::from("/usr/lib64/faketime"),
    ];
    places.extend(folders.map(|folder| folder.path().join("faketime")));
    places
        .into_iter()
        .map(|place| place.join(LIBRARY))
        .find(|library| library.is_file())
}

impl Environment {
    /// Gives the coordinator this clock when it is started.
    pub(crate) fn use_clock_for_coordinator(&mut self, clock: &Clock) {
        self.variables = clock.variables();
    }

    /// Gives every machine's init and agent this clock, and the coordinator when it is started.
    /// Workloads have the real one.
    pub(crate) fn use_clock(&mut self, clock: &Clock) {
        let program = self.home().join("agent-with-clock");
        let variables: String = clock
            .variables()
            .iter()
            .map(|(name, value)| format!("export {name}='{value}'\n"))
            .collect();
        let agent = binary("calvin-agent");
        let script = format!("#!/bin/sh\n{variables}exec '{}' \"$@\"\n", agent.display());
        fs::write(&program, script).expect("a file can be written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("a mode can be set");
        self.use_agent(&program);
        self.use_clock_for_coordinator(clock);
    }
}
