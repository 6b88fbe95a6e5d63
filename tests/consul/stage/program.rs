//! A program in the foreground, with its output in a file. It ends with whoever started it, also where
//! that is killed: the kernel ends it with the thread that made it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Lines of its output that are shown when a test fails.
const LINES_SHOWN: usize = 40;

/// A running program.
pub(crate) struct Program {
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts `program` with these arguments in `directory`; its output goes to `<name>.log` there.
    pub(crate) fn start(directory: &Path, name: &str, program: &Path, arguments: &[&str]) -> Self {
        let log = directory.join(format!("{name}.log"));
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .env("HOME", directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("setpriv (package util-linux) starts it");
        Self { log, child }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("last lines of {}:", self.log.display());
            for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
                eprintln!("  {line}");
            }
        }
    }
}
