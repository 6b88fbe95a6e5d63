//! What is registered in each phase, as `coordinator/docs/consul.md` says: names, tags, meta, checks.

use calvin_consul::{
    health::{ServiceHealth, ServiceStatus},
    registered,
};

use super::COUNT;
use crate::{
    stage::{
        images::{GOOD, Pace, WEB},
        whole::Whole,
    },
    support::until,
};

const STANDBY: &str = "web-standby";

/// What everybody who is registered has.
fn assert_ours(whole: &Whole, one: &ServiceHealth, version: &str) {
    let service = &one.service;
    assert!(service.enable_tag_override, "{one:#?}");
    assert_eq!(service.weights.passing, 10, "{one:#?}");
    assert!(service.tags.iter().any(|tag| tag == "http"), "{one:#?}");
    let meta = |key: &str| service.meta.get(key).map(String::as_str);
    assert_eq!(meta("kind"), Some("page"), "{one:#?}");
    assert_eq!(
        meta(registered::ENVIRONMENT),
        Some(&*whole.name),
        "{one:#?}"
    );
    assert_eq!(meta(registered::FLEET), Some(WEB), "{one:#?}");
    assert_eq!(
        meta(registered::INSTANCE),
        Some(&*one.node.name),
        "{one:#?}"
    );
    assert_eq!(
        meta(registered::IMAGE),
        Some(&*format!("{WEB}@{version}")),
        "{one:#?}"
    );
    assert!(meta(registered::BOOT).is_some(), "{one:#?}");
    // Consul checks the page itself, so that traffic does not depend on the agent.
    assert!(
        one.checks.iter().any(|check| check.kind == "http"),
        "{one:#?}"
    );
    assert_eq!(one.status(), ServiceStatus::Passing, "{one:#?}");
}

/// Waits until exactly these passing are found under a name, with these tags and no others of a role.
async fn until_found(
    whole: &Whole,
    name: &str,
    instances: &[String],
    role: &[&str],
    version: &str,
) {
    let found = until(&format!("{instances:?} as {name}"), async || {
        let found = whole.catalogue(name).await?;
        let nodes: Vec<&String> = found.iter().map(|one| &one.node.name).collect();
        let passing = |one: &ServiceHealth| one.status() == ServiceStatus::Passing;
        if nodes == instances.iter().collect::<Vec<_>>() && found.iter().all(passing) {
            Ok(found)
        } else {
            Err(format!("{found:#?}"))
        }
    })
    .await;
    for one in found {
        assert_ours(whole, &one, version);
        let all = [registered::ACTIVE, registered::STANDBY, "urlprefix-/"];
        for tag in all {
            let has = one.service.tags.iter().any(|own| own == tag);
            assert_eq!(has, role.contains(&tag), "{tag}: {one:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_phase_shows_whom_the_reference_says() {
    let active = [registered::ACTIVE, "urlprefix-/"];
    let standby = [registered::STANDBY];
    let whole = Whole::start("phases", 1).await;
    let pace = Pace {
        min_healthy: "20s",
        bake: "20s",
        ..Pace::default()
    };
    whole.bring_up(&GOOD[..2], COUNT, pace).await;
    let blue = whole.instances("1.0").await;
    until_found(&whole, WEB, &blue, &active, "1.0").await;

    whole.roll_out("2.0").await;
    whole.until_phase(&["soaking"]).await;
    let green = whole.instances("2.0").await;
    until_found(&whole, STANDBY, &green, &standby, "2.0").await;
    until_found(&whole, WEB, &blue, &active, "1.0").await;
    assert_eq!(whole.rollout().await.unwrap().phase, "soaking");

    whole.until_phase(&["baking"]).await;
    until_found(&whole, WEB, &green, &active, "2.0").await;
    until_found(&whole, STANDBY, &blue, &standby, "1.0").await;

    assert_eq!(whole.until_ended().await.phase, "done");
    until_found(&whole, WEB, &green, &active, "2.0").await;
    until_found(&whole, STANDBY, &[], &standby, "1.0").await;
    // What is gone has nothing left: no node, no token.
    let management = whole.management();
    until("no trace of blue", async || {
        let nodes = management
            .nodes(calvin_consul::Consistency::Consistent)
            .await;
        let nodes = nodes.map_err(|error| error.to_string())?.value;
        let tokens = management
            .tokens()
            .await
            .map_err(|error| error.to_string())?;
        let named = |name: &String| {
            nodes.iter().any(|node| node.name == *name)
                || tokens.iter().any(|token| {
                    let nodes = token.node_identities.iter();
                    nodes.clone().any(|identity| identity.node_name == *name)
                })
        };
        let left: Vec<&String> = blue.iter().filter(|name| named(name)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}
