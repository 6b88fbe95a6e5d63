//! The five acts of the demo, with Consul as catalogue and HAProxy in front.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::{COUNT, COUNT_SIZE};
use crate::{
    stage::{
        calvin::processes::signal,
        front::Front,
        images::{BREAKS, GOOD, NEVER_HEALTHY, Pace},
        whole::Whole,
    },
    support::until,
};

/// A green that is never healthy is given up after this time: Consul clients of three machines start in
/// it.
const PACE: Pace = Pace {
    min_healthy: "2s",
    deadline: "45s",
    bake: "15s",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_five_acts_of_the_demo_end_as_told() {
    let mut whole = Whole::start("acts", 1).await;
    let [first, second, third] = GOOD;
    let versions = [first, second, third, NEVER_HEALTHY, BREAKS];
    whole.bring_up(&versions, COUNT, PACE).await;
    let front = Front::start(&whole, COUNT_SIZE).await;

    // A good version.
    assert_eq!(ended(&whole, "2.0").await, "done");
    front.assert_none_failed("a good version");

    // One that is never healthy.
    assert_eq!(ended(&whole, "3.0").await, "rolled_back");
    front.assert_none_failed("one that is never healthy");
    for load in front.all() {
        assert!(!load.seen().by_page.contains_key("3.0"));
    }

    // One that breaks under traffic: its own answers are bad, and nobody else's.
    assert_eq!(ended(&whole, "4.0").await, "rolled_back");
    for load in front.all() {
        let seen = load.seen();
        let answered: BTreeSet<&str> = seen.failed_by_page.keys().map(String::as_str).collect();
        assert!(answered.is_subset(&BTreeSet::from(["4.0"])), "{seen:#?}");
    }
    // What is written and read again by a client takes it a moment.
    until("nobody to be sent to 4.0", async || {
        let before = failed(&front);
        front.until_more(500).await;
        let after = failed(&front);
        if after == before { Ok(()) } else { Err(after) }
    })
    .await;
    let before = failed(&front);

    // The coordinator is killed in the middle of the switch.
    whole.roll_out("5.0").await;
    whole.until_phase(&["switching", "settling"]).await;
    whole.calvin.kill_coordinator();
    front.until_more(2_000).await;
    whole.calvin.start_coordinator().await;
    assert_eq!(whole.until_ended().await.phase, "done");
    assert_eq!(failed(&front), before, "the coordinator was killed");

    machine_dies(&whole, &front).await;
    agent_dies(&whole, &front).await;
}

/// Rolls out and waits for the end; the phase.
async fn ended(whole: &Whole, version: &str) -> String {
    whole.roll_out(version).await;
    whole.until_ended().await.phase
}

fn failed(front: &Front) -> [u64; 3] {
    front.all().map(|load| load.seen().failed)
}

/// A power cut: what a client had asked that machine at that moment is lost, and nothing else.
async fn machine_dies(whole: &Whole, front: &Front) {
    const ASKING: u64 = 8;
    let before = failed(front);
    let victim = whole.instances("5.0").await.remove(0);
    whole.cut_power(&victim);
    whole
        .calvin
        .until_fleet("web", "the dead machine to be replaced", |fleet| {
            let gone = fleet.instances.iter().all(|one| one.id != victim);
            gone && fleet.serving == COUNT && fleet.instances.len() == COUNT_SIZE
        })
        .await;
    whole.until_active(&whole.instances("5.0").await).await;
    for (before, after) in before.into_iter().zip(failed(front)) {
        assert!(after - before <= ASKING, "{} failed", after - before);
    }
}

/// An agent alone: nobody notices.
async fn agent_dies(whole: &Whole, front: &Front) {
    let before = failed(front);
    let workloads = whole.workloads();
    let agents = whole.agents();
    let (victim, pid) = agents.iter().next().unwrap();
    signal(*pid, Signal::SIGKILL);
    until("another agent", async || match whole.agents().get(victim) {
        Some(new) if new != pid => Ok(()),
        other => Err(other.copied()),
    })
    .await;
    front.until_more(5_000).await;
    assert_eq!(failed(front), before, "an agent was killed");
    assert_eq!(whole.workloads(), workloads);
    whole.until_active(&whole.instances("5.0").await).await;
}
