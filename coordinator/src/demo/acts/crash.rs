//! Act four: the coordinator is killed in the middle of the switch, and started again.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    Course, Player, Requests, STEP_TIMEOUT,
    replace::{follow, whole_set},
};
use crate::demo::{DemoError, files::WEB_FLEET};

/// For how long there is no coordinator: long enough to see that traffic does not mind.
const AWAY: Duration = Duration::from_secs(1);

/// Pause between two looks at the rollout.
const LOOK: Duration = Duration::from_millis(5);

pub(super) async fn coordinator_killed(player: &mut Player<'_>) -> Result<Course, DemoError> {
    player
        .show
        .say("once more a good version, but the coordinator will not live to see it");
    let operator = player.stage.operator.clone();
    let started = operator.start_rollout(WEB_FLEET, "web@5.0").await?;
    let killed_in = timeout(STEP_TIMEOUT, kill_in_switch(player, &started.rollout))
        .await
        .map_err(|_| DemoError::TookTooLong {
            what: format!("rollout {} to switch", started.rollout),
            waited: STEP_TIMEOUT,
            seen: "no switch".to_owned(),
        })??;
    player.show.coordinator_away();
    player.show.say(&format!(
        "kill -9 while {killed_in}: nobody decides, everybody serves"
    ));
    sleep(AWAY).await;
    player.stage.coordinator.start(&operator).await?;
    player
        .show
        .say("started again: it reads its store, finds its machines, and goes on");
    let ended = follow(player, &started.rollout).await?;
    let as_told = ended.phase == "done" && killed_in == "switching";
    Ok(Course {
        as_told,
        text: if as_told {
            "→ 5.0 finished after kill -9".to_owned()
        } else {
            format!("→ 5.0 killed in {killed_in}: {}", ended.phase)
        },
        outcome: ended.phase,
        requests: Requests::NoneFailed,
        parts: Vec::new(),
        machines_made: whole_set(),
    })
}

/// Kills the coordinator as soon as it says that it switches; the phase that it was in. It is
/// asked again and again, because a switch is over in tenths of a second and a watch may skip it.
async fn kill_in_switch(player: &mut Player<'_>, id: &str) -> Result<String, DemoError> {
    let operator = player.stage.operator.clone();
    loop {
        match operator.phase(WEB_FLEET, id).await?.as_deref() {
            None | Some("provisioning" | "soaking") => sleep(LOOK).await,
            Some(phase) => {
                player.stage.coordinator.kill().await?;
                return Ok(phase.to_owned());
            }
        }
    }
}
