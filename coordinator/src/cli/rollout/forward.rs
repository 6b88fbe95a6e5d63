//! Forward: plan a rollout, start it, follow it.

use calvin_proto::wire::{PlanRolloutRequest, StartRolloutRequest, StatusRequest};

use super::{
    super::{
        exit::Exit,
        failure::Failure,
        fleet::{After, changed},
        follow::{Aim, Course, follow},
        render::{
            self,
            phase::{self, Retreat},
        },
        setting::{Confirm, Setting},
        status,
        view::{FleetView, PlanView},
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
    let StartArguments {
        fleet,
        image,
        plan,
        emergency: _,
        reason,
        detach,
    } = arguments;
    let tried = format!("could not start a rollout of fleet {fleet}");
    let request = StatusRequest {
        fleet: fleet.clone(),
    };
    let status = status::ask_for(&caller, &tried, request).await?;
    let environment = status.environment;
    if let Some(now) = status.fleets.first() {
        ask_before_turning_back(setting, &environment, now, image.as_deref())?;
    }
    if reason.is_some() {
        let what =
            format!("start a rollout of fleet {fleet} that skips soak, waves, windows and freezes");
        setting.confirm(&environment, &what, Confirm::OnTerminal)?;
    }
    let tried = format!("[{environment}] {tried}");
    let request = StartRolloutRequest {
        fleet: fleet.clone(),
        image: image.unwrap_or_default(),
        plan: plan.unwrap_or_default(),
        emergency_reason: reason.unwrap_or_default(),
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

/// Another image while a rollout has switched turns that rollout back first: clients go back to
/// the old image in the meantime, which nobody should order without knowing.
fn ask_before_turning_back(
    setting: &Setting,
    environment: &str,
    fleet: &FleetView,
    image: Option<&str>,
) -> Result<(), Failure> {
    let Some(rollout) = fleet.rollout.as_ref().filter(|rollout| !rollout.ended) else {
        return Ok(());
    };
    let image = image.or(fleet.image_applied.as_deref()).unwrap_or_default();
    let switched = phase::parse(&rollout.phase).map(phase::retreat) == Some(Retreat::Rollback);
    let (Some(from), true) = (&rollout.from, switched) else {
        return Ok(());
    };
    if image == rollout.to {
        // The coordinator says that it is under way already.
        return Ok(());
    }
    let after = if image == from {
        String::new()
    } else {
        format!(", then roll out {image}")
    };
    let what = format!(
        "switch clients back from {} to {from}, because {} is in {}{after}",
        rollout.to,
        rollout.id,
        phase::words(&rollout.phase)
    );
    setting.confirm(environment, &what, Confirm::Always)
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
