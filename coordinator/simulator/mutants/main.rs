//! Simulates every mutant until a rule notices it, and says which and after how many seeds. One
//! that no rule notices is a missing check, and fails the run.
//!
//! The same seeds are simulated without any mutant, too: a rule that breaks then proves nothing.
//!
//! `mutants SEED [MUTANT]` tells what happened with that seed.

#![allow(
    clippy::print_stdout,
    reason = "a program that shows a table to whoever runs it"
)]

mod draw;

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use calvin_engine::Planner;
use calvin_model::Mutant;
use calvin_simulator::{Keep, Outcome, Simulation, Violation};

/// Seeds in which a mutant must be noticed.
const SEEDS: u64 = 2_000;
/// Simulations at a time.
const THREADS: usize = 2;

/// What became of one mutant; the planner as it is has none.
struct Noticed {
    mutant: Option<Mutant>,
    /// The seeds that noticed it, each with the first rule that broke: the first of them, and of the
    /// code as it is all of them.
    by: Vec<(u64, Violation)>,
}

fn run(mutant: Option<Mutant>, seed: u64, keep: Keep) -> Outcome {
    let scenario = draw::scenario(seed);
    let run = || Simulation::run_keeping(&scenario, seed, Planner, keep);
    match mutant {
        Some(mutant) => mutant.during(run),
        None => run(),
    }
}

fn simulate(mutant: Option<Mutant>) -> Noticed {
    let broken = |seed| {
        let broken = run(mutant, seed, Keep::Violations).violations;
        broken.into_iter().next().map(|first| (seed, first))
    };
    let most = if mutant.is_some() { 1 } else { usize::MAX };
    let by = (0..SEEDS).filter_map(broken).take(most).collect();
    Noticed { mutant, by }
}

/// Tells what happened with one seed.
fn tell(seed: &str, mutant: Option<&String>) -> ExitCode {
    let Ok(seed) = seed.parse() else {
        println!("{seed} is no seed: a number is");
        return ExitCode::FAILURE;
    };
    let known = |name: &String| {
        Mutant::ALL
            .into_iter()
            .find(|it| format!("{it:?}") == *name)
    };
    let mutant = match mutant.map(|name| (name, known(name))) {
        None => None,
        Some((_, Some(mutant))) => Some(mutant),
        Some((name, None)) => {
            println!("there is no mutant {name}; there are {:?}", Mutant::ALL);
            return ExitCode::FAILURE;
        }
    };
    let scenario = draw::scenario(seed);
    let outcome = run(mutant, seed, Keep::Trace);
    println!("{:#?}\n{:?}", scenario.steps, scenario.faults);
    println!("{}", outcome.trace.as_str());
    for violation in outcome.violations {
        println!("{violation}");
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    if cfg!(debug_assertions) {
        println!("run this with --release: with debug assertions the planner panics first");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(seed) = arguments.first() {
        return tell(seed, arguments.get(1));
    }
    let mut cases = vec![None];
    cases.extend(Mutant::ALL.map(Some));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(mutant) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let noticed = simulate(*mutant);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push(noticed);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|noticed| noticed.mutant.map(|mutant| format!("{mutant:?}")));
    show(&results)
}

fn show(results: &[Noticed]) -> ExitCode {
    let mut failed = 0;
    println!(
        "{:<22} {:>5}  {:<34} what it does",
        "mutant", "seeds", "noticed by"
    );
    for Noticed { mutant, by } in results {
        let name = mutant.map_or("(none)".to_owned(), |mutant| format!("{mutant:?}"));
        let what = mutant.map_or("the code as it is", Mutant::what);
        let (seeds, rule) = match by.first() {
            Some((seed, violation)) => (seed + 1, violation.rule.to_string()),
            None => (SEEDS, "-".to_owned()),
        };
        println!("{name:<22} {seeds:>5}  {rule:<34} {what}");
        if mutant.is_some() && by.is_empty() {
            println!("  FAILED: no rule notices it in {SEEDS} seeds: a check is missing");
            failed += 1;
        }
        if mutant.is_none() && !by.is_empty() {
            for (seed, violation) in by {
                println!("  FAILED: seed {seed}: {violation}");
            }
            failed += 1;
        }
    }
    let passed = results.len() - failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
