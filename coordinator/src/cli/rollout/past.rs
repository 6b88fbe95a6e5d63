//! The past and why the present is as it is.

use calvin_proto::wire::{HistoryRequest, StatusRequest};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    super::{
        caller::{Caller, refusal},
        exit::Exit,
        failure::Failure,
        render,
        setting::Setting,
        status,
        view::{FleetView, HistoryLineView},
    },
    FleetArguments, HistoryArguments,
};

/// Lines of the history that `explain` tells: enough for one rollout of a small fleet, few enough
/// for a screen.
const EXPLAINED_LINES: u32 = 12;

pub(super) async fn history(
    arguments: HistoryArguments,
    setting: &Setting,
) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let request = HistoryRequest {
        fleet: arguments.fleet.unwrap_or_default(),
        rollout: arguments.rollout.unwrap_or_default(),
        limit: arguments.limit,
    };
    let lines = read_history(&caller, request).await?;
    setting.screen.show(&lines, |lines, canvas| {
        render::history::lines(lines, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}

async fn read_history(
    caller: &Caller,
    request: HistoryRequest,
) -> Result<Vec<HistoryLineView>, Failure> {
    let tried = "could not read the history";
    let mut stream = caller.ask(tried, caller.client().history(request)).await?;
    let mut lines = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(line)) => lines.push(HistoryLineView::from(line)),
            Ok(None) => return Ok(lines),
            Err(status) => return Err(refusal(tried, &status)),
        }
    }
}

/// What `explain` tells, as JSON.
#[derive(Debug, Serialize)]
struct ExplainView {
    environment: String,
    fleet: FleetView,
    history: Vec<HistoryLineView>,
}

pub(super) async fn explain(arguments: FleetArguments, setting: &Setting) -> Result<Exit, Failure> {
    let caller = setting.connect().await?;
    let name = arguments.fleet;
    let status = status::ask(
        &caller,
        StatusRequest {
            fleet: name.clone(),
        },
    )
    .await?;
    let Some(mut fleet) = status.fleets.into_iter().next() else {
        return Err(Failure::new(
            Exit::Refused,
            format!("could not explain the rollout of {name}"),
        )
        .reason("there is no such fleet")
        .next(setting.command("calvin fleet list")));
    };
    let mut history = Vec::new();
    if let Some(rollout) = &mut fleet.rollout {
        let request = HistoryRequest {
            fleet: name,
            rollout: rollout.id.clone(),
            limit: EXPLAINED_LINES,
        };
        history = read_history(&caller, request).await?;
    }
    let view = ExplainView {
        environment: status.environment,
        fleet,
        history,
    };
    setting.screen.show(&view, |view, canvas| {
        render::explain::explain(&view.fleet, &view.history, &TimeZone::system(), canvas)
    })?;
    Ok(Exit::Done)
}
