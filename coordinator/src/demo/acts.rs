//! The five acts, and what each must end like.
//!
//! An act takes its figures from the load generator's counters before and after, and its outcome
//! from the coordinator's status. It has ended when its surplus machines are gone.

mod crash;
mod machines;
mod replace;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{
    DemoError,
    files::{self, CLIENT_FLEET, WEB_COUNT, WEB_FLEET},
    processes,
    show::{ActState, Show, Verdict},
    stage::Stage,
    summary::{ActResult, Part},
    workload::load::Counted,
    world::{self, World},
};

/// What an act is called and about.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActTitle {
    /// For programs.
    pub(super) name: &'static str,
    /// What happens.
    pub(super) what: &'static str,
    /// How it is to end.
    pub(super) told: &'static str,
    /// Why requests may fail in it; empty where none may.
    pub(super) failures: &'static str,
}

/// The five acts.
pub(super) const ACTS: [ActTitle; 5] = [
    ActTitle {
        name: "replace",
        what: "web 1.0 → 2.0: a good version",
        told: "replaced blue-green, 0 failed requests",
        failures: "",
    },
    ActTitle {
        name: "never_healthy",
        what: "→ 3.0: never becomes healthy",
        told: "given up and rolled back, 0 failed requests",
        failures: "",
    },
    ActTitle {
        name: "bad_under_traffic",
        what: "→ 4.0: breaks under traffic",
        told: "found while baking and switched back",
        failures: "4.0 answered 500 until its check saw it",
    },
    ActTitle {
        name: "coordinator_killed",
        what: "→ 5.0: coordinator killed mid-switch",
        told: "started again, it finishes; 0 failed requests",
        failures: "",
    },
    ActTitle {
        name: "machine_and_agent_killed",
        what: "kill -9 a machine, then an agent",
        told: "machine replaced, agent back; its workload never stopped",
        failures: "asked of the machine that was killed",
    },
];

/// Longest time for one step of an act. The fleets' own deadlines are far below: what takes longer
/// is a fault.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for what is left of an act to go: machines that were given up.
const TIDY_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests before the first act, so that it begins under load.
const REQUESTS_BEFORE: u64 = 200;

/// What was played.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) acts: Vec<ActResult>,
    /// Machines that no fleet knows, and processes that would not go.
    pub(super) leaked: usize,
    /// Instances that were made twice.
    pub(super) doubled: usize,
    /// Why it stopped before its end.
    pub(super) trouble: Option<DemoError>,
}

/// How an act went, before its figures are added.
#[derive(Debug)]
struct Course {
    outcome: String,
    /// Everything that the coordinator says is as told; requests are judged apart.
    as_told: bool,
    /// In a few words, for the screen.
    text: String,
    requests: Requests,
    parts: Vec<Part>,
    /// Machines that it had to make; more is too many.
    machines_made: usize,
}

/// What an act says about failed requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requests {
    /// None may fail.
    NoneFailed,
    /// Some fail, and are shown.
    SomeFailed,
}

/// What an act works with.
#[derive(Debug)]
struct Player<'a> {
    stage: &'a mut Stage,
    show: &'a Show,
    world: &'a World,
}

/// Plays everything from the first image to the last act.
pub(super) async fn play(stage: &mut Stage, show: &Show) -> Played {
    let mut played = Played::default();
    if let Err(trouble) = play_into(&mut played, stage, show).await {
        played.trouble = Some(trouble);
    }
    played
}

async fn play_into(played: &mut Played, stage: &mut Stage, show: &Show) -> Result<(), DemoError> {
    show.say("a coordinator starts: it makes its certificate authority and its store");
    let operator = stage.operator.clone();
    stage.coordinator.start(&operator).await?;
    let world = World::follow(&operator, show);
    open(stage, show, &world).await?;
    for index in 0..ACTS.len() {
        let before = world.counted().await;
        let known = world.seen();
        let since = Instant::now();
        show.act(
            index,
            ActState::Playing {
                since,
                requests: before.requests,
                failed: before.failed,
            },
        );
        let mut player = Player {
            stage,
            show,
            world: &world,
        };
        let course = match index {
            0 => replace::good(&mut player).await,
            1 => replace::never_healthy(&mut player).await,
            2 => replace::bad_under_traffic(&mut player).await,
            3 => crash::coordinator_killed(&mut player).await,
            _ => machines::killed(&mut player).await,
        }?;
        played.leaked += tidy(stage, &world).await;
        let made = world.seen().difference(&known).count();
        played.doubled += made.saturating_sub(course.machines_made) + twice(stage);
        let (result, verdict) = judge(index, course, &before, &world.counted().await, since);
        show.act(index, ActState::Ended(verdict));
        played.acts.push(result);
    }
    Ok(())
}

