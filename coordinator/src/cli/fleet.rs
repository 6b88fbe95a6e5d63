//! `calvin fleet`: what fleets there are, and how many of what they are to be.

use std::{
    fs,
    io::{self, Read as _},
    path::PathBuf,
};

use calvin_proto::wire::{
    ApplyFleetRequest, ChangeReply, FleetOrderRequest, FleetRequest, ScaleFleetRequest,
    StatusRequest,
};
use clap::{Args, Subcommand};

use super::{
    exit::Exit,
    failure::Failure,
    follow::{Aim, Course, follow},
    order::{Peril, order},
    render,
    setting::{Confirm, Setting},
    status,
    view::{ChangeView, ShownFleetView},
};

/// What can be done with fleets.
#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// Make a fleet, or change it, as its file says.
    Apply(ApplyArguments),
    /// Every fleet.
    List,
    /// One fleet with its instances, and its file as applied.
    Show(FleetArguments),
    /// Change how many instances serve.
    Scale(ScaleArguments),
    /// Drain and remove a fleet with all its instances.
    Delete(FleetArguments),
    /// Keep a fleet on the image that serves: no rollout starts until it is unpinned.
    Pin(PinArguments),
    /// Let rollouts of a fleet start again.
    Unpin(FleetArguments),
}

/// Names a fleet.
#[derive(Debug, Args)]
pub(crate) struct FleetArguments {
    /// The fleet's name.
    fleet: String,
}

/// Arguments of `calvin fleet apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// The fleet's file; `-` for standard input.
    file: PathBuf,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// Follow the rollout that this starts, to its end.
    #[arg(long, short, conflicts_with = "dry_run")]
    watch: bool,
}

/// Arguments of `calvin fleet scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArguments {
    /// The fleet's name.
    fleet: String,
    /// How many instances are to serve.
    count: u32,
}

/// Arguments of `calvin fleet pin`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  calvin fleet pin db --reason 'the audit runs until Friday'")]
pub(crate) struct PinArguments {
    /// The fleet's name.
    fleet: String,
    /// Why, for the status and the history.
    #[arg(long)]
    reason: String,
}

/// Carries out the command.
pub(crate) async fn run(command: FleetCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        FleetCommand::Apply(arguments) => apply(arguments, setting).await,
        FleetCommand::List => list(setting).await,
        FleetCommand::Show(arguments) => show(arguments, setting).await,
        FleetCommand::Scale(arguments) => scale(arguments, setting).await,
        FleetCommand::Delete(arguments) => delete(arguments, setting).await,
        FleetCommand::Pin(arguments) => pin(arguments, setting).await,
        FleetCommand::Unpin(arguments) => unpin(arguments, setting).await,
    }
}

async fn apply(arguments: ApplyArguments, setting: &Setting) -> Result<Exit, Failure> {
    let toml = read_file(&arguments.file)?;
    let file = arguments.file.display().to_string();
    let fleet = fleet_named_in(&toml);
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let request = ApplyFleetRequest {
        file: file.clone(),
        toml,
        dry_run: arguments.dry_run,
    };
    let tried = format!("[{environment}] could not apply {file}");
    let reply = caller
        .ask(&tried, caller.client().apply_fleet(request))
        .await?;
    if arguments.dry_run {
        let change = ChangeView::new(environment, reply);
        setting.screen.show(&change, render::change::dry_run)?;
        return Ok(Exit::Done);
    }
    let after = if arguments.watch {
        After::Follow
    } else {
        After::End
    };
    let change = changed(setting, environment.clone(), reply, after)?;
    match (change.rollout, fleet) {
        (Some(rollout), Some(fleet)) if arguments.watch => {
            let course = Course {
                environment,
                fleet,
                rollout: Some(rollout),
                aim: Aim::Forward,
            };
            follow(setting, &caller, course).await
        }
        _ => Ok(Exit::Done),
    }
}

/// The fleet's name in its file, if it has one; the coordinator says what is wrong with the file.
fn fleet_named_in(toml: &str) -> Option<String> {
    let table: toml::Table = toml.parse().ok()?;
    Some(table.get("name")?.as_str()?.to_owned())
}

fn read_file(path: &std::path::Path) -> Result<String, Failure> {
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| {
        Failure::new(Exit::Usage, format!("could not read {}", path.display())).because(error)
    })
}

/// What comes after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing: what to type next is said.
    End,
    /// The rollout that it started is followed, so nothing needs to be typed.
    Follow,
}

/// Shows a change, and gives it back.
pub(crate) fn changed(
    setting: &Setting,
    environment: String,
    reply: ChangeReply,
    after: After,
) -> Result<ChangeView, Failure> {
    let mut change = ChangeView::new(environment, reply);
    change.next = change
        .next
        .filter(|_| after == After::End)
        .map(|next| setting.command(&next));
    setting.screen.show(&change, render::change::change)?;
    Ok(change)
}

async fn list(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let status = status::ask(&caller, StatusRequest::default()).await?;
    setting.screen.show(&status.fleets, |fleets, canvas| {
        render::fleet::table(fleets, canvas)
    })?;
    Ok(Exit::Done)
}

async fn show(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let tried = format!("could not show fleet {}", arguments.fleet);
    let request = FleetRequest {
        fleet: arguments.fleet,
    };
    let reply = caller
        .ask(&tried, caller.client().show_fleet(request))
        .await?;
    setting
        .screen
        .show(&ShownFleetView::from(reply), render::fleet::detail)?;
    Ok(Exit::Done)
}

async fn scale(arguments: ScaleArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let ScaleArguments { fleet, count } = arguments;
    let tried = format!("[{environment}] could not scale fleet {fleet} to {count}");
    let request = ScaleFleetRequest { fleet, count };
    let reply = caller
        .ask(&tried, caller.client().scale_fleet(request))
        .await?;
    changed(setting, environment, reply, After::End)?;
    Ok(Exit::Done)
}

async fn delete(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let fleet = arguments.fleet;
    let tried = format!("could not delete fleet {fleet}");
    let request = StatusRequest {
        fleet: fleet.clone(),
    };
    let status = status::ask_for(&caller, &tried, request).await?;
    let environment = status.environment;
    let instances = status
        .fleets
        .first()
        .map_or(0, |fleet| fleet.instances.len());
    let counted = super::style::count(instances, "instance");
    let what = format!("drain and delete fleet {fleet} with its {counted}");
    setting.confirm(&environment, &what, Confirm::Always)?;
    let tried = format!("[{environment}] could not delete fleet {fleet}");
    let reply = caller
        .ask(&tried, caller.client().delete_fleet(FleetRequest { fleet }))
        .await?;
    changed(setting, environment, reply, After::End)?;
    Ok(Exit::Done)
}

async fn pin(arguments: PinArguments, setting: &Setting) -> Result<Exit, Failure> {
    let PinArguments { fleet, reason } = arguments;
    let verb = format!("pin fleet {fleet}");
    let request = FleetOrderRequest { fleet, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.pin_fleet(request).await
    })
    .await
}

async fn unpin(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let fleet = arguments.fleet;
    let verb = format!("unpin fleet {fleet}");
    let reason = String::new();
    let request = FleetOrderRequest { fleet, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.unpin_fleet(request).await
    })
    .await
}
