//! `calvin rollout`: replace a fleet's image, watch it, go back, and understand what happened.

use calvin_proto::wire::{
    HistoryRequest, PlanRolloutRequest, RolloutRequest, StartRolloutRequest, StatusRequest,
};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    caller::{Caller, refusal},
    exit::Exit,
    failure::Failure,
    fleet::changed,
    follow::{Aim, Course, follow},
    render,
    setting::{Confirm, Setting},
    status,
    view::{FleetView, HistoryLineView, PlanView},
};

/// Lines of the history that `explain` tells: enough for one rollout of a small fleet, few enough
/// for a screen.
const EXPLAINED_LINES: u32 = 12;

/// What can be done with rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show what a rollout would do, and change nothing.
    Plan(PlanArguments),
    /// Start a rollout and follow it to its end.
    Start(StartArguments),
    /// Follow a fleet's rollout to its end.
    Watch(FleetArguments),
    /// Where rollouts are now.
    Status(MaybeFleetArguments),
    /// Give up a rollout before its switch.
    Abort(BackArguments),
    /// Go back to the image that served before.
    Rollback(BackArguments),
    /// What was decided, by whom, on which facts.
    History(HistoryArguments),
    /// Tell what a rollout is doing, what it waits for, and which rule holds it.
    Explain(FleetArguments),
}

/// Names a fleet.
#[derive(Debug, Args)]
pub(crate) struct FleetArguments {
    /// The fleet's name.
    fleet: String,
}

/// Names a fleet, or none for all.
#[derive(Debug, Args)]
pub(crate) struct MaybeFleetArguments {
    /// One fleet only.
    fleet: Option<String>,
}

/// Arguments of `calvin rollout plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The fleet's name.
    fleet: String,
    /// To which image, `name@version`; the one that the fleet's file names unless given.
    image: Option<String>,
}

/// Arguments of `calvin rollout start`.
#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// The fleet's name.
    fleet: String,
    /// To which image, `name@version`; the one that the fleet's file names unless given.
    image: Option<String>,
    /// Start exactly the plan of this id, or say what changed since.
    #[arg(long, value_name = "ID")]
    plan: Option<String>,
    /// Do not follow it.
    #[arg(long)]
    detach: bool,
}

/// Arguments of the commands that go back.
#[derive(Debug, Args)]
pub(crate) struct BackArguments {
    /// The fleet's name.
    pub(crate) fleet: String,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Do not follow it.
    #[arg(long)]
    pub(crate) detach: bool,
}

/// Arguments of `calvin rollout history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    /// One fleet only.
    fleet: Option<String>,
    /// One rollout only.
    #[arg(long, value_name = "ID")]
    rollout: Option<String>,
    /// The newest lines only.
    #[arg(long, default_value_t = 1000, value_name = "LINES")]
    limit: u32,
}

/// Carries out the command.
pub(crate) async fn run(command: RolloutCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        RolloutCommand::Plan(arguments) => plan(arguments, setting).await,
        RolloutCommand::Start(arguments) => start(arguments, setting).await,
        RolloutCommand::Watch(arguments) => watch(arguments, setting).await,
        RolloutCommand::Status(arguments) => show_status(arguments, setting).await,
        RolloutCommand::Abort(arguments) => back(Retreat::Abort, arguments, setting).await,
        RolloutCommand::Rollback(arguments) => back(Retreat::Rollback, arguments, setting).await,
        RolloutCommand::History(arguments) => history(arguments, setting).await,
        RolloutCommand::Explain(arguments) => explain(arguments, setting).await,
    }
}

async fn plan(arguments: PlanArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let PlanArguments { fleet, image } = arguments;
    let tried = format!("[{environment}] could not plan a rollout of fleet {fleet}");
    let request = PlanRolloutRequest {
        fleet: fleet.clone(),
        image: image.unwrap_or_default(),
    };
    let reply = caller
        .ask(&tried, caller.client().plan_rollout(request))
        .await?;
    let mut plan = PlanView::new(environment, fleet, reply);
    if plan.nothing.is_none() {
        let command = format!(
            "calvin rollout start {} {} --plan {}",
            plan.fleet, plan.to, plan.plan
        );
        plan.next = Some(setting.command(&command));
    }
    setting.screen.show(&plan, render::plan::plan)?;
    Ok(Exit::Done)
}

async fn start(arguments: StartArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect_to_watch().await?;
    let environment = caller.about().await?.environment;
    let StartArguments {
        fleet,
        image,
        plan,
        detach,
    } = arguments;
    let tried = format!("[{environment}] could not start a rollout of fleet {fleet}");
    let request = StartRolloutRequest {
        fleet: fleet.clone(),
        image: image.unwrap_or_default(),
        plan: plan.unwrap_or_default(),
    };
    let reply = caller
        .ask(&tried, caller.client().start_rollout(request))
        .await?;
    let change = changed(setting, environment.clone(), reply)?;
    let Some(rollout) = change.rollout.filter(|_| !detach) else {
        return Ok(Exit::Done);
    };
    let course = Course {
        environment,
        fleet,
        rollout: Some(rollout),
        aim: Aim::Forward,
    };
    follow(setting, &caller, course).await
}

