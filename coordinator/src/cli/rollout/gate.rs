//! What a person says while a rollout is under way: wait, go on, do not wait, approved.

use calvin_proto::wire::{ApproveRolloutRequest, FleetOrderRequest};

use super::{
    super::{
        exit::Exit,
        failure::Failure,
        order::{Peril, order},
        setting::Setting,
    },
    ApproveArguments, FleetArguments, Gate, OrderArguments, PromoteArguments,
};

pub(super) async fn pause(arguments: OrderArguments, setting: &Setting) -> Result<Exit, Failure> {
    let OrderArguments { fleet, reason } = arguments;
    let verb = format!("pause the rollout of fleet {fleet}");
    let request = FleetOrderRequest { fleet, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.pause_rollout(request).await
    })
    .await
}

pub(super) async fn resume(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let fleet = arguments.fleet;
    let verb = format!("resume the rollout of fleet {fleet}");
    let reason = String::new();
    let request = FleetOrderRequest { fleet, reason };
    order(setting, &verb, Peril::None, async |mut client| {
        client.resume_rollout(request).await
    })
    .await
}

pub(super) async fn promote(
    arguments: PromoteArguments,
    setting: &Setting,
) -> Result<Exit, Failure> {
    let PromoteArguments { fleet, reason } = arguments;
    let verb = format!("promote the rollout of fleet {fleet}");
    let what = format!("skip the rest of the soak of fleet {fleet}");
    let request = FleetOrderRequest { fleet, reason };
    order(setting, &verb, Peril::Ask(what), async |mut client| {
        client.promote_rollout(request).await
    })
    .await
}

pub(super) async fn approve(
    arguments: ApproveArguments,
    setting: &Setting,
) -> Result<Exit, Failure> {
    let ApproveArguments {
        fleet,
        gate,
        reason,
    } = arguments;
    let verb = format!("approve the rollout of fleet {fleet}");
    let gate = match gate {
        Some(Gate::Switch) => "switch",
        Some(Gate::Retire) => "retire",
        None => "",
    };
    let request = ApproveRolloutRequest {
        fleet,
        reason,
        gate: gate.to_owned(),
    };
    order(setting, &verb, Peril::None, async |mut client| {
        client.approve_rollout(request).await
    })
    .await
}
