//! Agents that are all gone, with their workloads alive: nothing happens.

use std::time::Duration;

use calvin_consul::health::ServiceStatus;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{COUNT, COUNT_SIZE, deep};
use crate::stage::{
    calvin::processes::signal,
    front::Front,
    images::{GOOD, Pace, WEB},
    names,
    whole::{DOMAIN, Whole},
};

/// For how long they are gone: far above `silent_after`, three report intervals and gossip's patience.
fn gone() -> Duration {
    Duration::from_secs(if deep() { 300 } else { 45 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_without_agents_is_found_and_serves_and_is_left_alone() {
    let whole = Whole::start("agents", 1).await;
    whole.bring_up(&GOOD[..1], COUNT, Pace::default()).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let instances = whole.instances("1.0").await;
    let workloads = whole.workloads();
    let lines = whole.calvin.operator.history(WEB).await.len();

    for pid in whole.agents().into_values() {
        signal(pid, Signal::SIGSTOP);
    }
    let start = Instant::now();
    while start.elapsed() < gone() {
        let found = whole.catalogue(WEB).await.unwrap();
        assert_eq!(found.len(), COUNT_SIZE, "{found:#?}");
        for one in found {
            assert_eq!(one.status(), ServiceStatus::Passing, "{one:#?}");
        }
        let name = format!("active.{WEB}.service.{DOMAIN}");
        let addresses = names::ask(whole.edge.dns, &name).await;
        assert_eq!(addresses.len(), COUNT_SIZE, "{addresses:?}");
        sleep(Duration::from_secs(1)).await;
    }
    front.assert_none_failed("without agents");
    for pid in whole.agents().into_values() {
        signal(pid, Signal::SIGCONT);
    }

    whole.calvin.until_whole(WEB, COUNT).await;
    assert_eq!(whole.instances("1.0").await, instances);
    assert_eq!(whole.workloads(), workloads);
    let history = whole.calvin.operator.history(WEB).await;
    let deleted = history[lines..]
        .iter()
        .find(|line| ["instance_intended", "instance_retiring"].contains(&&*line.kind));
    assert!(deleted.is_none(), "{deleted:?}");
    front.until_more(3_000).await;
    front.assert_none_failed("with agents again");
}
