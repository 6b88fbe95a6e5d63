//! Acts one to three: a good version, one that never becomes healthy, one that breaks under
//! traffic.

use super::{Course, Player, Requests, STEP_TIMEOUT, WEB_COUNT};
use crate::demo::{DemoError, files::WEB_FLEET, world};

/// How a rollout ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) phase: String,
    pub(super) reason: String,
    /// Every phase that was seen, in order.
    pub(super) phases: Vec<String>,
}

pub(super) async fn good(player: &mut Player<'_>) -> Result<Course, DemoError> {
    player
        .show
        .say("five new machines beside the old ones; traffic moves when all are proven");
    let ended = roll_out(player, "web@2.0").await?;
    Ok(Course {
        as_told: ended.phase == "done",
        text: match ended.phase.as_str() {
            "done" => "1.0 → 2.0 replaced blue-green".to_owned(),
            other => format!("1.0 → 2.0 ended as {other}"),
        },
        outcome: ended.phase,
        requests: Requests::NoneFailed,
        parts: Vec::new(),
        machines_made: whole_set(),
    })
}

pub(super) async fn never_healthy(player: &mut Player<'_>) -> Result<Course, DemoError> {
    player
        .show
        .say("3.0 answers its health check with 503: it must never see a request");
    let ended = roll_out(player, "web@3.0").await?;
    Ok(Course {
        as_told: ended.phase == "rolled_back",
        text: match ended.phase.as_str() {
            "rolled_back" => "→ 3.0 never healthy: given up".to_owned(),
            other => format!("→ 3.0 ended as {other}"),
        },
        outcome: ended.phase,
        requests: Requests::NoneFailed,
        parts: Vec::new(),
        machines_made: whole_set(),
    })
}

pub(super) async fn bad_under_traffic(player: &mut Player<'_>) -> Result<Course, DemoError> {
    player
        .show
        .say("4.0 is healthy until it serves; 2.0 stands by, warm");
    let ended = roll_out(player, "web@4.0").await?;
    let switched = ended.phases.iter().any(|phase| phase == "baking");
    let as_told = ended.phase == "rolled_back" && switched;
    player.show.say(&format!("switched back: {}", ended.reason));
    // The next act begins when clients have forgotten the bad version: its names live for 1 s.
    let calm = player.world.until_calm(STEP_TIMEOUT).await;
    Ok(Course {
        as_told: as_told && calm.is_ok(),
        text: if as_told {
            "→ 4.0 broke: switched back".to_owned()
        } else {
            format!("→ 4.0 ended as {}", ended.phase)
        },
        outcome: ended.phase,
        requests: Requests::SomeFailed,
        parts: Vec::new(),
        machines_made: whole_set(),
    })
}

/// Machines of a whole green set.
pub(super) fn whole_set() -> usize {
    usize::try_from(WEB_COUNT).unwrap_or(usize::MAX)
}

/// Rolls the web servers out to an image, to whatever end.
async fn roll_out(player: &mut Player<'_>, image: &str) -> Result<Ended, DemoError> {
    let started = player
        .stage
        .operator
        .start_rollout(WEB_FLEET, image)
        .await?;
    follow(player, &started.rollout).await
}

/// Follows a rollout to its end.
pub(super) async fn follow(player: &Player<'_>, id: &str) -> Result<Ended, DemoError> {
    let mut phases: Vec<String> = Vec::new();
    let (phase, reason) = player
        .world
        .until(&format!("rollout {id} to end"), STEP_TIMEOUT, |status| {
            let rollout = world::web_rollout(status)?;
            if rollout.id != id {
                return None;
            }
            if phases.last() != Some(&rollout.phase) {
                phases.push(rollout.phase.clone());
            }
            rollout
                .ended
                .then(|| (rollout.phase.clone(), rollout.reason.clone()))
        })
        .await?;
    Ok(Ended {
        phase,
        reason,
        phases,
    })
}
