//! The coordinator is killed with SIGKILL in each phase of a rollout, started again, and finishes;
//! and it is away for a while.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};

use crate::support::{Environment, files::Fleet, waiting::LIMIT};

/// A phase that is short may be over before it is seen: then another rollout is tried.
const TRIES: usize = 6;

/// Kills the coordinator as soon as this rollout is in this phase or beyond it; the phase that it
/// was killed in.
async fn kill_in(environment: &mut Environment, rollout: &str, phase: &str) -> String {
    const ORDER: [&str; 11] = [
        "provisioning",
        "soaking",
        "switching",
        "settling",
        "baking",
        "draining",
        "retiring",
        "rolling_back",
        "done",
        "rolled_back",
        "failed",
    ];
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let wanted = place(phase).expect("a phase of a rollout");
    // Asked again and again: a watch may skip a phase that is short.
    let seen = timeout(LIMIT, async {
        loop {
            let fleet = environment.fleet("web").await.expect("the fleet is shown");
            let newest = fleet.rollout.expect("there was one");
            if newest.id == rollout && place(&newest.phase) >= Some(wanted) {
                return newest.phase;
            }
            sleep(Duration::from_millis(3)).await;
        }
    });
    let seen = seen
        .await
        .unwrap_or_else(|_| panic!("phase {phase} did not come"));
    environment.kill_coordinator();
    seen
}

async fn survives_a_crash_in(phase: &str, image: &str, end: &str) {
    let mut environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let mut killed_in = Vec::new();
    let (mut serves, mut next) = ("web@1.0", image);
    while killed_in.last().is_none_or(|seen| seen != phase) {
        assert!(killed_in.len() < TRIES, "never in {phase}: {killed_in:?}");
        let started = environment.operator.start("web", next).await.unwrap();
        killed_in.push(kill_in(&mut environment, &started.rollout, phase).await);
        // Nobody decides, everybody serves.
        let machines = environment.processes("web", "init");
        sleep(Duration::from_millis(500)).await;
        assert_eq!(
            environment.processes("web", "init"),
            machines,
            "killed in {killed_in:?}"
        );
        environment.start_coordinator().await;
        let ended = environment
            .until_rollout_ended("web", &started.rollout)
            .await;
        assert_eq!(ended.phase, end, "killed in {killed_in:?}: {ended:?}");
        if end == "done" {
            (serves, next) = (next, serves);
        }
        let instances = environment.until_whole("web", 5).await;
        assert!(
            instances.iter().all(|one| one.image == serves),
            "{instances:?}"
        );
        environment.assert_nothing_failed().await;
    }
}

#[tokio::test]
async fn a_coordinator_killed_while_provisioning_finishes_the_rollout() {
    survives_a_crash_in("provisioning", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_soaking_finishes_the_rollout() {
    survives_a_crash_in("soaking", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_switching_finishes_the_rollout() {
    survives_a_crash_in("switching", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_settling_finishes_the_rollout() {
    survives_a_crash_in("settling", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_baking_finishes_the_rollout() {
    survives_a_crash_in("baking", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_draining_finishes_the_rollout() {
    survives_a_crash_in("draining", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_retiring_finishes_the_rollout() {
    survives_a_crash_in("retiring", "web@2.0", "done").await;
}

#[tokio::test]
async fn a_coordinator_killed_while_rolling_back_goes_on_to_roll_back() {
    survives_a_crash_in("rolling_back", "web@3.0", "rolled_back").await;
}

#[tokio::test]
async fn a_coordinator_that_is_away_for_a_while_changes_nothing_and_is_not_missed() {
    let mut environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let workloads = environment.processes("web", "workload");
    environment.kill_coordinator();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(environment.processes("web", "workload"), workloads);
    environment.start_coordinator().await;
    environment.until_whole("web", 5).await;
    assert_eq!(environment.processes("web", "workload"), workloads);
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_coordinator_that_was_stopped_like_a_laptop_wakes_up_and_deletes_nothing() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let workloads = environment.processes("web", "workload");
    environment.signal_coordinator(Signal::SIGSTOP);
    // Longer than reports, sessions and probes stay fresh.
    sleep(Duration::from_secs(20)).await;
    environment.signal_coordinator(Signal::SIGCONT);
    environment.until_whole("web", 5).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(environment.processes("web", "workload"), workloads);
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_coordinator_told_to_stop_ends_in_order_and_leaves_the_machines_alone() {
    let mut environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 2)).await;
    let machines = environment.processes("web", "init");
    environment.signal_coordinator(Signal::SIGTERM);
    let code = environment.coordinator_ended().await;
    assert_eq!(code, Some(0), "{}", environment.log());
    assert_eq!(environment.processes("web", "init"), machines);
}
