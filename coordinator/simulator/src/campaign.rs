//! Many seeds on several threads. Each simulation is of one thread, and needs nothing of another.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use calvin_engine::Planner;

use crate::{
    check::Violation,
    log::Keep,
    scenario::Scenario,
    simulation::{Outcome, Simulation},
};

/// Failures that are kept; all are counted.
const KEPT: usize = 20;

/// What many seeds came to.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Seeds that were run.
    pub seeds: u64,
    /// Seeds that broke a rule.
    pub broken: u64,
    /// The first of them, by seed, each with what it broke first.
    pub failures: Vec<(u64, Violation)>,
    /// Passes of all coordinators.
    pub passes: u64,
    /// Runs of all coordinators.
    pub runs: u64,
    /// What went wrong by chance.
    pub happened: u64,
    /// Virtual time, all together.
    pub simulated: Duration,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.passes += outcome.ended.passes;
        self.runs += outcome.ended.runs;
        self.happened += outcome.ended.happened;
        self.simulated += outcome.ended.at;
        if let Some(violation) = outcome.violations.first() {
            self.broken += 1;
            let place = self.failures.partition_point(|(known, _)| *known < seed);
            self.failures.insert(place, (seed, violation.clone()));
            self.failures.truncate(KEPT);
        }
    }
}

/// Runs every seed on so many threads. `scenario` says what happens with a seed; `progress` is told
/// after each how far it is.
pub fn campaign(
    seeds: Range<u64>,
    threads: usize,
    scenario: &(impl Fn(u64) -> Scenario + Sync),
    progress: &(impl Fn(&Tally) + Sync),
) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = Simulation::run_keeping(&scenario(seed), seed, Planner, Keep::Violations);
            // Whoever panicked while it added had its seed's rule broken already: the count goes on.
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(seed, &outcome);
            progress(&tally);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}
