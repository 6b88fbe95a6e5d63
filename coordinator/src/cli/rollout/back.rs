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
    let verb = match retreat {
        Retreat::Abort => "abort",
        Retreat::Rollback => "roll back",
    };
    let tried = format!("could not {verb} the rollout of fleet {fleet}");
    let request = StatusRequest {
        fleet: fleet.clone(),
    };
    let status = status::ask_for(&caller, &tried, request).await?;
    let environment = status.environment;
    let rollout = status
        .fleets
        .into_iter()
        .next()
        .and_then(|fleet| fleet.rollout);
    let ended = rollout.as_ref().is_none_or(|rollout| rollout.ended);
    let goes_back = rollout
        .as_ref()
        .is_some_and(|rollout| rollout.phase == "rolling_back");
    let rollout = rollout.map(|rollout| rollout.id);
    // One that has ended, or goes back already, is refused by the coordinator: nothing is asked.
    let named = match &rollout {
        Some(rollout) if !ended => {
            if !goes_back {
                let what = format!("{verb} {rollout} and delete its new instances");
                setting.confirm(&environment, &what, Confirm::OnTerminal)?;
            }
            rollout.clone()
        }
        Some(_) | None => format!("the rollout of fleet {fleet}"),
    };
    let tried = format!("[{environment}] could not {verb} {named}");
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
