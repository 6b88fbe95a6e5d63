//! A machine's Consul client that lost all it knew, and tokens that are not good any more.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{COUNT, COUNT_SIZE};
use crate::{
    stage::{
        calvin::processes::signal,
        front::Front,
        images::{GOOD, Pace, WEB},
        whole::Whole,
    },
    support::until,
};

/// A Consul client that begins anew: started again, joined, and registered by its agent.
const BACK_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consul_client_that_lost_all_it_knew_is_registered_again_as_it_was() {
    let whole = Whole::start("wiped", 1).await;
    whole.bring_up(&GOOD[..1], COUNT, Pace::default()).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let instances = whole.instances("1.0").await;
    let victim = &instances[0];
    let (before, _) = whole.consul_client(victim);
    let [meta, tags] = registered(&whole, victim).await.unwrap();

    whole.wipe_consul_client(victim);
    let wiped = Instant::now();
    until("the client to know its service again", async || {
        let running = whole.workloads().len();
        assert_eq!(running, COUNT_SIZE, "a workload was touched");
        let Some((now, data)) = whole.maybe_consul_client(victim) else {
            return Err((0, 0));
        };
        let services = std::fs::read_dir(data.join("services"));
        let services = services.into_iter().flatten().count();
        if now != before && services > 0 {
            Ok(())
        } else {
            Err((now, services))
        }
    })
    .await;
    assert!(wiped.elapsed() < BACK_MAX, "{:?}", wiped.elapsed());
    // Also after the client has compared itself with the servers.
    until("the same registration", async || {
        match registered(&whole, victim).await {
            Some(found) if found == [meta.clone(), tags.clone()] => Ok(()),
            other => Err(other),
        }
    })
    .await;
    whole.until_active(&instances).await;
    front.until_more(3_000).await;
    front.assert_none_failed("a client began anew");
}

/// Meta and tags of an instance, as texts.
async fn registered(whole: &Whole, instance: &str) -> Option<[String; 2]> {
    let found = whole.catalogue(WEB).await.ok()?;
    let one = found.into_iter().find(|one| one.node.name == instance)?;
    Some([
        format!("{:?}", one.service.meta),
        format!("{:?}", one.service.tags),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_whose_token_was_revoked_holds_and_goes_on_with_another() {
    let mut whole = Whole::start("revoked", 1).await;
    whole.bring_up(&GOOD[..2], COUNT, Pace::default()).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let workloads = whole.workloads();

    let accessor = whole.accessor.clone();
    whole.management().token_revoke(&accessor).await.unwrap();
    until("it says that its token is not good", async || {
        let output = whole.try_calvin(&["doctor"]);
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        if said.contains("consul") && said.contains("token") && !output.status.success() {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    front.until_more(2_000).await;
    assert_eq!(whole.workloads(), workloads);

    whole.give_token().await;
    until("it goes on", async || {
        let status = whole.calvin.operator.status().await;
        let held = status.map_err(|status| status.to_string())?.held;
        if held.is_empty() { Ok(()) } else { Err(held) }
    })
    .await;
    whole.roll_out("2.0").await;
    assert_eq!(whole.until_ended().await.phase, "done");
    front.assert_none_failed("another token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_consul_client_keeps_nobody_from_being_found() {
    let whole = Whole::start("silent", 1).await;
    whole.bring_up(&GOOD[..1], COUNT, Pace::default()).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let workloads = whole.workloads();
    let victim = whole.instances("1.0").await.remove(0);
    let (pid, _) = whole.consul_client(&victim);
    signal(pid, Signal::SIGSTOP);
    // Gossip calls its node dead, and clients are sent to the others; the machine is not deleted: its
    // agent and its workload answer.
    until("it to be left out", async || {
        let found = front.haproxy.servers(0).await.len();
        if found == COUNT_SIZE - 1 {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
    front.until_more(5_000).await;
    assert_eq!(whole.workloads(), workloads);
    signal(pid, Signal::SIGCONT);
    until("it to be found again", async || {
        let found = front.haproxy.servers(0).await.len();
        if found == COUNT_SIZE {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
    front.assert_none_failed("a silent Consul client");
}
