//! The picture: 23 lines of at most 80 columns, of the scene as it is.

use std::collections::BTreeMap;

use calvin_proto::wire::{FleetStatus, Health, InstanceStatus, RolloutStatus};

use super::{
    line::{Line, Tone},
    scene::{ActState, Scene},
    terminal::Canvas,
};
use crate::demo::{acts::ACTS, files::WEB_FLEET, world};

/// Widest picture: what stands further apart is not seen together.
const COLUMNS_MAX: usize = 100;

/// Rows of the table of instances.
const INSTANCES_SHOWN: usize = 5;

/// Length of the bar of answers.
const ANSWER_CELLS: u64 = 40;

/// The way of a rollout, as it is shown.
const WAY: [&str; 7] = [
    "provisioning",
    "soaking",
    "switching",
    "settling",
    "baking",
    "draining",
    "retiring",
];

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the scene.
pub(super) fn picture(scene: &Scene, canvas: Canvas) -> Vec<String> {
    let columns = canvas.columns.min(COLUMNS_MAX);
    let mut lines = vec![title(scene, columns), Line::default()];
    for index in 0..ACTS.len() {
        lines.push(act(scene, index, columns));
    }
    lines.push(Line::default());
    lines.push(
        Line::default()
            .add(Tone::Warn, " ▸ ")
            .add(Tone::Bold, scene.sentence.clone()),
    );
    let web = scene
        .status
        .as_deref()
        .and_then(|status| world::fleet(status, WEB_FLEET));
    lines.push(way(web.and_then(|web| web.rollout.as_ref())));
    lines.push(Line::default());
    lines.extend(instances(web, columns));
    lines.push(Line::default());
    lines.extend(traffic(scene));
    lines
        .iter()
        .map(|line| line.draw(columns, canvas.colours))
        .collect()
}

fn title(scene: &Scene, columns: usize) -> Line {
    let (tone, coordinator) = match (&scene.status, scene.coordinator_up) {
        (_, false) if scene.status.is_some() => (Tone::Bad, "coordinator is dead".to_owned()),
        (None, _) | (_, false) => (Tone::Dim, "coordinator starts".to_owned()),
        (Some(status), true) => (
            Tone::Good,
            format!("coordinator up, epoch {}", status.epoch),
        ),
    };
    let seconds = format!("{:.0} s ", scene.started.elapsed().as_secs_f64());
    Line::default()
        .add(Tone::Bold, " calvin demo")
        .add(Tone::Dim, "   nothing is pretended")
        .to(columns.saturating_sub(coordinator.chars().count() + seconds.chars().count() + 2))
        .add(tone, coordinator)
        .add(Tone::Plain, "  ")
        .add(Tone::Dim, seconds)
}

fn act(scene: &Scene, index: usize, columns: usize) -> Line {
    let title = ACTS[index];
    let figures = columns.saturating_sub(31);
    let number = format!(" {} ", index + 1);
    match &scene.acts[index] {
        ActState::Waiting => Line::default()
            .add(Tone::Dim, number)
            .add(Tone::Dim, format!("· {}", title.what)),
        ActState::Playing {
            since,
            requests,
            failed,
        } => {
            let counted = &scene.traffic.counted;
            let failed = counted.failed.saturating_sub(*failed);
            Line::default()
                .add(Tone::Bold, number)
                .add(Tone::Warn, "▸ ")
                .add(Tone::Bold, title.what)
                .to(figures)
                .add(
                    Tone::Plain,
                    count(counted.requests.saturating_sub(*requests)),
                )
                .add(
                    if failed == 0 { Tone::Plain } else { Tone::Bad },
                    failures(failed),
                )
                .add(
                    Tone::Dim,
                    format!("{:5.1} s", since.elapsed().as_secs_f64()),
                )
        }
        ActState::Ended(verdict) => {
            let (tone, mark) = if verdict.as_told {
                (Tone::Good, "✓ ")
            } else {
                (Tone::Bad, "✗ ")
            };
            Line::default()
                .add(Tone::Plain, number)
                .add(tone, mark)
                .add(Tone::Plain, verdict.text.clone())
                .to(figures)
                .add(Tone::Plain, count(verdict.requests))
                .add(
                    if verdict.failed == 0 {
                        Tone::Good
                    } else {
                        Tone::Warn
                    },
                    failures(verdict.failed),
                )
                .add(Tone::Dim, format!("{:5.1} s", verdict.seconds))
        }
    }
}

fn count(requests: u64) -> String {
    format!("{requests:5} req")
}

fn failures(failed: u64) -> String {
    format!("  {failed:3} failed")
}

