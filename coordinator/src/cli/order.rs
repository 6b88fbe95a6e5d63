//! Orders that people give and end again: asked about where they are perilous, sent, and shown with
//! what to type next.

use calvin_proto::wire::ChangeReply;
use tonic::{Response, Status};

use super::{
    caller::Client,
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    setting::{Confirm, Setting},
};

/// Whether a person is asked first, and what they are told then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peril {
    /// It takes nothing away, or only holds something.
    None,
    /// It lets something happen that the coordinator would not do by itself.
    Ask(String),
}

/// Gives an order: `verb` says what is ordered of what, `call` sends it.
pub(crate) async fn order(
    setting: &Setting,
    verb: &str,
    peril: Peril,
    call: impl AsyncFnOnce(Client) -> Result<Response<ChangeReply>, Status>,
) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    match peril {
        Peril::None => {}
        Peril::Ask(what) => setting.confirm(&environment, &what, Confirm::OnTerminal)?,
    }
    let tried = format!("[{environment}] could not {verb}");
    let reply = caller.ask(&tried, call(caller.client())).await?;
    changed(setting, environment, reply, After::End)?;
    Ok(Exit::Done)
}
