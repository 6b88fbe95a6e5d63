//! What dead machines leave in the catalogue goes; what others left there stays.

use std::time::Duration;

use calvin_consul::{agent::ServiceRegistration, health::CheckStatus, registered};
use tokio::time::{Instant, sleep};

use super::{COUNT, COUNT_SIZE};
use crate::{
    registration::{service, ttl},
    stage::{
        front::Front,
        images::{GOOD, Pace, WEB},
        whole::Whole,
    },
    support::{datacenter::MANAGEMENT, until},
};

/// Longest time that a dead machine stays in the catalogue after its loss is proven.
const GHOST_MAX: Duration = Duration::from_secs(10);

/// A node that looks like one of ours to whoever does not look closely.
const STRANGER: &str = "web-2222222a";

/// A service of the same name that another environment left behind.
fn stranger() -> ServiceRegistration {
    let mut one = service(WEB, vec![ttl("stranger", CheckStatus::Critical)]);
    one.id = format!("{WEB}:{STRANGER}");
    for (key, value) in [
        (registered::ENVIRONMENT, "elsewhere"),
        (registered::FLEET, WEB),
        (registered::INSTANCE, STRANGER),
        (registered::BOOT, "0a"),
    ] {
        one.meta.insert(key.to_owned(), value.to_owned());
    }
    one
}

/// The nodes under the service's own name.
async fn nodes(whole: &Whole) -> Vec<String> {
    let found = whole.catalogue(WEB).await.unwrap_or_default();
    found.into_iter().map(|one| one.node.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_dies_without_a_word_leaves_the_catalogue_and_no_other_does() {
    let mut whole = Whole::start("ghosts", 1).await;
    whole.bring_up(&GOOD[..1], COUNT, Pace::default()).await;
    let front = Front::start(&whole, COUNT_SIZE).await;

    // A foreign one whose node lives, and one whose node is dead.
    whole.datacenter.add_agent(STRANGER).await;
    let edge = &whole.datacenter.agents[whole.edge.index];
    let dead = whole.datacenter.agents.len() - 1;
    for process in [edge, &whole.datacenter.agents[dead]] {
        let client = whole.datacenter.client(process, Some(MANAGEMENT));
        client.register(&stranger()).await.unwrap();
    }
    until("both strangers", async || match nodes(&whole).await {
        found if found.len() == COUNT_SIZE + 2 => Ok(()),
        found => Err(found),
    })
    .await;
    whole.datacenter.agents[dead].kill();

    let victim = whole.instances("1.0").await.remove(0);
    whole.cut_power(&victim);
    // Its loss is proven when the coordinator has no such instance any more, or one that it deletes.
    whole
        .calvin
        .until_fleet(WEB, "the loss to be proven", |fleet| {
            let found = fleet.instances.iter().find(|one| one.id == victim);
            found.is_none_or(|one| one.class == "lost" || one.role == "retired")
        })
        .await;
    let proven = Instant::now();
    until("the ghost to go", async || match nodes(&whole).await {
        found if found.contains(&victim) => Err(found),
        _ => Ok(()),
    })
    .await;
    assert!(proven.elapsed() < GHOST_MAX, "{:?}", proven.elapsed());

    // It is replaced, and its node goes too.
    whole.calvin.until_whole(WEB, COUNT).await;
    whole.until_active(&whole.instances("1.0").await).await;
    let management = whole.management();
    until("its node to go", async || {
        let nodes = management
            .nodes(calvin_consul::Consistency::Consistent)
            .await;
        let nodes = nodes.map_err(|error| error.to_string())?.value;
        let left = nodes.iter().any(|node| node.name == victim);
        if left {
            Err(format!("{nodes:?}"))
        } else {
            Ok(())
        }
    })
    .await;

    // Twice as long as ghosts of ours would have had: the strangers are as they were.
    sleep(GHOST_MAX * 2).await;
    let found = nodes(&whole).await;
    assert!(found.contains(&"edge".to_owned()), "{found:?}");
    assert!(found.contains(&STRANGER.to_owned()), "{found:?}");
    // Nobody was sent to a stranger, and only what was under way at the cut was lost.
    for load in front.all() {
        let seen = load.seen();
        assert!(seen.failed <= 8, "{seen:#?}");
    }
}
