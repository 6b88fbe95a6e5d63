//! `calvin zone`: where instances are, and what a person knows of a zone that no source tells.

use calvin_proto::wire::{ListZonesRequest, ZoneOrderRequest};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;

use super::{
    exit::Exit,
    failure::Failure,
    order::{Peril, order},
    render,
    setting::Setting,
    view::ZoneView,
};

/// What can be done with zones.
#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Every zone, with what is there and who says that it is lost.
    List,
    /// Say that a zone is lost: its capacity is made elsewhere, and nothing is deleted there.
    Lost(LostArguments),
    /// Say that a lost zone is back.
    Found(FoundArguments),
}

/// Arguments of `calvin zone lost`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  calvin zone lost b --reason 'the provider says that hall b has no power'"
)]
pub(crate) struct LostArguments {
    /// The zone's name.
    zone: String,
    /// How that is known: you are the second source besides what the coordinator sees.
    #[arg(long)]
    reason: String,
}

/// Arguments of `calvin zone found`.
#[derive(Debug, Args)]
pub(crate) struct FoundArguments {
    /// The zone's name.
    zone: String,
}

/// Carries out the command.
pub(crate) async fn run(command: ZoneCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        ZoneCommand::List => list(setting).await,
        ZoneCommand::Lost(arguments) => lost(arguments, setting).await,
        ZoneCommand::Found(arguments) => found(arguments, setting).await,
    }
}

async fn list(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let tried = "could not list the zones";
    let reply = caller
        .ask(tried, caller.client().list_zones(ListZonesRequest {}))
        .await?;
    let zones: Vec<ZoneView> = reply.zones.into_iter().map(Into::into).collect();
    setting.screen.show(&zones, |zones, canvas| {
        render::orders::zones(zones, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}

async fn lost(arguments: LostArguments, setting: &Setting) -> Result<Exit, Failure> {
    let LostArguments { zone, reason } = arguments;
    let verb = format!("take zone {zone} for lost");
    let what = format!(
        "take zone {zone} for lost, and make what served there in the other zones of its fleets"
    );
    let request = ZoneOrderRequest { zone, reason };
    order(setting, &verb, Peril::Ask(what), async |mut client| {
        client.lose_zone(request).await
    })
    .await
}

async fn found(arguments: FoundArguments, setting: &Setting) -> Result<Exit, Failure> {
    let zone = arguments.zone;
    let verb = format!("take zone {zone} for found");
    let reason = String::new();
    let request = ZoneOrderRequest { zone, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.find_zone(request).await
    })
    .await
}
