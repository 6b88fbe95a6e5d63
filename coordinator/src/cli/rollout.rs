//! `calvin rollout`: replace a fleet's image, watch it, go back, and understand what happened.

mod back;
mod forward;
mod gate;
mod past;

use calvin_proto::wire::StatusRequest;
use clap::{Args, Subcommand, ValueEnum};

use self::back::{Retreat, back};
use super::{exit::Exit, failure::Failure, render, setting::Setting, status};

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
    /// Hold a rollout where it is; going back goes on.
    Pause(OrderArguments),
    /// Let a paused rollout go on.
    Resume(FleetArguments),
    /// Skip the rest of the soak; every new instance must be healthy all the same.
    Promote(PromoteArguments),
    /// Approve a rollout that waits for a person.
    Approve(ApproveArguments),
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
    /// Skip soak, waves, windows and freezes, never what keeps data and service safe.
    #[arg(long, requires = "reason")]
    emergency: bool,
    /// Why it cannot wait, for the history.
    #[arg(long, requires = "emergency")]
    reason: Option<String>,
    /// Do not follow it.
    #[arg(long)]
    detach: bool,
}

/// Names a fleet, and says why.
#[derive(Debug, Args)]
#[command(
    after_help = "It waits at most as long as the fleet's approval_timeout, then it goes back.\n\n\
    Example:\n  calvin rollout pause web --reason 'looking at its memory'"
)]
pub(crate) struct OrderArguments {
    /// The fleet's name.
    fleet: String,
    /// Why, for the status and the history.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Arguments of `calvin rollout promote`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  calvin rollout promote web --reason 'seen two days in staging'"
)]
pub(crate) struct PromoteArguments {
    /// The fleet's name.
    fleet: String,
    /// Why it need not soak, for the history.
    #[arg(long)]
    reason: String,
}

/// Arguments of `calvin rollout approve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  calvin rollout approve web\n  \
    calvin rollout approve web --gate retire --reason 'the numbers of today are good'")]
pub(crate) struct ApproveArguments {
    /// The fleet's name.
    fleet: String,
    /// Which gate; the one that it waits at unless given.
    #[arg(long, value_enum)]
    gate: Option<Gate>,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Where a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gate {
    /// Before traffic is switched to the new instances.
    Switch,
    /// Before the old instances leave.
    Retire,
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
        RolloutCommand::Plan(arguments) => forward::plan(arguments, setting).await,
        RolloutCommand::Start(arguments) => forward::start(arguments, setting).await,
        RolloutCommand::Watch(arguments) => forward::watch(arguments, setting).await,
        RolloutCommand::Status(arguments) => show_status(arguments, setting).await,
        RolloutCommand::Pause(arguments) => gate::pause(arguments, setting).await,
        RolloutCommand::Resume(arguments) => gate::resume(arguments, setting).await,
        RolloutCommand::Promote(arguments) => gate::promote(arguments, setting).await,
        RolloutCommand::Approve(arguments) => gate::approve(arguments, setting).await,
        RolloutCommand::Abort(arguments) => back(Retreat::Abort, arguments, setting).await,
        RolloutCommand::Rollback(arguments) => back(Retreat::Rollback, arguments, setting).await,
        RolloutCommand::History(arguments) => past::history(arguments, setting).await,
        RolloutCommand::Explain(arguments) => past::explain(arguments, setting).await,
    }
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
