//! The history, as a stream of its lines.

use calvin_model::FleetName;
use calvin_planner::{EventKind, FleetState};
use calvin_proto::{transport::peer::hexadecimal, wire};

use super::{OperatorParts, error::OperatorError, watch::Answers};
use crate::store::{Recorded, StoreFailure};

/// Lines where the request names no number.
const LINES: usize = 1_000;
/// Most lines of one answer. At about 500 bytes each they are 50 MB, streamed.
const LINES_MAX: usize = 100_000;

/// A line and its hash.
type Line = (Recorded, [u8; 32]);

/// Whether a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Runs,
    Ended,
}

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
        let view = self.desk.view();
        let lines = tokio::task::spawn_blocking(move || -> Result<Vec<Line>, StoreFailure> {
            let of_fleet = |line: &Recorded| {
                let fleet = line.line.event.fleet.as_ref();
                let fleet = fleet.map_or("", FleetName::as_str);
                request.fleet.is_empty() || request.fleet == fleet || tells_of_all(line)
            };
            if request.rollout.is_empty() {
                let mut lines = history.newest(limit, of_fleet)?;
                // With fewer than asked for, they begin where the history does.
                if !request.fleet.is_empty() && lines.len() < limit {
                    begin_with_its_own(&mut lines);
                }
                return Ok(lines);
            }
            let mut lines = history.newest(LINES_MAX, of_fleet)?;
            let rollouts = view.fleets.values().filter_map(FleetState::running);
            let course = if rollouts
                .into_iter()
                .any(|one| one.id.as_str() == request.rollout)
            {
                Course::Runs
            } else {
                Course::Ended
            };
            keep_rollout(&mut lines, &request.rollout, course);
            let newest = lines.len().saturating_sub(limit);
            Ok(lines.split_off(newest))
        });
        let lines = lines.await??;
        let lines = lines.into_iter().map(|(line, hash)| Ok(shown(line, hash)));
        Ok(Box::pin(tokio_stream::iter(lines)))
    }
}

/// Whether a line is about every fleet: what the coordinator says of itself.
fn tells_of_all(line: &Recorded) -> bool {
    line.line.event.kind == EventKind::Away
}

/// What was before a fleet's first line is not about it.
fn begin_with_its_own(lines: &mut Vec<Line>) {
    let first = lines.iter().position(|(line, _)| !tells_of_all(line));
    lines.drain(..first.unwrap_or(lines.len()));
}

/// Keeps what happened in the rollout's fleet from the first line that names it to the last, and
/// while it runs also that nobody decided after that.
fn keep_rollout(lines: &mut Vec<Line>, rollout: &str, course: Course) {
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
    let (first_number, last_number) = (first.number, last.number);
    let fleet = first.line.event.fleet.clone();
    lines.retain(|(line, _)| {
        let within = (first_number..=last_number).contains(&line.number);
        if tells_of_all(line) {
            within || (course == Course::Runs && line.number > last_number)
        } else {
            within && line.line.event.fleet == fleet
        }
    });
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
        EventKind::Away => "away",
        EventKind::Catalogue => "catalogue",
    }
}

#[cfg(test)]
mod tests {
    use calvin_engine::ports::HistoryLine;
    use calvin_planner::Event;

    use super::*;

    fn lines(told: &[(&str, EventKind, &str)]) -> Vec<Line> {
        let line = |(number, (fleet, kind, text)): (usize, &(&str, EventKind, &str))| {
            let line = HistoryLine {
                wall_ms: 0,
                who: "engine".to_owned(),
                event: Event {
                    fleet: fleet.parse().ok(),
                    instance: None,
                    kind: *kind,
                    text: (*text).to_owned(),
                },
            };
            let number = number as u64 + 1;
            (Recorded { number, line }, [0; 32])
        };
        told.iter().enumerate().map(line).collect()
    }

    fn numbers(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|(line, _)| line.number).collect()
    }

    fn course() -> Vec<Line> {
        lines(&[
            ("", EventKind::Away, "before"),
            ("web", EventKind::Phase, "web-1 starts"),
            ("", EventKind::Away, "within"),
            ("db", EventKind::Phase, "db-1 starts"),
            ("web", EventKind::Role, "an instance"),
            ("web", EventKind::Phase, "web-1 soaks"),
            ("", EventKind::Away, "after"),
        ])
    }

    #[test]
    fn a_rollout_is_told_with_the_times_in_which_nobody_decided() {
        let mut ended = course();
        keep_rollout(&mut ended, "web-1", Course::Ended);
        assert_eq!(numbers(&ended), [2, 3, 5, 6]);
        let mut runs = course();
        keep_rollout(&mut runs, "web-1", Course::Runs);
        assert_eq!(numbers(&runs), [2, 3, 5, 6, 7]);
        let mut none = course();
        keep_rollout(&mut none, "web-2", Course::Runs);
        assert_eq!(numbers(&none), [0_u64; 0]);
    }

    #[test]
    fn what_was_before_a_fleet_is_not_told_of_it() {
        let mut all = course();
        begin_with_its_own(&mut all);
        assert_eq!(numbers(&all).first(), Some(&2));
        let mut none = lines(&[("", EventKind::Away, "before")]);
        begin_with_its_own(&mut none);
        assert_eq!(numbers(&none), [0_u64; 0]);
    }
}
