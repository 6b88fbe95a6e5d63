//! What an agent costs: time from a machine's start to its first healthy report, and memory and
//! processor time of agent and init together while nothing happens.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints its figures, and panics where it cannot go on"
)]

mod harness;
mod processor;
mod report;

use std::{fs, time::Duration};

use calvin_proto::wire::Health;
use tokio::time::sleep;

use self::{
    harness::{
        Environment,
        files::{Fleet, Pace},
        waiting::until,
    },
    processor::{TICKS, stat, ticks},
    report::Figures,
};

/// Machines that are measured.
const RUNS: usize = 7;

/// For how long nothing happens: 100 clock ticks a second make 3,000, so that 0.2 % are 6.
const IDLE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    let mut environment = Environment::prepare_at(Pace::Usual);
    environment.start_coordinator().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let mut figures = Figures::new("agent");
    let mut start_ms = Vec::new();
    for run in 0..RUNS {
        let name = format!("web{run}");
        let fleet = Fleet::new(&name, "web@1.0", 1);
        environment.operator.apply(&fleet.toml()).await.unwrap();
        start_ms.push(first_healthy_ms(&environment, &name).await);
        environment.until_ended(&name).await;
    }
    figures.add("start to first healthy report", start_ms, "ms", Some(300.0));

    sleep(Duration::from_secs(5)).await;
    let pids: Vec<[i32; 2]> = (0..RUNS)
        .map(|run| pair(&environment, &format!("web{run}")))
        .collect();
    let before: Vec<f64> = pids
        .iter()
        .map(|pair| pair.iter().map(|pid| ticks(*pid)).sum())
        .collect();
    let memory = pids
        .iter()
        .map(|pair| pair.iter().map(|pid| resident_mb(*pid)).sum())
        .collect();
    sleep(IDLE).await;
    let used = pids.iter().zip(before).map(|(pair, before)| {
        let after: f64 = pair.iter().map(|pid| ticks(*pid)).sum();
        (after - before) / TICKS / IDLE.as_secs_f64() * 100.0
    });
    figures.add("resident memory, agent and init", memory, "MB", Some(18.0));
    figures.add(
        "processor, agent and init, idle",
        used.collect(),
        "%",
        Some(0.2),
    );
    // Printing ends the process where a limit was passed: nothing may be left running then.
    drop(environment);
    figures.print();
}

/// From the start of the machine's first process until the coordinator shows a healthy report.
async fn first_healthy_ms(environment: &Environment, fleet: &str) -> f64 {
    until("a healthy report", async || {
        let status = environment
            .fleet(fleet)
            .await
            .map_err(|status| status.to_string())?;
        let report = status.instances.first().and_then(|one| one.report.as_ref());
        if report.is_none_or(|report| report.health() != Health::Healthy) {
            return Err("none".to_owned());
        }
        let init = environment
            .processes(fleet, "init")
            .into_values()
            .next()
            .ok_or("no init")?;
        Ok((uptime_s() - start_s(init)) * 1000.0)
    })
    .await
}

/// Agent and init of a fleet's one machine.
fn pair(environment: &Environment, fleet: &str) -> [i32; 2] {
    ["init", "run"].map(|command| {
        let found = environment.processes(fleet, command).into_values().next();
        found.unwrap_or_else(|| panic!("{fleet} has no {command}"))
    })
}

fn start_s(pid: i32) -> f64 {
    stat(pid, 22) / TICKS
}

fn uptime_s() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// All memory that is resident, also what it shares with others of the same binary.
fn resident_mb(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kb: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kb / 1024.0
}
