//! `calvin undo`: roll out the image that served before the last rollout.

use calvin_proto::wire::RolloutRequest;

use super::{
    exit::Exit,
    failure::Failure,
    fleet::{After, changed},
    follow::{Aim, Course, follow},
    rollout::BackArguments,
    setting::Setting,
};

/// Carries out the command.
pub(crate) async fn run(arguments: BackArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect_to_watch().await?;
    let environment = caller.about().await?.environment;
    let BackArguments {
        fleet,
        reason,
        detach,
    } = arguments;
    let tried = format!("[{environment}] could not undo the last rollout of fleet {fleet}");
    let request = RolloutRequest {
        fleet: fleet.clone(),
        reason,
    };
    let reply = caller
        .ask(&tried, caller.client().undo_rollout(request))
        .await?;
    let after = if detach { After::End } else { After::Follow };
    let change = changed(setting, environment.clone(), reply, after)?;
    let Some(rollout) = change.rollout.filter(|_| after == After::Follow) else {
        return Ok(Exit::Done);
    };
    let course = Course {
        environment,
        fleet,
        rollout: Some(rollout),
        aim: Aim::Forward,
    };
    follow(setting, &caller, course).await
}