fn way(rollout: Option<&RolloutStatus>) -> Line {
    let mut line = Line::default().add(Tone::Plain, "   ");
    let Some(rollout) = rollout.filter(|rollout| !rollout.id.is_empty()) else {
        return line;
    };
    if !WAY.contains(&rollout.phase.as_str()) {
        let tone = if rollout.phase == "done" {
            Tone::Good
        } else {
            Tone::Warn
        };
        let phase = rollout.phase.replace('_', " ");
        return line
            .add(tone, phase)
            .add(Tone::Dim, format!("  {}", rollout.reason));
    }
    for (index, phase) in WAY.iter().enumerate() {
        if index > 0 {
            line = line.add(Tone::Dim, "›");
        }
        let tone = if *phase == rollout.phase {
            Tone::Warn
        } else {
            Tone::Dim
        };
        line = line.add(tone, *phase);
    }
    line
}

fn instances(fleet: Option<&FleetStatus>, columns: usize) -> Vec<Line> {
    let of = |set: &str| -> Vec<&InstanceStatus> {
        let all = fleet.into_iter().flat_map(|fleet| &fleet.instances);
        // Without a rollout there is one set: the one that serves.
        all.filter(|instance| (instance.set == "green") == (set == "green"))
            .collect()
    };
    let (blue, green) = (of("blue"), of("green"));
    let middle = columns / 2;
    let image =
        |set: &[&InstanceStatus]| set.first().map_or(String::new(), |one| one.image.clone());
    let mut lines = vec![
        Line::default()
            .add(Tone::Blue, "   BLUE   ")
            .add(Tone::Plain, image(&blue))
            .to(middle)
            .add(Tone::Green, "  GREEN  ")
            .add(Tone::Plain, image(&green)),
    ];
    for row in 0..INSTANCES_SHOWN {
        let mut line = Line::default().add(Tone::Plain, " ");
        line = cell(line, blue.get(row).copied()).to(middle);
        lines.push(cell(line, green.get(row).copied()));
    }
    lines
}

fn cell(line: Line, instance: Option<&InstanceStatus>) -> Line {
    let Some(instance) = instance else {
        return line;
    };
    let health = instance
        .report
        .as_ref()
        .map_or(Health::Unknown, |report| report.health());
    let (tone, mark) = match health {
        Health::Healthy => (Tone::Good, "●"),
        Health::Unhealthy => (Tone::Bad, "✗"),
        Health::Unknown | Health::Unspecified => (Tone::Dim, "○"),
    };
    let role = match instance.catalogue.as_str() {
        "active" => Tone::Bold,
        _ => Tone::Dim,
    };
    line.add(tone, format!(" {mark} "))
        .add(Tone::Plain, format!("{:<13}", instance.id))
        .add(role, format!(" {:<8}", instance.catalogue))
        .add(tone, format!(" {}", instance.class))
}

fn traffic(scene: &Scene) -> Vec<Line> {
    let traffic = &scene.traffic;
    let counted = &traffic.counted;
    let failed = if counted.failed == 0 {
        Tone::Good
    } else {
        Tone::Warn
    };
    let first = Line::default()
        .add(Tone::Bold, " traffic ")
        .add(Tone::Plain, format!("{:4} requests/s   ", traffic.rate()))
        .add(failed, format!("{} failed in all", counted.failed))
        .add(
            Tone::Dim,
            format!(
                "   {} look-ups, {} failed",
                counted.lookups, counted.lookups_failed
            ),
        );
    let most = traffic
        .history
        .iter()
        .map(|reading| reading.requests)
        .max()
        .unwrap_or(0)
        .max(1);
    let mut second = Line::default().add(Tone::Plain, "         ");
    for reading in &traffic.history {
        let height = reading.requests * 7 / most;
        let bar = BARS[usize::try_from(height).unwrap_or(0).min(7)];
        let tone = if reading.failed > 0 {
            Tone::Bad
        } else {
            Tone::Good
        };
        second = second.add(tone, bar.to_string());
    }
    let third = answers(&traffic.newest);
    vec![first, second, third]
}

/// Which version answers, as shares of a bar.
fn answers(newest: &BTreeMap<String, u64>) -> Line {
    let all: u64 = newest.values().sum();
    let mut line = Line::default().add(Tone::Dim, " answers ");
    let mut names = Line::default();
    for (index, (version, answers)) in newest
        .iter()
        .filter(|(_, answers)| **answers > 0)
        .enumerate()
    {
        let tone = if index == 0 { Tone::Blue } else { Tone::Green };
        let cells = usize::try_from(answers * ANSWER_CELLS / all.max(1)).unwrap_or(0);
        line = line.add(tone, "█".repeat(cells));
        names = names.add(
            tone,
            format!("  {version} {} %", answers * 100 / all.max(1)),
        );
    }
    line.join(names)
}

#[cfg(test)]
mod tests;
