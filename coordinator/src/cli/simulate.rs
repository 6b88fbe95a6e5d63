//! `calvin simulate`: what would a fleet file do, and does any order of crashes and lies of the
//! world break a rule of the coordinator? Needs no coordinator: all of it is virtual.

mod files;
mod seeds;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use calvin_model::{FleetSpec, HumanDuration, fleet::FleetKind};
use calvin_simulator::{Cloud, Fault, Step};
use clap::Args;

use super::{
    exit::Exit,
    failure::Failure,
    screen::{Format, Screen},
    setting::Setting,
};
use crate::api::operator::PROCESS;

/// Arguments of `calvin simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// Fleet files, simulated together: how long a rollout takes, what clients would notice, and
    /// what a bad image would cost. Without one, a small fleet is put through everything that can
    /// go wrong.
    #[arg(value_name = "FLEET.toml")]
    files: Vec<PathBuf>,
    /// How many seeds, each a life of its own; 100 unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000), conflicts_with = "seed")]
    seeds: Option<u64>,
    /// This seed only.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// What goes wrong by chance: names with commas between them, `all`, or `none`. `all` unless
    /// given, and `none` for fleet files; a wrong name shows the right ones.
    #[arg(long, value_name = "LIST", value_parser = Fault::parse_list)]
    faults: Option<BTreeSet<Fault>>,
    /// So many instances, whatever the files say; 6 without files.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    instances: Option<u32>,
    /// So many hours of virtual time go wrong; of fleet files, at most so many are simulated, 24
    /// unless given.
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u64).range(1..=720), conflicts_with = "fault_time")]
    hours: Option<u64>,
    /// Print what happens, line by line; with `--output json` to standard error.
    #[arg(long)]
    trace: bool,
    /// Fleet files: how long their provider takes to make a machine; 30s unless given, or 300ms where
    /// all are of the provider `process`.
    #[arg(long, value_name = "DURATION")]
    machine_takes: Option<HumanDuration>,
    /// Fleet files: how many machines their provider makes at one time; any number unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: Option<u32>,
    /// Without files: the kind of the fleet; an exclusive one has one instance.
    #[arg(
        long,
        value_name = "KIND",
        default_value = "service",
        conflicts_with = "files"
    )]
    kind: Kind,
    /// Without files: how long things go wrong; 90s unless given.
    #[arg(long, value_name = "DURATION", conflicts_with = "files")]
    fault_time: Option<HumanDuration>,
    /// Without files: what is done, in order, instead of what each seed draws.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "files"
    )]
    steps: Vec<Step>,
    /// Without files: of what goes wrong by chance only these, by number; `none` for none.
    #[arg(long, value_name = "LIST", conflicts_with = "files", value_parser = only)]
    only: Option<Only>,
}

/// Kinds of fleets, as a fleet file names them.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Service,
    Exclusive,
    Quorum,
}

impl From<Kind> for FleetKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Service => Self::Service,
            Kind::Exclusive => Self::Exclusive,
            Kind::Quorum => Self::Quorum,
        }
    }
}

/// Numbers of what happens by chance.
#[derive(Debug, Clone)]
struct Only(BTreeSet<u64>);

fn only(text: &str) -> Result<Only, String> {
    if text == "none" {
        return Ok(Only(BTreeSet::new()));
    }
    let numbers = text.split(',').map(|number| number.trim().parse::<u64>());
    numbers
        .collect::<Result<_, _>>()
        .map(Only)
        .map_err(|error| format!("{error}; give numbers with commas between them, or none"))
}

impl SimulateArguments {
    /// The seeds that are wanted; the first of them if only one is.
    fn seed_range(&self) -> std::ops::Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None => 0..self.seeds.unwrap_or(100),
        }
    }

    fn hours(&self) -> Option<Duration> {
        self.hours.map(|hours| Duration::from_secs(hours * 3_600))
    }

    /// How long the provider of these fleets takes to make a machine.
    fn machine_takes(&self, fleets: &[FleetSpec]) -> HumanDuration {
        let processes = fleets.iter().all(|fleet| fleet.provider == PROCESS);
        let usual = if processes {
            HumanDuration::from_millis(300)
        } else {
            HumanDuration::from_secs(30)
        };
        let takes = self.machine_takes.unwrap_or(usual);
        takes.max(HumanDuration::from_millis(1))
    }

    fn cloud(&self, fleets: &[FleetSpec]) -> Cloud {
        let takes = self.machine_takes(fleets).0;
        Cloud {
            make: (takes, takes),
            in_flight: self.in_flight.and_then(|many| usize::try_from(many).ok()),
        }
    }
}

/// Shows a trace: beside the result, where that is for a program.
fn trace(screen: Screen, text: &str) -> Result<(), Failure> {
    match screen.format {
        Format::Table => screen.text(text),
        Format::Json => {
            screen.say(text);
            Ok(())
        }
    }
}

/// Simulates.
pub(crate) fn run(arguments: &SimulateArguments, setting: &Setting) -> Result<Exit, Failure> {
    if arguments.files.is_empty() {
        return seeds::run(arguments, setting);
    }
    let fleets = files::read(arguments)?;
    match &arguments.faults {
        Some(faults) if !faults.is_empty() => {
            seeds::run_fleets(arguments, setting, &fleets, faults)
        }
        Some(_) | None => files::run(arguments, setting, &fleets),
    }
}
