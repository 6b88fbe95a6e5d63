//! Rollouts of every kind, under traffic.

use tokio::join;

use crate::support::{
    Environment,
    files::{Fleet, Traffic},
    operator::{fleet_request, rollout_request},
    waiting::until,
};

#[tokio::test]
async fn a_good_version_replaces_the_old_one_without_a_failed_request() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let blue = environment.processes("web", "init");
    environment.operator.start("web", "web@2.0").await.unwrap();
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    let green = environment.until_whole("web", 5).await;
    assert!(
        green
            .iter()
            .all(|one| one.image == "web@2.0" && !blue.contains_key(&one.id))
    );
    let counted = environment.until_requests(50).await;
    assert!(
        counted
            .by_version
            .get("2.0")
            .is_some_and(|answers| *answers > 0),
        "{counted:?}"
    );
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_version_that_never_becomes_healthy_is_given_up_without_a_failed_request() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let blue = environment.processes("web", "workload");
    environment.operator.start("web", "web@3.0").await.unwrap();
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "rolled_back", "{ended:?}");
    assert!(
        !ended.reason.is_empty(),
        "a rollback without a reason: {ended:?}"
    );
    environment.until_whole("web", 5).await;
    assert_eq!(environment.processes("web", "workload"), blue);
    let counted = environment.counted().await;
    assert_eq!(counted.by_version.keys().collect::<Vec<_>>(), ["1.0"]);
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_version_that_breaks_under_traffic_is_switched_back() {
    let environment = Environment::start().await;
    // It breaks 2.8 s after its first page. A busy machine needs some more until that is reported.
    let fleet = Fleet {
        bake: "8s",
        ..Fleet::new("web", "web@1.0", 5)
    };
    environment
        .bring_up_with_traffic(&fleet, Traffic::Busy)
        .await;
    let blue = environment.processes("web", "workload");
    environment.operator.start("web", "web@4.0").await.unwrap();
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "rolled_back", "{ended:?}");
    environment.until_whole("web", 5).await;
    assert_eq!(environment.processes("web", "workload"), blue);
    // Once clients have forgotten the bad version, nothing fails any more.
    until("requests to stop failing", async || {
        let before = environment.counted().await;
        let after = environment.until_requests(400).await;
        if before.failed == after.failed {
            Ok(())
        } else {
            Err(after)
        }
    })
    .await;
    let after = environment.counted().await;
    assert!(after.failed > 0, "the version did not break: {after:?}");
}

