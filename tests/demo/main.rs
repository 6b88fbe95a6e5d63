//! The demo, as one would type it: its last line, its exit code, and what it leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and shows what it knows"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// What the issue of the demo is worth: it must end in a minute, on a machine with two cores that
/// does nothing else. Under tests it may take half as long again.
const DEMO_TIMEOUT: Duration = Duration::from_secs(90);

/// Time for an interrupted demo to end everything.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

fn calvin() -> PathBuf {
    let binaries = std::env::var_os("CALVIN_TEST_BINARIES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug"),
        PathBuf::from,
    );
    let program = binaries.join("calvin");
    assert!(
        program.is_file(),
        "{} is not built; run tests/run",
        program.display()
    );
    program
}

/// A demo in a temporary directory of its own, by which all its processes can be told.
struct Demo {
    home: tempfile::TempDir,
    child: Child,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("cd-").tempdir().unwrap();
        let child = Command::new(calvin())
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { home, child }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Processes with this demo's directory in their arguments or environment, but itself.
    fn processes(&self) -> Vec<(i32, String)> {
        let needle = self.home.path().to_str().unwrap().as_bytes().to_owned();
        let own = i32::try_from(self.child.id()).unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            let read = |file| fs::read(entry.path().join(file)).unwrap_or_default();
            let arguments = read("cmdline");
            let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
            if pid != own && (holds(&arguments) || holds(&read("environ"))) {
                found.push((pid, String::from_utf8_lossy(&arguments).replace('\0', " ")));
            }
        }
        found
    }

    /// Waits for its end; every line that it wrote, and its exit code.
    fn finish(&mut self, limit: Duration) -> (Vec<String>, Option<i32>) {
        let stdout = self.child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .collect::<Vec<_>>()
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > limit {
                self.child.kill().unwrap();
                let lines = reader.join().unwrap();
                panic!("not ended after {limit:?}:\n{}", lines.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        (reader.join().unwrap(), status.code())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, _) in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let kept = self.home.path().to_owned();
            self.home.disable_cleanup(true);
            eprintln!("files of the demo: {}", kept.display());
        }
    }
}

#[test]
fn every_act_ends_as_told_and_nothing_is_left_running() {
    let mut demo = Demo::start(&["--output", "json"]);
    let started = Instant::now();
    let (lines, code) = demo.finish(DEMO_TIMEOUT);
    let took = started.elapsed();
    let all = lines.join("\n");
    let last = lines.last().unwrap_or_else(|| panic!("no line"));
    let summary: Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {all}"));
    assert_eq!(summary["ok"], true, "{all}");
    assert_eq!(code, Some(0), "{all}");
    assert_eq!(
        (&summary["leaked"], &summary["doubled"]),
        (&0.into(), &0.into()),
        "{all}"
    );
    let acts = summary["acts"].as_array().unwrap();
    let outcomes: Vec<_> = acts
        .iter()
        .map(|act| act["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["done", "rolled_back", "rolled_back", "done", "replaced"],
        "{all}"
    );
    for quiet in [0, 1, 3] {
        assert_eq!(acts[quiet]["failed"], 0, "{all}");
        assert!(acts[quiet]["requests"].as_u64().unwrap() > 500, "{all}");
    }
    assert!(
        acts[2]["failed"].as_u64().unwrap() > 0,
        "act three broke nothing: {all}"
    );
    assert_eq!(acts[4]["parts"][0]["name"], "machine_killed", "{all}");
    assert_eq!(acts[4]["parts"][1]["name"], "agent_killed", "{all}");
    assert_eq!(acts[4]["parts"][1]["failed"], 0, "{all}");
    assert_eq!(demo.processes(), [], "{all}");
    println!("the demo took {took:?}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_running() {
    let mut demo = Demo::start(&[]);
    let start = Instant::now();
    // In the middle: the fleet's machines are there.
    while demo.processes().len() < 8 {
        assert!(
            start.elapsed() < DEMO_TIMEOUT,
            "the demo starts no machines: {:?}",
            demo.processes()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    demo.signal(Signal::SIGINT);
    let (lines, code) = demo.finish(STOP_TIMEOUT);
    assert_ne!(code, Some(0), "{}", lines.join("\n"));
    assert_eq!(demo.processes(), [], "{}", lines.join("\n"));
}

#[test]
fn a_demo_that_is_to_be_kept_stays_up_and_says_what_to_type() {
    let mut demo = Demo::start(&["--keep"]);
    let (lines, code) = demo.finish(DEMO_TIMEOUT);
    let all = lines.join("\n");
    assert_eq!(code, Some(0), "{all}");
    assert!(demo.processes().len() > 12, "{all}");
    let export = lines
        .iter()
        .find_map(|line| line.trim().strip_prefix("export CALVIN_SOCKET="));
    let socket = export.unwrap_or_else(|| panic!("no socket named: {all}"));
    let status = Command::new(calvin())
        .args(["--socket", socket, "status"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert!(text.contains("web"), "{text}");
}
