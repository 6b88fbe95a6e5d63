//! Forward: plan a rollout, start it, follow it.

use calvin_proto::wire::{PlanRolloutRequest, StartRolloutRequest};

use super::{
    super::{
        exit::Exit,
        failure::Failure,
        fleet::{After, changed},
        follow::{Aim, Course, follow},
        render,
        setting::Setting,
        view::PlanView,
    },
    FleetArguments, PlanArguments, StartArguments,
};

pub(super) async fn plan(arguments: PlanArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let environment = caller.about().await?.environment;
    let PlanArguments { fleet, image } = arguments;
    let tried = format!("[{environment}] could not plan a rollout of fleet {fleet}");
    let request = PlanRolloutRequest {
        fleet: fleet.clone(),
        image: image.unwrap_or_default(),
    };
    let reply = caller
        .ask(&tried, caller.client().plan_rollout(request))
        .await?;
    let mut plan = PlanView::new(environment, fleet, reply);
    if plan.nothing.is_none() {
        let command = format!(
            "calvin rollout start {} {} --plan {}",
            plan.fleet, plan.to, plan.plan
        );
        plan.next = Some(setting.command(&command));
    }
    setting.screen.show(&plan, render::plan::plan)?;
    Ok(Exit::Done)
}

pub(super) async fn start(arguments: StartArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect_to_watch().await?;
    let environment = caller.about().await?.environment;
    let StartArguments {
        fleet,
        image,
        plan,
        detach,
    } = arguments;
    let tried = format!("[{environment}] could not start a rollout of fleet {fleet}");
    let request = StartRolloutRequest {
        fleet: fleet.clone(),
        image: image.unwrap_or_default(),
        plan: plan.unwrap_or_default(),
    };
    let reply = caller
        .ask(&tried, caller.client().start_rollout(request))
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

pub(super) async fn watch(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect_to_watch().await?;
    let environment = caller.about().await?.environment;
    let fleet = arguments.fleet;
    follow(
        setting,
        &caller,
        Course {
            environment,
            fleet,
            rollout: None,
            aim: Aim::Forward,
        },
    )
    .await
}