async fn watch(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect_to_watch().await?;
    let environment = caller.about().await?.environment;
    let fleet = arguments.fleet;
    follow(
        setting,
        &caller,
        Course {
            environment,
            fleet,
            rollout: None,
            aim: Aim::Forward,
        },
    )
    .await
}

async fn show_status(arguments: MaybeFleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let fleet = arguments.fleet.unwrap_or_default();
    let one = !fleet.is_empty();
    let status = status::ask(&caller, StatusRequest { fleet }).await?;
    setting
        .screen
        .show(&status.fleets, |fleets, canvas| match fleets.first() {
            Some(fleet) if one => render::explain::short(fleet, canvas),
            Some(_) | None => render::fleet::rollouts(fleets, canvas),
        })?;
    Ok(Exit::Done)
}

/// The two ways back that a person can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retreat {
    /// Before the switch.
    Abort,
    /// After it.
    Rollback,
}

async fn back(
    retreat: Retreat,
    arguments: BackArguments,
    setting: &Setting,
) -> Result<Exit, Failure> {
    let caller = setting.connect_to_watch().await?;
    let BackArguments {
        fleet,
        reason,
        detach,
    } = arguments;
    let status = status::ask(
        &caller,
        StatusRequest {
            fleet: fleet.clone(),
        },
    )
    .await?;
    let environment = status.environment;
    let rollout = status
        .fleets
        .into_iter()
        .next()
        .and_then(|fleet| fleet.rollout)
        .map_or_else(|| format!("the rollout of {fleet}"), |rollout| rollout.id);
    let what = match retreat {
        Retreat::Abort => format!("give up {rollout} and delete its new instances"),
        Retreat::Rollback => format!("roll {rollout} back and delete its new instances"),
    };
    setting.confirm(&environment, &what, Confirm::OnTerminal)?;
    let tried = format!("[{environment}] could not {what}");
    let request = RolloutRequest {
        fleet: fleet.clone(),
        reason,
    };
    let mut client = caller.client();
    let reply = match retreat {
        Retreat::Abort => caller.ask(&tried, client.abort_rollout(request)).await?,
        Retreat::Rollback => caller.ask(&tried, client.rollback_rollout(request)).await?,
    };
    let change = changed(setting, environment.clone(), reply)?;
    if detach {
        return Ok(Exit::Done);
    }
    // A rollout that is through already goes back by a new one, which the reply then names.
    let (rollout, aim) = match change.rollout {
        Some(rollout) => (Some(rollout), Aim::Back),
        None => (None, Aim::Back),
    };
    follow(
        setting,
        &caller,
        Course {
            environment,
            fleet,
            rollout,
            aim,
        },
    )
    .await
}

async fn history(arguments: HistoryArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let request = HistoryRequest {
        fleet: arguments.fleet.unwrap_or_default(),
        rollout: arguments.rollout.unwrap_or_default(),
        limit: arguments.limit,
    };
    let lines = read_history(&caller, request).await?;
    setting.screen.show(&lines, |lines, canvas| {
        render::history::lines(lines, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}

async fn read_history(
    caller: &Caller,
    request: HistoryRequest,
) -> Result<Vec<HistoryLineView>, Failure> {
    let tried = "could not read the history";
    let mut stream = caller.ask(tried, caller.client().history(request)).await?;
    let mut lines = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(line)) => lines.push(HistoryLineView::from(line)),
            Ok(None) => return Ok(lines),
            Err(status) => return Err(refusal(tried, &status)),
        }
    }
}

/// What `explain` tells, as JSON.
#[derive(Debug, Serialize)]
struct ExplainView {
    environment: String,
    fleet: FleetView,
    history: Vec<HistoryLineView>,
}

async fn explain(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let name = arguments.fleet;
    let status = status::ask(
        &caller,
        StatusRequest {
            fleet: name.clone(),
        },
    )
    .await?;
    let Some(mut fleet) = status.fleets.into_iter().next() else {
        return Err(Failure::new(
            Exit::Refused,
            format!("could not explain the rollout of {name}"),
        )
        .reason("there is no such fleet")
        .next(setting.command("calvin fleet list")));
    };
    let mut history = Vec::new();
    if let Some(rollout) = &mut fleet.rollout {
        let request = HistoryRequest {
            fleet: name,
            rollout: rollout.id.clone(),
            limit: EXPLAINED_LINES,
        };
        history = read_history(&caller, request).await?;
    }
    let view = ExplainView {
        environment: status.environment,
        fleet,
        history,
    };
    setting.screen.show(&view, |view, canvas| {
        render::explain::explain(&view.fleet, &view.history, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}
