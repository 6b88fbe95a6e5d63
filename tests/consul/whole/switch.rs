//! The switch and the way back under heavy traffic, and that a switch holds.

use std::{collections::BTreeMap, time::Duration};

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{COUNT, COUNT_SIZE};
use crate::stage::{
    calvin::processes::signal,
    front::Front,
    images::{GOOD, Pace, WEB},
    whole::Whole,
};

/// Requests over a switch and the way back.
const REQUESTS: u64 = 100_000;

/// A Consul client compares itself with the servers once a minute, and up to a minute later (its
/// `aeScale` and stagger): two rounds are over after four.
const TWO_ROUNDS: Duration = Duration::from_secs(245);

const PACE: Pace = Pace {
    min_healthy: "3s",
    deadline: "90s",
    bake: "30m",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_and_the_way_back_lose_none_of_a_hundred_thousand_requests() {
    let whole = Whole::start("switch", 1).await;
    whole.bring_up(&GOOD[..2], COUNT, PACE).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let start = front.requests();

    whole.roll_out("2.0").await;
    // The last moment at which the coordinator said that green was not proven yet.
    let mut soaking = Instant::now();
    loop {
        let asked = Instant::now();
        let phase = whole.rollout().await.map(|rollout| rollout.phase);
        match phase.as_deref() {
            Some("provisioning" | "soaking") => soaking = asked,
            _ => break,
        }
        sleep(Duration::from_millis(10)).await;
    }
    whole.until_phase(&["baking"]).await;
    whole.until_active(&whole.instances("2.0").await).await;
    front
        .until_more((REQUESTS / 2).saturating_sub(front.requests() - start))
        .await;
    for load in front.all() {
        let seen = load.seen();
        assert!(seen.first["2.0"] >= soaking, "before its switch: {seen:#?}");
    }
    front.assert_none_failed("a switch");

    let back = Instant::now();
    whole.calvin(&["rollout", "rollback", WEB, "--yes", "--detach"]);
    assert_eq!(whole.until_ended().await.phase, "rolled_back");
    whole.until_active(&whole.instances("1.0").await).await;
    front
        .until_more(REQUESTS.saturating_sub(front.requests() - start))
        .await;
    front.assert_none_failed("a switch and the way back");
    for load in front.all() {
        let seen = load.seen();
        assert!(
            seen.last["1.0"] > back,
            "nobody came back to blue: {seen:#?}"
        );
    }
    println!("{} requests, 0 failed", front.requests() - start);
}

/// The tags of each instance under the service's own name.
async fn tags(whole: &Whole) -> BTreeMap<String, Vec<String>> {
    let found = whole.catalogue(WEB).await.unwrap_or_default();
    found
        .into_iter()
        .map(|one| (one.node.name, one.service.tags))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_holds_through_two_rounds_of_anti_entropy_and_with_a_dead_agent() {
    let whole = Whole::start("holds", 1).await;
    whole.bring_up(&GOOD[..2], COUNT, PACE).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    whole.roll_out("2.0").await;
    whole.until_phase(&["baking"]).await;
    let [green, blue] = [whole.instances("2.0").await, whole.instances("1.0").await];
    whole.until_active(&green).await;
    let switched = tags(&whole).await;
    assert_eq!(
        switched.keys().collect::<Vec<_>>(),
        green.iter().collect::<Vec<_>>()
    );

    // Stopped and not killed: its parent would start another one.
    let agents = whole.agents();
    for instance in [&green[0], &blue[0]] {
        signal(agents[instance], Signal::SIGSTOP);
    }
    let start = Instant::now();
    while start.elapsed() < TWO_ROUNDS {
        assert_eq!(tags(&whole).await, switched, "after {:?}", start.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
    front.assert_none_failed("a switch with dead agents");
    for instance in [&green[0], &blue[0]] {
        signal(agents[instance], Signal::SIGCONT);
    }
    front.until_more(5_000).await;
    assert_eq!(tags(&whole).await, switched);
    front.assert_none_failed("a switch with agents that came back");
}
