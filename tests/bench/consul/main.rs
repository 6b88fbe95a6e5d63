//! What Consul costs and how fast it follows: a switch, requests in rest, the coordinator's processor
//! time with a large fleet, and how soon a dead workload is no answer any more. It measures and judges
//! nothing: the figures depend on what else the machine does.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints its figures, and panics where it cannot go on"
)]

mod idle;
#[path = "../interrupt.rs"]
mod interrupt;
mod leaving;
mod log;
#[path = "../processor.rs"]
mod processor;
#[path = "../report.rs"]
mod report;
mod requests;
#[allow(dead_code, reason = "a bench uses a part of what tests need")]
mod stage;
#[allow(dead_code, reason = "a bench uses a part of what tests need")]
mod support;
mod switch;

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use self::report::Figures;

const USAGE: &str = "usage: cargo bench -p calvin-tests --bench consul -- [--small] [PART...]

parts, all of them where none is named:
  switch    a set of 100 played agents enters and becomes active: from the first order to the read-back
  requests  what real machines and the coordinator ask of Consul when nothing happens
  idle      the coordinator's processor time with 1,000 played agents when nothing happens
  leaving   from a closed port to an answer of Consul's DNS without it, with calvin and without

--small makes everything small: whether it runs, not how fast.
CALVIN_TEST_CONSUL names a Consul; where it is not set, tests/servers/build builds one.
CALVIN_TESTS_MEMORY names a directory for the data of Consul's servers, such as /dev/shm.";

/// Set for the process that measures: which Consul it runs.
const CONSUL: &str = "CALVIN_TEST_CONSUL";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Switch,
    Requests,
    Idle,
    Leaving,
}

const ALL: [(&str, Part); 4] = [
    ("switch", Part::Switch),
    ("requests", Part::Requests),
    ("idle", Part::Idle),
    ("leaving", Part::Leaving),
];

/// How much of it.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Instances that switch together.
    set: u32,
    /// Rollouts; each has a way back, which is a switch too.
    rollouts: usize,
    /// Instances that are registered while nothing happens.
    registered: u32,
    /// How long nothing happens, and how often that is measured.
    rest: Duration,
    rests: usize,
    /// Ports that are closed, of each kind.
    samples: u32,
}

const FULL: Size = Size {
    set: 100,
    rollouts: 3,
    registered: 1_000,
    rest: Duration::from_secs(60),
    rests: 3,
    samples: 50,
};
const SMALL: Size = Size {
    set: 10,
    rollouts: 1,
    registered: 20,
    rest: Duration::from_secs(10),
    rests: 1,
    samples: 5,
};

fn main() -> ExitCode {
    let mut size = FULL;
    let mut parts = Vec::new();
    for argument in std::env::args().skip(1) {
        let named = ALL.iter().find(|(name, _)| *name == argument);
        match (&*argument, named) {
            // Cargo says it to every bench.
            ("--bench", _) => {}
            ("--small", _) => size = SMALL,
            (_, Some((_, part))) => parts.push(*part),
            _ => {
                eprintln!("there is no {argument}\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if parts.is_empty() {
        parts = ALL.map(|(_, part)| part).to_vec();
    }
    if std::env::var_os(CONSUL).is_none() {
        return begin_anew_with_consul();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let figures = runtime.block_on(measure(&parts, size));
    let place = std::env::var("CALVIN_TESTS_MEMORY");
    println!(
        "Consul's servers keep their data in {}; load before the end: {}",
        place.unwrap_or_else(|_| std::env::temp_dir().display().to_string()),
        std::fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    figures.show();
    ExitCode::SUCCESS
}

async fn measure(parts: &[Part], size: Size) -> Figures {
    let mut figures = Figures::new("consul");
    for part in parts {
        match part {
            Part::Switch => switch::measure(size, &mut figures).await,
            Part::Requests => requests::measure(size, &mut figures).await,
            Part::Idle => idle::measure(size, &mut figures).await,
            Part::Leaving => leaving::measure(size, &mut figures).await,
        }
    }
    figures
}

/// Has Consul built, and this program begin again with it.
fn begin_anew_with_consul() -> ExitCode {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/build");
    let built = Command::new(&build)
        .arg("consul")
        .stderr(Stdio::inherit())
        .output();
    let path = match built {
        Ok(built) if built.status.success() => String::from_utf8_lossy(&built.stdout).into_owned(),
        other => {
            eprintln!(
                "{} gave no Consul: {other:?}; set {CONSUL} to one",
                build.display()
            );
            return ExitCode::from(2);
        }
    };
    let error = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(CONSUL, path.trim())
        .exec();
    eprintln!("could not begin again with Consul: {error}");
    ExitCode::FAILURE
}