#[tokio::test]
async fn waves_replace_a_part_at_a_time_and_never_more() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    let fleet = Fleet {
        surge: "2".to_owned(),
        bake: "500ms",
        ..Fleet::new("web", "web@1.0", 5)
    };
    environment.bring_up(&fleet).await;
    environment.bring_up_client().await;
    let started = environment.operator.start("web", "web@2.0").await.unwrap();
    let most = until("the rollout to end", {
        let mut most = 0;
        let environment = &environment;
        let id = &started.rollout;
        async move || {
            most = most.max(environment.processes("web", "init").len());
            let fleet = environment
                .fleet("web")
                .await
                .map_err(|status| status.to_string())?;
            let rollout = fleet.rollout.ok_or("no rollout")?;
            if rollout.ended && rollout.id == *id {
                Ok(most)
            } else {
                Err(rollout.phase)
            }
        }
    })
    .await;
    assert!(most <= 7, "{most} machines at once for 5 and a surge of 2");
    let instances = environment.until_whole("web", 5).await;
    assert!(
        instances.iter().all(|one| one.image == "web@2.0"),
        "{instances:?}"
    );
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_first_rollout_that_cannot_become_healthy_fails_and_says_why() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("3.0", "--never-healthy")])
        .await;
    let fleet = Fleet {
        healthy_deadline: "3s",
        ..Fleet::new("web", "web@3.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "failed", "{ended:?}");
    assert!(!ended.reason.is_empty(), "{ended:?}");
}

#[tokio::test]
async fn an_operator_gives_a_rollout_up_before_its_switch() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    let blue = environment.processes("web", "workload");
    environment.operator.start("web", "web@3.0").await.unwrap();
    environment.until_phase("web", "provisioning").await;
    environment
        .operator
        .client
        .clone()
        .abort_rollout(rollout_request("web"))
        .await
        .unwrap();
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "rolled_back", "{ended:?}");
    environment.until_whole("web", 5).await;
    assert_eq!(environment.processes("web", "workload"), blue);
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn an_operator_goes_back_while_the_new_version_bakes() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    let fleet = Fleet {
        bake: "60s",
        ..Fleet::new("web", "web@1.0", 3)
    };
    environment.bring_up(&fleet).await;
    environment.bring_up_client().await;
    let blue = environment.processes("web", "workload");
    environment.operator.start("web", "web@2.0").await.unwrap();
    environment.until_phase("web", "baking").await;
    environment
        .operator
        .client
        .clone()
        .rollback_rollout(rollout_request("web"))
        .await
        .unwrap();
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "rolled_back", "{ended:?}");
    environment.until_whole("web", 3).await;
    assert_eq!(environment.processes("web", "workload"), blue);
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn undo_brings_the_version_back_that_served_before() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 2)).await;
    environment.bring_up_client().await;
    environment.operator.start("web", "web@2.0").await.unwrap();
    assert_eq!(environment.until_ended("web").await.phase, "done");
    let undo = environment
        .operator
        .client
        .clone()
        .undo_rollout(rollout_request("web"))
        .await;
    let id = undo.unwrap().into_inner().rollout;
    let ended = environment.until_rollout_ended("web", &id).await;
    assert_eq!(
        (ended.phase.as_str(), ended.to.as_str()),
        ("done", "web@1.0"),
        "{ended:?}"
    );
    let instances = environment.until_whole("web", 2).await;
    assert!(
        instances.iter().all(|one| one.image == "web@1.0"),
        "{instances:?}"
    );
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_fleet_grows_and_shrinks_without_a_failed_request_and_keeps_whom_it_can() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 2)).await;
    environment.bring_up_client().await;
    let first = environment.processes("web", "workload");
    environment.operator.scale("web", 4).await.unwrap();
    environment.until_whole("web", 4).await;
    let grown = environment.processes("web", "workload");
    assert!(
        first.iter().all(|(id, pid)| grown.get(id) == Some(pid)),
        "{first:?} {grown:?}"
    );
    environment.operator.scale("web", 1).await.unwrap();
    environment.until_whole("web", 1).await;
    let shrunk = environment.processes("web", "workload");
    assert!(
        shrunk.iter().all(|(id, pid)| grown.get(id) == Some(pid)),
        "{grown:?} {shrunk:?}"
    );
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn a_deleted_fleet_leaves_no_machine_and_no_name() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 2)).await;
    environment
        .operator
        .client
        .clone()
        .delete_fleet(fleet_request("web"))
        .await
        .unwrap();
    until("the fleet to be gone", async || {
        let left = environment.processes("web", "init");
        match environment.fleet("web").await {
            Err(_) if left.is_empty() => Ok(()),
            Err(_) => Err(format!("machines {left:?}")),
            Ok(fleet) => Err(format!("{:?}", fleet.instances)),
        }
    })
    .await;
}

#[tokio::test]
async fn one_instance_is_replaced_on_request_the_new_one_first() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    environment.bring_up(&Fleet::new("web", "web@1.0", 2)).await;
    environment.bring_up_client().await;
    let before = environment.processes("web", "workload");
    let (victim, other) = {
        let mut ids = before.keys();
        (ids.next().unwrap().clone(), ids.next().unwrap().clone())
    };
    let request = calvin_proto::wire::InstanceRequest {
        instance: victim.clone(),
        reason: "a test wants it".to_owned(),
    };
    environment
        .operator
        .client
        .clone()
        .replace_instance(request)
        .await
        .unwrap();
    environment
        .until_fleet("web", "the instance to be replaced", |fleet| {
            fleet.instances.len() == 2
                && fleet.serving == 2
                && fleet.instances.iter().all(|one| one.id != victim)
        })
        .await;
    let after = environment.processes("web", "workload");
    assert_eq!(after.get(&other), before.get(&other));
    environment.assert_nothing_failed().await;
}

#[tokio::test]
async fn two_fleets_are_replaced_at_once() {
    let environment = Environment::start().await;
    environment.bring_up_web_with_traffic().await;
    environment.bring_up(&Fleet::new("api", "web@1.0", 2)).await;
    let (web, api) = join!(
        environment.operator.start("web", "web@2.0"),
        environment.operator.start("api", "web@2.0")
    );
    let (web, api) = (web.unwrap().rollout, api.unwrap().rollout);
    let (web, api) = join!(
        environment.until_rollout_ended("web", &web),
        environment.until_rollout_ended("api", &api)
    );
    assert_eq!(
        (web.phase.as_str(), api.phase.as_str()),
        ("done", "done"),
        "{web:?} {api:?}"
    );
    environment.until_whole("web", 5).await;
    environment.until_whole("api", 2).await;
    environment.assert_nothing_failed().await;
}
