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

/// Lines of the history that are looked through for those that explain something: a wave of 100
/// instances writes about 500, five for each.
const LOOKED_THROUGH: u32 = 500;

/// Lines of those that are told: a screen of 24 has room for what is now as well.
const TOLD: usize = 10;

/// The kinds of lines that explain a rollout; the others tell what became of each instance.
/// They are the planner's words, as they come over the wire.
const TELLING: [&str; 6] = [
    "command",
    "phase",
    "instance_failed",
    "switch",
    "hold",
    "away",
];

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

/// The newest lines that explain something.
fn telling(lines: Vec<HistoryLineView>) -> Vec<HistoryLineView> {
    let mut telling: Vec<_> = lines
        .into_iter()
        .filter(|line| TELLING.contains(&line.kind.as_str()))
        .collect();
    telling.drain(..telling.len().saturating_sub(TOLD));
    telling
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
            limit: LOOKED_THROUGH,
        };
        history = telling(read_history(&caller, request).await?);
    }
    let now_ms = status.wall_ms;
    let view = ExplainView {
        environment: status.environment,
        fleet,
        history,
    };
    setting.screen.show(&view, |view, canvas| {
        let zone = TimeZone::system();
        render::explain::explain(&view.fleet, &view.history, now_ms, &zone, canvas)
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use calvin_planner::EventKind;

    use super::*;

    #[test]
    fn the_telling_kinds_are_words_of_the_planner() {
        let kinds = [
            EventKind::Command,
            EventKind::Phase,
            EventKind::InstanceFailed,
            EventKind::Switch,
            EventKind::Hold,
            EventKind::Away,
        ];
        let words = kinds.map(|kind| serde_json::to_value(kind).unwrap());
        assert_eq!(words.map(|word| word.as_str().unwrap().to_owned()), TELLING);
    }

    #[test]
    fn the_newest_lines_that_explain_something_are_told() {
        let line = |number: u64, kind: &str| HistoryLineView {
            number,
            wall_ms: 0,
            who: "planner".to_owned(),
            kind: kind.to_owned(),
            fleet: None,
            instance: None,
            text: String::new(),
            hash: String::new(),
        };
        let mut lines: Vec<_> = (1..=20).map(|number| line(number, "phase")).collect();
        lines.push(line(21, "instance_gone"));
        let told: Vec<u64> = telling(lines).iter().map(|line| line.number).collect();
        assert_eq!(told, (11..=20).collect::<Vec<u64>>());
    }
}
