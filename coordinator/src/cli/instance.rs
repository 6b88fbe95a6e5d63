//! `calvin instance`: single machines.

use calvin_proto::wire::{ConsoleRequest, InstanceOrderRequest, InstanceRequest, StatusRequest};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    caller::refusal,
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    order::{Peril, order},
    render,
    screen::{Format, Sink},
    setting::{Confirm, Setting},
    status,
    view::InstanceView,
};

/// What can be done with instances.
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Every instance, or those of one fleet.
    List(ListArguments),
    /// One instance with all that is observed of it.
    Show(ShowArguments),
    /// Replace one instance, the new one first.
    Replace(ReplaceArguments),
    /// What an instance's machine printed last.
    Console(ConsoleArguments),
    /// Let nothing happen to an instance, whatever else is decided: to look at it, or to keep it.
    Protect(ProtectArguments),
    /// End the protection of an instance.
    Unprotect(ShowArguments),
}

/// Arguments of `calvin instance list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// One fleet only.
    fleet: Option<String>,
}

/// Arguments of `calvin instance show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The instance's id.
    instance: String,
}

/// Arguments of `calvin instance replace`.
#[derive(Debug, Args)]
pub(crate) struct ReplaceArguments {
    /// The instance's id.
    instance: String,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// Arguments of `calvin instance console`.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArguments {
    /// The instance's id.
    instance: String,
    /// Go on as it grows, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// At most so many of the newest bytes.
    #[arg(long, default_value_t = 65_536, value_name = "BYTES")]
    bytes: u64,
}

/// Arguments of `calvin instance protect`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  calvin instance protect web-3kqz0a1b --reason 'reading its memory'"
)]
pub(crate) struct ProtectArguments {
    /// The instance's id.
    instance: String,
    /// Why, for the status and the history.
    #[arg(long)]
    reason: String,
}

/// Carries out the command.
pub(crate) async fn run(command: InstanceCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        InstanceCommand::List(arguments) => list(arguments, setting).await,
        InstanceCommand::Show(arguments) => show(arguments, setting).await,
        InstanceCommand::Replace(arguments) => replace(arguments, setting).await,
        InstanceCommand::Console(arguments) => console(arguments, setting).await,
        InstanceCommand::Protect(arguments) => protect(arguments, setting).await,
        InstanceCommand::Unprotect(arguments) => unprotect(arguments, setting).await,
    }
}

async fn list(arguments: ListArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let request = StatusRequest {
        fleet: arguments.fleet.unwrap_or_default(),
    };
    let status = status::ask(&caller, request).await?;
    let instances: Vec<InstanceView> = status
        .fleets
        .into_iter()
        .flat_map(|fleet| fleet.instances)
        .collect();
    setting.screen.show(&instances, |instances, canvas| {
        if instances.is_empty() {
            "no instance\n".to_owned()
        } else {
            render::instance::table(canvas, 0, instances)
        }
    })?;
    Ok(Exit::Done)
}

async fn show(arguments: ShowArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let tried = format!("could not show instance {}", arguments.instance);
    let request = InstanceRequest {
        instance: arguments.instance,
        reason: String::new(),
    };
    let reply = caller
        .ask(&tried, caller.client().show_instance(request))
        .await?;
    setting
        .screen
        .show(&InstanceView::from(reply), render::instance::detail)?;
    Ok(Exit::Done)
}

async fn replace(arguments: ReplaceArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let ReplaceArguments { instance, reason } = arguments;
    let what = format!("replace {instance}, the new one first, then delete it");
    setting.confirm(&environment, &what, Confirm::OnTerminal)?;
    let tried = format!("[{environment}] could not replace instance {instance}");
    let request = InstanceRequest { instance, reason };
    let reply = caller
        .ask(&tried, caller.client().replace_instance(request))
        .await?;
    changed(setting, environment, reply, After::End)?;
    Ok(Exit::Done)
}

async fn protect(arguments: ProtectArguments, setting: &Setting) -> Result<Exit, Failure> {
    let ProtectArguments { instance, reason } = arguments;
    let verb = format!("protect instance {instance}");
    let request = InstanceOrderRequest { instance, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.protect_instance(request).await
    })
    .await
}

async fn unprotect(arguments: ShowArguments, setting: &Setting) -> Result<Exit, Failure> {
    let instance = arguments.instance;
    let verb = format!("end the protection of instance {instance}");
    let reason = String::new();
    let request = InstanceOrderRequest { instance, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.unprotect_instance(request).await
    })
    .await
}

/// A piece of a console, as JSON: bytes that are not text are replaced.
#[derive(Debug, Serialize)]
struct ConsoleView<'a> {
    instance: &'a str,
    text: String,
}

async fn console(arguments: ConsoleArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let ConsoleArguments {
        instance,
        follow,
        bytes,
    } = arguments;
    let tried = format!("could not read the console of instance {instance}");
    let request = ConsoleRequest {
        instance: instance.clone(),
        follow,
        bytes,
    };
    let mut stream = caller.ask(&tried, caller.client().console(request)).await?;
    let screen = setting.screen;
    while let Some(chunk) = stream
        .message()
        .await
        .map_err(|status| refusal(&tried, &status))?
    {
        match (screen.format, screen.sink) {
            (Format::Json, _) => screen.json(&ConsoleView {
                instance: &instance,
                text: String::from_utf8_lossy(&chunk.data).into_owned(),
            })?,
            (Format::Table, Sink::Pipe) => screen.bytes(&chunk.data)?,
            (Format::Table, Sink::Terminal) => {
                // A workload must not be able to write over what the operator sees.
                let text = String::from_utf8_lossy(&chunk.data);
                let tamed: String = text
                    .chars()
                    .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
                    .collect();
                screen.text(&tamed)?;
            }
        }
    }
    Ok(Exit::Done)
}
