//! Wall clocks that are set while things run: by a person, by NTP, by a host that woke up.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Environment, clock::Clock, processes, waiting::until};

/// How far the clock is set back: longer than certificates are backdated, which is an hour.
const HOURS: i64 = 5;

#[tokio::test]
async fn a_clock_set_back_by_hours_in_the_middle_of_a_rollout_is_not_noticed() {
    let clock = Clock::new();
    let mut environment = Environment::prepare();
    environment.use_clock(&clock);
    environment.start_coordinator().await;
    environment.bring_up_web_with_traffic().await;
    environment.operator.start("web", "web@2.0").await.unwrap();
    environment.until_phase("web", "provisioning").await;
    clock.set_hours(-HOURS);
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    let instances = environment.until_whole("web", 5).await;
    assert!(
        instances.iter().all(|one| one.image == "web@2.0"),
        "{instances:?}"
    );
    environment.assert_nothing_failed().await;

    // Also who comes again with a certificate of before is let in.
    let (client, agent) = environment.processes("client", "run").pop_first().unwrap();
    let log = environment
        .home()
        .join(format!("data/machines/{client}/agent.log"));
    processes::signal(agent, Signal::SIGKILL);
    until("the killed agent to have a session", async || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let sessions = text.matches("has a session").count();
        if sessions >= 2 { Ok(()) } else { Err(text) }
    })
    .await;

    // It was set back for the coordinator and for agents that lived before and after.
    let history = environment.operator.history("web").await;
    let back = hours_back(history.iter().map(|line| line.wall_ms));
    assert!(back >= HOURS - 1, "{back} hours back in {history:?}");
    let gone = environment.home().join("data/machines/.gone");
    let logs = fs::read_dir(gone).unwrap().flatten();
    let logs = logs.map(|log| fs::read_to_string(log.path()).unwrap());
    assert!(
        logs.into_iter().any(|log| goes_back(&log)),
        "no agent's log goes back"
    );
}

/// By how many hours times that were written down in order go back at most.
fn hours_back(times: impl Iterator<Item = u64>) -> i64 {
    let mut newest = 0;
    let mut most = 0;
    for time in times {
        newest = newest.max(time);
        most = most.max(newest - time);
    }
    i64::try_from(most / 3_600_000).expect("a number of hours")
}

/// Whether a line's time, to the minute, is before that of the line above it.
fn goes_back(log: &str) -> bool {
    const MINUTE: usize = "2026-01-01T00:00".len();
    let lines: Vec<_> = log.lines().filter_map(|line| line.get(..MINUTE)).collect();
    lines.windows(2).any(|pair| pair[1] < pair[0])
}
