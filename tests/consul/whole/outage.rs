//! Consul in trouble in the middle of a rollout: it is held, it says why, its deadlines stand still, it
//! goes on by itself, and nobody who is served notices.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{COUNT, COUNT_SIZE, away, deep};
use crate::{
    stage::{
        front::Front,
        images::{GOOD, Pace},
        whole::Whole,
    },
    support::{datacenter::MANAGEMENT, until, waiting::LIMIT},
};

/// Between two outages; a green that had no more than this would be given up in a long one.
const PACE: Pace = Pace {
    min_healthy: "10s",
    deadline: "40s",
    bake: "40s",
};

/// Waits until the coordinator says that it holds, and that Consul is why.
pub(super) async fn until_held(whole: &Whole) {
    until("it says that it waits for Consul", async || {
        let output = whole.try_calvin(&["status"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && said.to_lowercase().contains("consul") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
}

/// Waits until it holds nothing.
pub(super) async fn until_it_goes_on(whole: &Whole) {
    until("it goes on", async || {
        let status = whole.calvin.operator.status().await;
        let held = status.map_err(|status| status.to_string())?.held;
        if held.is_empty() { Ok(()) } else { Err(held) }
    })
    .await;
}

/// Waits until the rollout is in a phase, which may be over in a moment.
async fn catch(whole: &Whole, phase: &str) {
    let start = Instant::now();
    loop {
        let rollout = whole.rollout().await.expect("there is one");
        if rollout.phase == phase {
            return;
        }
        assert!(
            !rollout.ended && start.elapsed() < LIMIT,
            "no phase {phase}: {rollout:#?}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// All servers are killed, away for a while, and started again.
async fn all_of_consul_goes(whole: &mut Whole, front: &Front, phase: &str) {
    for server in &mut whole.datacenter.servers {
        server.kill();
    }
    until_held(whole).await;
    let held = whole.rollout().await.expect("there is one");
    sleep(away()).await;
    // Nothing was decided meanwhile, least of all that time is up.
    let rollout = whole.rollout().await.expect("there is one");
    assert!(!rollout.ended, "{rollout:#?}");
    assert_eq!(rollout.phase, held.phase, "{rollout:#?}");
    assert!(rollout.reason.is_empty(), "{rollout:#?}");
    front.assert_none_failed(&format!("Consul is away in {phase}"));
    for server in &mut whole.datacenter.servers {
        server.start_again();
    }
    whole.datacenter.until_it_leads().await;
    until_it_goes_on(whole).await;
    front.assert_none_failed(&format!("Consul was away in {phase}"));
}

/// Versions that are rolled out one after the other, and in which phases of each Consul goes. Whoever is
/// healthy all the while has soaked when it comes back: a phase after that may be over in a moment.
fn rollouts() -> &'static [(&'static str, [&'static str; 2])] {
    if deep() {
        &[
            ("2.0", ["provisioning", "baking"]),
            ("5.0", ["soaking", "settling"]),
            ("1.0", ["switching", "retiring"]),
        ]
    } else {
        &[("2.0", ["soaking", "baking"])]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_by_itself_after_all_of_consul_was_away_in_its_phases() {
    let mut whole = Whole::start("outage", 1).await;
    whole.bring_up(&GOOD, COUNT, PACE).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    for (version, phases) in rollouts() {
        whole.roll_out(version).await;
        for phase in phases {
            catch(&whole, phase).await;
            all_of_consul_goes(&mut whole, &front, phase).await;
        }
        let ended = whole.until_ended().await;
        assert_eq!(ended.phase, "done", "{ended:#?}");
        whole.until_active(&whole.instances(version).await).await;
    }
    front.until_more(3_000).await;
    front.assert_none_failed("a rollout through outages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_does_not_mind_that_the_leader_dies_and_comes_back() {
    let mut whole = Whole::start("leader", 3).await;
    whole.bring_up(&GOOD[..2], COUNT, PACE).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    whole.roll_out("2.0").await;
    for phase in ["soaking", "baking"] {
        whole.until_phase(&[phase]).await;
        let leader = leader(&whole).await;
        whole.datacenter.servers[leader].kill();
        sleep(Duration::from_secs(5)).await;
        front.assert_none_failed(&format!("the leader is dead in {phase}"));
        whole.datacenter.servers[leader].start_again();
        until_it_goes_on(&whole).await;
    }
    let ended = whole.until_ended().await;
    assert_eq!(ended.phase, "done", "{ended:#?}");
    front.until_more(3_000).await;
    front.assert_none_failed("a rollout without its leaders");
}

/// Which of the servers leads.
async fn leader(whole: &Whole) -> usize {
    let servers = &whole.datacenter.servers;
    until("a leader", async || {
        for server in servers {
            let client = whole.datacenter.client(server, Some(MANAGEMENT));
            let Ok(Some(leader)) = client.leader().await else {
                continue;
            };
            let is = |server: &crate::support::process::Process| {
                leader == format!("{}:{}", server.address, server.ports.server)
            };
            if let Some(index) = servers.iter().position(is) {
                return Ok(index);
            }
        }
        Err("nobody")
    })
    .await
}
