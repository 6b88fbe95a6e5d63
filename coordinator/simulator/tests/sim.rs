//! The suite `sim`: many seeds with all faults, each fault alone, and the same run again byte for
//! byte. With optimised code; without, only as many seeds as take no time.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test measures, and says how fast it was"
)]

use std::{
    ops::Range,
    process::Command,
    time::{Duration, Instant},
};

use calvin_model::fleet::FleetKind;
use calvin_simulator::{Fault, Scenario, Simulation, Tally, campaign, shrink};

/// Instances of the fleet that every seed is about.
const INSTANCES: u32 = 6;

/// How many seeds: for a look, by the suite, and by the deep suite.
fn seeds(look: u64, suite: u64, deep: u64) -> u64 {
    if cfg!(debug_assertions) {
        look
    } else if std::env::var_os("CALVIN_TESTS_DEEP").is_some() {
        deep
    } else {
        suite
    }
}

fn run(name: &str, seeds: Range<u64>, scenario: &(impl Fn(u64) -> Scenario + Sync)) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    let tally = campaign(seeds, threads, scenario, &|_: &Tally| {});
    let took = started.elapsed();
    println!(
        "{name}: {} seeds in {:.1} s, {:.0} seeds/s on {threads} threads, {} broken; each {:.0} s \
         of virtual time with {:.1} runs of the coordinator and {:.1} things that went wrong",
        tally.seeds,
        took.as_secs_f64(),
        rate(tally.seeds, took),
        tally.broken,
        tally.simulated.as_secs_f64() / count(tally.seeds),
        count(tally.runs) / count(tally.seeds),
        count(tally.happened) / count(tally.seeds),
    );
    let Some((seed, _)) = tally.failures.first() else {
        return;
    };
    let all: Vec<String> = tally
        .failures
        .iter()
        .map(|(seed, violation)| format!("seed {seed}: {violation}"))
        .collect();
    let shortest = shrink(&scenario(*seed), *seed).map(|shrunk| shrunk.report());
    panic!(
        "{name}: {} of {} seeds break a rule:\n{}\n\n{}",
        tally.broken,
        tally.seeds,
        all.join("\n"),
        shortest.unwrap_or_default()
    );
}

fn rate(seeds: u64, took: Duration) -> f64 {
    count(seeds) / took.as_secs_f64().max(0.001)
}

fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[test]
fn all_faults_together_break_no_rule() {
    run("all faults", 0..seeds(30, 1_000, 10_000), &|seed| {
        Scenario::drawn(FleetKind::Service, INSTANCES, Fault::ALL, seed)
    });
}

#[test]
fn each_fault_alone_breaks_no_rule() {
    for fault in Fault::ALL {
        run(fault.as_str(), 0..seeds(1, 20, 200), &|seed| {
            Scenario::drawn(FleetKind::Service, 3, [fault], seed)
        });
    }
}

#[test]
fn small_fleets_break_no_rule() {
    for instances in [1, 2, 3] {
        let name = format!("all faults, {instances} instances");
        run(&name, 0..seeds(5, 100, 1_000), &|seed| {
            Scenario::drawn(FleetKind::Service, instances, Fault::ALL, seed)
        });
    }
}

#[test]
fn exclusive_fleets_break_no_rule() {
    run("all faults, exclusive", 0..seeds(10, 300, 3_000), &|seed| {
        Scenario::drawn(FleetKind::Exclusive, 1, Fault::ALL, seed)
    });
}

#[test]
fn quorum_fleets_break_no_rule() {
    run("all faults, quorum", 0..seeds(10, 300, 3_000), &|seed| {
        Scenario::drawn(FleetKind::Quorum, 3, Fault::ALL, seed)
    });
}

/// The traces of some seeds, one after the other.
fn traces() -> String {
    let traces = (100..100 + seeds(5, 40, 200)).map(|seed| {
        let scenario = Scenario::drawn(FleetKind::Service, INSTANCES, Fault::ALL, seed);
        Simulation::run(&scenario, seed).trace.as_str().to_owned()
    });
    traces.collect()
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    let first = traces();
    assert!(first.lines().count() > 500, "{first}");
    assert!(first == traces(), "two runs in one process differ");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "prints_traces", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&first), "a run in another process differs");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn prints_traces() {
    println!("{}", traces());
}