/// Everything before the first act: images, fleets, traffic.
async fn open(stage: &Stage, show: &Show, world: &World) -> Result<(), DemoError> {
    show.say("images are recorded by the digest of their content");
    for image in stage.images() {
        stage.operator.add_image(image).await?;
    }
    show.say("a fleet of five web servers: each machine enrols, gets its certificate, reports");
    stage
        .operator
        .apply("web.toml", &files::web_fleet())
        .await?;
    first_rollout(world, WEB_FLEET).await?;
    show.say("a client joins: it finds the web servers by DNS through its own agent");
    stage
        .operator
        .apply("client.toml", &files::client_fleet())
        .await?;
    first_rollout(world, CLIENT_FLEET).await?;
    let enough = |counted: &Counted| counted.requests >= REQUESTS_BEFORE;
    let counted = world.until_counted("traffic", STEP_TIMEOUT, enough).await?;
    if counted.failed > 0 {
        return Err(DemoError::Unexpected {
            what: format!(
                "{} of the first {} requests failed, before anything was done: {}",
                counted.failed,
                counted.requests,
                counted.newest_failures.join("; ")
            ),
        });
    }
    Ok(())
}

async fn first_rollout(world: &World, fleet: &str) -> Result<(), DemoError> {
    let what = format!("the first rollout of {fleet} to be done");
    let phase = world
        .until(&what, STEP_TIMEOUT, |status| {
            let rollout = world::fleet(status, fleet)?.rollout.as_ref()?;
            rollout.ended.then(|| rollout.phase.clone())
        })
        .await?;
    if phase == "done" {
        return Ok(());
    }
    Err(DemoError::Unexpected {
        what: format!("the first rollout of {fleet} ended as {phase}"),
    })
}

/// Waits until there are only the machines that the fleets are to have; how many there are beyond
/// them when the time is up.
async fn tidy(stage: &Stage, world: &World) -> usize {
    let start = Instant::now();
    let wanted = usize::try_from(WEB_COUNT)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    loop {
        let machines: BTreeSet<String> = processes::machines(stage.home()).into_keys().collect();
        let known = world.instances();
        if machines.len() == wanted && machines == known {
            return 0;
        }
        if start.elapsed() > TIDY_TIMEOUT {
            let unknown = machines.difference(&known).count();
            return unknown.max(machines.len().saturating_sub(wanted));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Instances with two first processes.
fn twice(stage: &Stage) -> usize {
    let machines = processes::machines(stage.home());
    machines.values().filter(|count| **count > 1).count()
}

/// Adds the figures to how an act went.
fn judge(
    index: usize,
    course: Course,
    before: &Counted,
    after: &Counted,
    since: Instant,
) -> (ActResult, Verdict) {
    let requests = after.requests.saturating_sub(before.requests);
    let failed = after.failed.saturating_sub(before.failed);
    let lookups_failed = after.lookups_failed.saturating_sub(before.lookups_failed);
    let requests_as_told = match course.requests {
        Requests::NoneFailed => failed == 0 && lookups_failed == 0,
        Requests::SomeFailed => true,
    };
    let as_told = course.as_told && requests_as_told && requests > 0;
    let seconds = since.elapsed().as_secs_f64();
    let result = ActResult {
        name: ACTS[index].name,
        outcome: course.outcome,
        requests,
        failed,
        seconds: (seconds * 10.0).round() / 10.0,
        lookups_failed,
        failing_ms: after.failing_ms.saturating_sub(before.failing_ms),
        parts: course.parts,
        as_told,
    };
    let verdict = Verdict {
        as_told,
        text: course.text,
        requests,
        failed,
        seconds,
    };
    (result, verdict)
}
