//! `calvin repair`: let repairs go on that are held because too many instances failed at once.

use calvin_proto::wire::FleetOrderRequest;
use clap::{Args, Subcommand};

use super::{
    exit::Exit,
    failure::Failure,
    order::{Peril, order},
    setting::Setting,
};

/// What can be done with repairs.
#[derive(Debug, Subcommand)]
pub(crate) enum RepairCommand {
    /// Repair a fleet again whose repairs are held because too many failed at once.
    Resume(ResumeArguments),
}

/// Arguments of `calvin repair resume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  calvin repair resume web --reason 'the switch is mended, new machines serve'"
)]
pub(crate) struct ResumeArguments {
    /// The fleet's name.
    fleet: String,
    /// Why that is safe now, for the history.
    #[arg(long)]
    reason: String,
}

/// Carries out the command.
pub(crate) async fn run(command: RepairCommand, setting: &Setting) -> Result<Exit, Failure> {
    let RepairCommand::Resume(ResumeArguments { fleet, reason }) = command;
    let verb = format!("resume the repairs of fleet {fleet}");
    let what = format!("replace what failed in fleet {fleet}");
    let request = FleetOrderRequest { fleet, reason };
    order(setting, &verb, Peril::Ask(what), async |mut client| {
        client.resume_repairs(request).await
    })
    .await
}
