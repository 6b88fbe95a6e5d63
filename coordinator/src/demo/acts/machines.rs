//! Act five: a machine is killed with all below it, then an agent alone.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Course, Part, Player, Requests, STEP_TIMEOUT, replace::whole_set};
use crate::demo::{
    DemoError,
    files::WEB_FLEET,
    processes::{self, Kind},
    workload::load::Counted,
    world,
};

/// For how long an agent's return is watched after it is back: its restart must not show later.
const AFTERWARDS: Duration = Duration::from_secs(1);

pub(super) async fn killed(player: &mut Player<'_>) -> Result<Course, DemoError> {
    let before = player.world.counted().await;
    let machine = machine_killed(player).await?;
    // Clients may still know the dead address for as long as names live.
    player.world.until_calm(STEP_TIMEOUT).await?;
    let between = player.world.counted().await;
    let agent = agent_killed(player).await?;
    let after = player.world.counted().await;
    let failed = |from: &Counted, to: &Counted| to.failed.saturating_sub(from.failed);
    let by_agent = failed(&between, &after);
    let as_told = machine && agent && by_agent == 0;
    Ok(Course {
        outcome: if machine && agent {
            "replaced"
        } else {
            "not_replaced"
        }
        .to_owned(),
        as_told,
        text: if as_told {
            "machine replaced; agent back".to_owned()
        } else {
            format!("machine replaced: {machine}, agent back: {agent}")
        },
        requests: Requests::SomeFailed,
        parts: vec![
            Part {
                name: "machine_killed",
                failed: failed(&before, &between),
            },
            Part {
                name: "agent_killed",
                failed: by_agent,
            },
        ],
        machines_made: 1,
    })
}

/// Whether the machine was replaced and the others left alone.
async fn machine_killed(player: &mut Player<'_>) -> Result<bool, DemoError> {
    let home = player.stage.home().to_owned();
    let before = workloads(player);
    let Some(victim) = before.keys().next().cloned() else {
        return Err(DemoError::Unexpected {
            what: "no web server runs".to_owned(),
        });
    };
    let killed = processes::kill_machine(&home, &victim);
    player.show.say(&format!(
        "kill -9 of {victim}: {killed} processes, a power cut"
    ));
    let wanted = whole_set();
    player
        .world
        .until(
            &format!("{victim} to be replaced"),
            STEP_TIMEOUT,
            |status| {
                let fleet = world::fleet(status, WEB_FLEET)?;
                let gone = fleet.instances.iter().all(|instance| instance.id != victim);
                let whole = fleet.instances.len() == wanted && fleet.serving as usize == wanted;
                (gone && whole).then_some(())
            },
        )
        .await?;
    let after = workloads(player);
    let untouched = before
        .iter()
        .filter(|(instance, _)| **instance != victim)
        .all(|(instance, workload)| after.get(instance) == Some(workload));
    Ok(untouched && after.len() == wanted)
}

/// Whether the agent came back and found its workload as it was.
async fn agent_killed(player: &mut Player<'_>) -> Result<bool, DemoError> {
    let home = player.stage.home().to_owned();
    let before = workloads(player);
    let instance = before.keys().next_back().cloned().unwrap_or_default();
    let agent =
        processes::find(&home, &instance, Kind::Agent).ok_or_else(|| DemoError::Unexpected {
            what: format!("{instance} has no agent"),
        })?;
    processes::kill_one(agent);
    player.show.say(&format!(
        "kill -9 of the agent of {instance} alone: its workload serves on"
    ));
    let start = Instant::now();
    while processes::find(&home, &instance, Kind::Agent).is_none_or(|pid| pid == agent) {
        if start.elapsed() > STEP_TIMEOUT {
            return Ok(false);
        }
        sleep(Duration::from_millis(20)).await;
    }
    let killed_at = start;
    player
        .world
        .until(
            &format!("the agent of {instance} to report again"),
            STEP_TIMEOUT,
            |status| {
                let fleet = world::fleet(status, WEB_FLEET)?;
                let found = fleet.instances.iter().find(|found| found.id == instance)?;
                let age = Duration::from_millis(found.report_age_ms);
                let healthy =
                    found.report.as_ref()?.health() == calvin_proto::wire::Health::Healthy;
                (healthy && age < killed_at.elapsed()).then_some(())
            },
        )
        .await?;
    sleep(AFTERWARDS).await;
    Ok(workloads(player) == before)
}

/// The process of each web server's workload, by instance.
fn workloads(player: &Player<'_>) -> BTreeMap<String, i32> {
    let prefix = format!("{WEB_FLEET}-");
    processes::list(player.stage.home())
        .into_iter()
        .filter(|process| process.kind == Kind::Workload)
        .filter_map(|process| Some((process.instance?, process.pid)))
        .filter(|(instance, _)| instance.starts_with(&prefix))
        .collect()
}
