//! `calvin recover`: what a coordinator on a copy of a store, or on a restored backup, has found,
//! and a person's word on it.

use calvin_proto::wire::{ApproveRecoveryRequest, ShowRecoveryRequest};
use clap::{Args, Subcommand};

use super::{
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    render,
    setting::{Confirm, Setting},
    view::RecoveryView,
};

/// What can be done while a coordinator recovers.
#[derive(Debug, Subcommand)]
pub(crate) enum RecoverCommand {
    /// How its records differ from the world, and what an approval would do.
    Show,
    /// Take over what was found; from then on it decides again.
    Approve(ApproveArguments),
}

/// Arguments of `calvin recover approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArguments {
    /// The plan's id, as `calvin recover show` shows it: the approval holds for nothing else.
    plan: String,
    /// Why it is right, for the history.
    #[arg(long)]
    reason: String,
    /// Leave alone, outside of fleets and names, what blocks the plan, and do not wait for what it
    /// waits for.
    #[arg(long)]
    leave_blocked: bool,
}

/// Carries out the command.
pub(crate) async fn run(command: RecoverCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        RecoverCommand::Show => show(setting).await,
        RecoverCommand::Approve(arguments) => approve(arguments, setting).await,
    }
}

async fn show(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let tried = "could not show what was found";
    let reply = caller
        .ask(tried, caller.client().show_recovery(ShowRecoveryRequest {}))
        .await?;
    let view = RecoveryView::from(reply);
    setting.screen.show(&view, render::recovery::recovery)?;
    Ok(match view.reason {
        Some(_) => Exit::Recovering,
        None => Exit::Done,
    })
}

async fn approve(arguments: ApproveArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let ApproveArguments {
        plan,
        reason,
        leave_blocked,
    } = arguments;
    let what = format!(
        "take over what plan {plan} found, and decide from it (no other coordinator of this environment may run)"
    );
    setting.confirm(&environment, &what, Confirm::OnTerminal)?;
    let tried = format!("[{environment}] could not approve plan {plan}");
    let request = ApproveRecoveryRequest {
        plan,
        reason,
        leave_blocked,
    };
    let reply = caller
        .ask(&tried, caller.client().approve_recovery(request))
        .await?;
    changed(setting, environment, reply, After::End)?;
    Ok(Exit::Done)
}
