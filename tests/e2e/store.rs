//! A disk that takes nothing any more: the coordinator stops deciding and says so; when it takes
//! again, everything goes on and nothing was half done.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::time::sleep;

use crate::support::{Environment, waiting::until};

/// From now on no file of the coordinator takes a byte (`most` is zero), or all do again.
fn limit_files(environment: &Environment, most: Option<u64>) {
    let pid = i32::try_from(environment.coordinator_id()).unwrap();
    let limit = Rlimit {
        current: most,
        maximum: None,
    };
    prlimit(Pid::from_raw(pid), Resource::Fsize, limit).unwrap();
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_decisions_until_it_takes_again() {
    let mut environment = Environment::prepare();
    environment
        .start_coordinator_that_survives_a_full_disk()
        .await;
    environment.bring_up_web_with_traffic().await;
    let machines = environment.processes("web", "init");

    limit_files(&environment, Some(0));
    // Taken or refused: either way nothing may come of it now.
    let started = environment.operator.start("web", "web@2.0").await;
    until("the coordinator to say that it holds", async || {
        let status = environment
            .operator
            .status()
            .await
            .map_err(|status| status.to_string())?;
        if status.held.is_empty() {
            Err("it does not".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        environment.processes("web", "init"),
        machines,
        "something was done all the same"
    );
    environment.assert_nothing_failed().await;

    limit_files(&environment, None);
    until("the coordinator to decide again", async || {
        let status = environment
            .operator
            .status()
            .await
            .map_err(|status| status.to_string())?;
        if status.held.is_empty() {
            Ok(())
        } else {
            Err(status.held)
        }
    })
    .await;
    if started.is_err() {
        environment.operator.start("web", "web@2.0").await.unwrap();
    }
    environment
        .until_fleet("web", "the rollout to be done", |fleet| {
            fleet
                .rollout
                .as_ref()
                .is_some_and(|it| it.phase == "done" && it.to == "web@2.0")
        })
        .await;
    environment.until_whole("web", 5).await;
    environment.assert_nothing_failed().await;
}
