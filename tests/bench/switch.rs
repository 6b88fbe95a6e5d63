//! How long a switch takes: from the decision to the last catalogue change that was read back, of
//! a fleet of 100 machines under traffic. Taken from the coordinator's own history.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints its figures, and panics where it cannot go on"
)]

mod harness;
mod report;

use calvin_proto::wire::HistoryLine;

use self::{
    harness::{
        Environment,
        files::{Fleet, Pace},
    },
    report::Figures,
};

/// Instances of the fleet: so many are active before the switch, and so many others after it.
const SET: u32 = 100;

/// Switches that are measured.
const RUNS: usize = 3;

#[tokio::main]
async fn main() {
    let mut environment = Environment::prepare_at(Pace::Usual);
    environment.start_coordinator().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    let fleet = Fleet {
        healthy_deadline: "120s",
        bake: "1s",
        ..Fleet::new("web", "web@1.0", SET)
    };
    environment.bring_up(&fleet).await;
    environment.bring_up_client().await;
    let before = environment.counted().await;
    let mut took_ms = Vec::new();
    for run in 0..RUNS {
        let image = if run % 2 == 0 { "web@2.0" } else { "web@1.0" };
        let started = environment.operator.start("web", image).await.unwrap();
        let ended = environment
            .until_rollout_ended("web", &started.rollout)
            .await;
        assert_eq!(ended.phase, "done", "{ended:?}");
        took_ms.push(switch_ms(&environment.operator.history("web").await));
    }
    let after = environment.until_requests(100).await;
    let failed = after.failed - before.failed + after.lookups_failed - before.lookups_failed;
    let mut figures = Figures::new("switch");
    let name = format!("switch of {SET} instances");
    figures.add(name, took_ms, "ms", Some(1_000.0));
    let failed = f64::from(u32::try_from(failed).unwrap_or(u32::MAX));
    figures.add("failed requests and look-ups", vec![failed], "", Some(0.5));
    // Printing ends the process where a limit was passed: nothing may be left running then.
    drop(environment);
    figures.print();
}

/// From the line that says that the newest rollout switches to the one that says that it settles.
fn switch_ms(history: &[HistoryLine]) -> f64 {
    let last = |word: &str| {
        let mut lines = history.iter().rev().filter(|line| line.kind == "phase");
        lines
            .find(|line| line.text.contains(word))
            .unwrap_or_else(|| panic!("no line of {word}"))
    };
    // A line of a phase names the one before it, too.
    let (from, to) = (last("-> switching"), last("-> settling"));
    f64::from(u32::try_from(to.wall_ms - from.wall_ms).expect("a switch takes less than a month"))
}
