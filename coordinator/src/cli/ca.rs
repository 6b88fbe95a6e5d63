//! `calvin ca`: the environment's certificate authority.

use calvin_proto::wire::{ChangeReply, RotateCaRequest, ShowCaRequest};
use clap::Subcommand;
use jiff::tz::TimeZone;

use super::{
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    render,
    setting::Setting,
    style::count,
    view::CaView,
};

/// What can be done with the CA.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a new CA; the old one stays trusted until all have renewed.
    Rotate,
    /// The CAs that are trusted now.
    Show,
}

/// Carries out the command.
pub(crate) async fn run(command: CaCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        CaCommand::Rotate => rotate(setting).await,
        CaCommand::Show => show(setting).await,
    }
}

async fn rotate(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let tried = format!("[{environment}] could not make a new CA");
    let reply = caller
        .ask(&tried, caller.client().rotate_ca(RotateCaRequest {}))
        .await?;
    let mut lines = reply.lines;
    if let Some(newest) = reply.trusted.first() {
        lines.push(format!(
            "certificates are signed by the CA {newest} from now on"
        ));
    }
    let left = usize::try_from(reply.not_renewed).unwrap_or(usize::MAX);
    if left > 0 {
        let counted = count(left, "instance");
        lines.push(format!(
            "{counted} still on a certificate of an older CA, which stays trusted"
        ));
    }
    let next = "calvin ca show".to_owned();
    changed(
        setting,
        environment,
        ChangeReply {
            lines,
            rollout: String::new(),
            next,
        },
        After::End,
    )?;
    Ok(Exit::Done)
}

async fn show(setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let tried = "could not show the CA";
    let reply = caller
        .ask(tried, caller.client().show_ca(ShowCaRequest {}))
        .await?;
    setting
        .screen
        .show(&CaView::new(environment, reply), |ca, canvas| {
            render::admin::ca(ca, &TimeZone::system(), canvas)
        })?;
    Ok(Exit::Done)
}
