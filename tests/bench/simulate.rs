//! The simulator: how many seeds it runs in a second with everything going wrong, in how much
//! memory, and how close a rollout over thousands of machines comes to what its provider can do.
//! A wave is twenty times what its provider makes at one time: in each the last machine is followed by
//! soak, settling, bake and drain, in which the provider has nothing to do.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod memory;
mod report;

use std::{
    fs,
    time::{Duration, Instant},
};

use calvin_model::{FleetSpec, fleet::FleetKind};
use calvin_simulator::{Cloud, Fault, Question, Scenario, Tally, Turnout, campaign, forecast};

use self::{memory::peak_memory_mb, report::Figures};

/// Seeds of each run, and runs: 10,000 together.
const SEEDS: u64 = 2_000;
const RUNS: u64 = 5;
/// Of the provider's own lower bound, in percent: a rollout may take 5 % longer.
const BOUND: f64 = 105.0;
/// The large fleet: instances, machines that its provider makes at one time, and how long each takes.
const INSTANCES: u32 = 2_000;
const IN_FLIGHT: u32 = 50;
const MACHINE: Duration = Duration::from_secs(60);

fn main() {
    let mut figures = Figures::new("simulate");
    large_fleet(&mut figures);
    let peak = peak_memory_mb().unwrap_or(f64::NAN);
    figures.add("peak resident memory of that", vec![peak], "MB", None);
    // The peak begins anew; where that is not possible, the seeds are shown with that of before.
    let _ = fs::write("/proc/self/clear_refs", "5");
    seeds(&mut figures);
    figures.print();
}

fn seeds(figures: &mut Figures) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut took = Vec::new();
    let mut broken = 0;
    let used = processor_seconds();
    for run in 0..RUNS {
        let seeds = run * SEEDS..(run + 1) * SEEDS;
        let started = Instant::now();
        let scenario = |seed| Scenario::drawn(FleetKind::Service, 6, Fault::ALL, seed);
        let tally = campaign(seeds, threads, &scenario, &|_: &Tally| {});
        took.push(started.elapsed().as_secs_f64() * 5.0);
        broken += tally.broken;
    }
    assert_eq!(broken, 0, "seeds that break a rule");
    let rates: Vec<f64> = took.iter().map(|took| 10_000.0 / took).collect();
    figures.add("seeds per second", rates, "/s", None);
    if let (Some(before), Some(after)) = (used, processor_seconds()) {
        let per_core = (after - before) / f64::from(u32::try_from(threads).unwrap_or(1));
        figures.add(
            "processor time of them, per core",
            vec![per_core],
            "s",
            None,
        );
    }
    let memory = peak_memory_mb().unwrap_or(f64::NAN);
    figures.add(
        "10,000 seeds of 6 instances, all faults",
        took,
        "s",
        Some(180.0),
    );
    figures.add(
        "peak resident memory of these",
        vec![memory],
        "MB",
        Some(200.0),
    );
}

/// A rolling replacement: the provider's own lower bound is that it makes as many machines at one
/// time as it can, from the order on.
fn large_fleet(figures: &mut Figures) {
    let text = format!(
        "name = \"web\"\nimage = \"web@2\"\ncount = {INSTANCES}\n\
         [replace]\nsurge = \"50%\"\nmin_healthy = \"5s\"\nsettle = \"5s\"\nbake = \"10s\"\n\
         healthy_deadline = \"1h\"\nprogress_deadline = \"1h\"\n"
    );
    let spec = FleetSpec::parse("bench", &text).expect("a fleet file");
    let question = Question {
        fleets: vec![spec],
        cloud: Cloud {
            make: (MACHINE, MACHINE),
            in_flight: Some(IN_FLIGHT as usize),
        },
        limit: Duration::from_secs(24 * 3_600),
        seed: 1,
    };
    let started = Instant::now();
    let forecast = forecast(&question, Turnout::Good).expect("there is a fleet");
    let took = started.elapsed();
    assert!(forecast.ended, "the rollout did not end");
    let least = forecast.fleets[0].least_answering;
    assert_eq!(least, INSTANCES as usize, "the least that answered");
    let takes = forecast.fleets[0].takes;
    let bound = MACHINE * INSTANCES.div_ceil(IN_FLIGHT);
    println!(
        "2,000 instances, 50 at one time, 60 s each: {takes:?} simulated in {took:?}, the \
         provider alone needs {bound:?}"
    );
    let share = takes.as_secs_f64() / bound.as_secs_f64() * 100.0;
    figures.add(
        "2,000 instances: share of the bound",
        vec![share],
        "%",
        Some(BOUND),
    );
    figures.add(
        "2,000 instances: time to simulate",
        vec![took.as_secs_f64()],
        "s",
        None,
    );
}

/// Processor time of this process so far, in seconds: what other processes take does not count.
fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    // User and system time, in hundredths of a second.
    Some((ticks(11)? + ticks(12)?) / 100.0)
}
