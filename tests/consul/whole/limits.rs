//! A Consul that refuses more requests: what there is stays, nobody asks faster for that, and
//! everything goes on when it takes them again.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{COUNT, COUNT_SIZE, outage::until_it_goes_on};
use crate::{
    stage::{
        front::Front,
        images::{GOOD, Pace, WEB},
        whole::Whole,
    },
    support::until,
};

/// How long it refuses them: far above what the coordinator takes for a passing trouble.
const LIMITED: Duration = Duration::from_secs(45);
/// Requests a second that the coordinator may make meanwhile: it looks at its lock every second, at
/// what it wants to write and at its machines' tokens, each with two requests, and its queries of three
/// names pause longer each time.
const MOST: f64 = 10.0;

const PACE: Pace = Pace {
    min_healthy: "20s",
    deadline: "90s",
    bake: "15s",
};

/// Has the servers take one request in ten seconds, of all who ask, or as many as come. At a higher rate
/// each passes in its turn: whoever asks a Consul client has that try again for seven seconds.
fn limit(whole: &Whole, mode: &str) {
    let limits = json!({ "mode": mode, "read_rate": 0.1, "write_rate": 0.1 });
    for server in &whole.datacenter.servers {
        server.reload(|configuration| configuration["limits"]["request_limits"] = limits.clone());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_waits_while_consul_refuses_more_requests_and_goes_on_after() {
    let whole = Whole::start("limits", 1).await;
    whole.bring_up(&GOOD[..2], COUNT, PACE).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let asked = &whole.datacenter.agents[0];
    asked.say_requests();
    whole.roll_out("2.0").await;
    whole.until_phase(&["soaking"]).await;
    let workloads = whole.workloads();
    let lines = whole.calvin.operator.history(WEB).await.len();

    limit(&whole, "enforcing");
    let start = Instant::now();
    let before = asked.requests();
    until("it says that Consul refuses more", async || {
        let output = whole.try_calvin(&["status"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("refuses more requests") && said.contains("limits.request_limits") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    sleep(LIMITED.saturating_sub(start.elapsed())).await;
    let rate = f64::from(u32::try_from(asked.requests() - before).unwrap())
        / start.elapsed().as_secs_f64();
    println!("{rate:.1} requests a second while Consul refuses more");
    assert!(rate < MOST, "{rate} requests a second");
    assert_eq!(whole.workloads(), workloads);
    let rollout = whole.rollout().await.unwrap();
    assert_eq!(rollout.phase, "soaking", "{rollout:#?}");
    front.assert_none_failed("Consul refuses more requests");

    limit(&whole, "disabled");
    until_it_goes_on(&whole).await;
    let history = whole.calvin.operator.history(WEB).await;
    let deleted = history[lines..]
        .iter()
        .find(|line| ["instance_intended", "instance_retiring"].contains(&&*line.kind));
    assert!(deleted.is_none(), "{deleted:?}");
    let ended = whole.until_ended().await;
    assert_eq!(ended.phase, "done", "{ended:#?}");
    whole.until_active(&whole.instances("2.0").await).await;
    front.until_more(2_000).await;
    front.assert_none_failed("Consul refused more requests");
}
