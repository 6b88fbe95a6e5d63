//! Back: give a rollout up before its switch, or let the old image take over again.

use calvin_proto::wire::{RolloutRequest, StatusRequest};

use super::{
    super::{
        exit::Exit,
        failure::Failure,
        fleet::{After, changed},
        follow::{Aim, Course, follow},
        setting::{Confirm, Setting},
        status,
    },
    BackArguments,
};

/// The two ways back that a person can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retreat {
    /// Before the switch.
    Abort,
    /// After it.
    Rollback,
}

pub(super) async fn back(
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
        .and_then(|fleet| fleet.rollout);
    let ended = rollout.as_ref().is_none_or(|rollout| rollout.ended);
    let rollout = rollout.map(|rollout| rollout.id);
    let named = rollout
        .clone()
        .unwrap_or_else(|| format!("the rollout of {fleet}"));
    let what = match retreat {
        Retreat::Abort => format!("give up {named} and delete its new instances"),
        Retreat::Rollback => format!("roll {named} back and delete its new instances"),
    };
    // One that has ended is refused by the coordinator: there is nothing to ask.
    if !ended {
        setting.confirm(&environment, &what, Confirm::OnTerminal)?;
    }
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
    let after = if detach { After::End } else { After::Follow };
    let change = changed(setting, environment.clone(), reply, after)?;
    if after == After::End {
        return Ok(Exit::Done);
    }
    // Where the old machines are gone, the way back is a new rollout, which the reply names.
    let aim = if change.rollout.is_some() && change.rollout != rollout {
        Aim::Forward
    } else {
        Aim::Back
    };
    let course = Course {
        environment,
        fleet,
        rollout: change.rollout,
        aim,
    };
    follow(setting, &caller, course).await
}
