//! The history, as a stream of its lines.

use calvin_model::FleetName;
use calvin_planner::EventKind;
use calvin_proto::{transport::peer::hexadecimal, wire};

use super::{OperatorParts, error::OperatorError, watch::Answers};
use crate::store::Recorded;

/// Lines where the request names no number.
const LINES: usize = 1_000;
/// Most lines of one answer. At about 500 bytes each they are 50 MB, streamed.
const LINES_MAX: usize = 100_000;

impl OperatorParts {
    pub(super) async fn history(
        &self,
        request: wire::HistoryRequest,
    ) -> Result<Answers<wire::HistoryLine>, OperatorError> {
        let limit = match usize::try_from(request.limit).unwrap_or(LINES_MAX) {
            0 => LINES,
            limit => limit.min(LINES_MAX),
        };
        let history = self.history.clone();
        let lines = tokio::task::spawn_blocking(move || {
            let of_fleet = |line: &Recorded| {
                let fleet = line.line.event.fleet.as_ref();
                let fleet = fleet.map_or("", FleetName::as_str);
                request.fleet.is_empty() || request.fleet == fleet
            };
            if request.rollout.is_empty() {
                return history.newest(limit, of_fleet);
            }
            let mut lines = history.newest(LINES_MAX, of_fleet)?;
            keep_rollout(&mut lines, &request.rollout);
            let newest = lines.len().saturating_sub(limit);
            Ok(lines.split_off(newest))
        });
        let lines = lines.await??;
        let lines = lines.into_iter().map(|(line, hash)| Ok(shown(line, hash)));
        Ok(Box::pin(tokio_stream::iter(lines)))
    }
}

/// Keeps what happened in the rollout's fleet from the first line that names it to the last.
fn keep_rollout(lines: &mut Vec<(Recorded, [u8; 32])>, rollout: &str) {
    let names = |line: &Recorded| {
        let text = &line.line.event.text;
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .any(|word| word == rollout)
    };
    let named: Vec<&Recorded> = lines
        .iter()
        .map(|(line, _)| line)
        .filter(|line| names(line))
        .collect();
    let (Some(first), Some(last)) = (named.first(), named.last()) else {
        lines.clear();
        return;
    };
    let numbers = first.number..=last.number;
    let fleet = first.line.event.fleet.clone();
    lines.retain(|(line, _)| numbers.contains(&line.number) && line.line.event.fleet == fleet);
}

fn shown(line: Recorded, hash: [u8; 32]) -> wire::HistoryLine {
    let event = line.line.event;
    wire::HistoryLine {
        number: line.number,
        wall_ms: line.line.wall_ms,
        who: line.line.who,
        kind: kind(event.kind).to_owned(),
        fleet: event
            .fleet
            .map_or_else(String::new, |fleet| fleet.to_string()),
        instance: event.instance.map(|id| id.to_string()).unwrap_or_default(),
        text: event.text,
        hash: hexadecimal(&hash),
    }
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Command => "command",
        EventKind::Phase => "phase",
        EventKind::InstanceIntended => "instance_intended",
        EventKind::InstanceProven => "instance_proven",
        EventKind::InstanceFailed => "instance_failed",
        EventKind::InstanceDraining => "instance_draining",
        EventKind::InstanceRetiring => "instance_retiring",
        EventKind::InstanceGone => "instance_gone",
        EventKind::Switch => "switch",
        EventKind::Hold => "hold",
        EventKind::Role => "role",
    }
}
