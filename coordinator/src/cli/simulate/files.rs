//! Fleet files: each rollout once for each way in which the new image may turn out.

use std::{fs, path::Path, time::Duration};

use calvin_model::FleetSpec;
use calvin_simulator::{Question, Turnout, forecast};

use super::SimulateArguments;
use crate::cli::{
    exit::Exit,
    failure::Failure,
    render,
    setting::Setting,
    view::{ForecastView, ForecastsView},
};

/// Virtual time after which it is given up.
const LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// Reads the files: a mistake is shown with its file, line and key.
pub(super) fn read(arguments: &SimulateArguments) -> Result<Vec<FleetSpec>, Failure> {
    let mut fleets: Vec<FleetSpec> = Vec::new();
    for path in &arguments.files {
        let mut fleet = read_file(path)?;
        if let Some(count) = arguments.instances {
            fleet.count = count;
        }
        if fleets.iter().any(|known| known.name == fleet.name) {
            let tried = format!("could not simulate {}", path.display());
            let reason = format!("another of the files is of fleet {}, too", fleet.name);
            return Err(Failure::new(Exit::Usage, tried).reason(reason));
        }
        fleets.push(fleet);
    }
    let takes = arguments.machine_takes(&fleets);
    let late = fleets
        .iter()
        .find(|fleet| fleet.replace.healthy_deadline <= takes);
    if let Some(fleet) = late {
        let reason = format!(
            "healthy_deadline {} of fleet {} is not above the {takes} that a machine takes: none would ever be healthy in time",
            fleet.replace.healthy_deadline, fleet.name
        );
        let next = "say how long a machine takes there: --machine-takes 5s";
        return Err(Failure::new(Exit::Usage, "could not simulate".to_owned())
            .reason(reason)
            .next(next));
    }
    Ok(fleets)
}

fn read_file(path: &Path) -> Result<FleetSpec, Failure> {
    let wrong = || Failure::new(Exit::Usage, format!("could not read {}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong().because(error))?;
    FleetSpec::parse(&path.display().to_string(), &text).map_err(|error| wrong().because(error))
}

/// Simulates them.
pub(super) fn run(
    arguments: &SimulateArguments,
    setting: &Setting,
    fleets: &[FleetSpec],
) -> Result<Exit, Failure> {
    let question = Question {
        fleets: fleets.to_vec(),
        cloud: arguments.cloud(fleets),
        limit: arguments.hours().unwrap_or(LIMIT),
        seed: arguments.seed.unwrap_or(1),
    };
    let mut turnouts = Vec::new();
    let mut broken = false;
    for turnout in Turnout::ALL {
        let Some(forecast) = forecast(&question, turnout) else {
            continue;
        };
        broken |= !forecast.violations.is_empty();
        if arguments.trace {
            let trace = format!("{}\n{}\n", turnout.as_str(), forecast.trace);
            super::trace(setting.screen, &trace)?;
        }
        turnouts.push(ForecastView::new(&forecast));
    }
    let view = ForecastsView {
        machine_takes_ms: millis(arguments.machine_takes(fleets).0),
        in_flight: arguments.in_flight,
        limit_ms: millis(question.limit),
        images: fleets.iter().map(|fleet| fleet.image.to_string()).collect(),
        turnouts,
    };
    setting.screen.show(&view, render::simulate::forecasts)?;
    Ok(if broken { Exit::RuleBroken } else { Exit::Done })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
