//! Looks for the shortest run that breaks the same rule: fewer steps, fewer faults, fewer
//! instances, a shorter time of faults, and of what happens by chance only what is needed.

use std::{collections::BTreeSet, time::Duration};

use calvin_engine::Planner;
use calvin_model::{HumanDuration, fleet::FleetKind};

use crate::{
    check::{Rule, Violation},
    fault::Fault,
    log::Keep,
    scenario::Scenario,
    simulation::{Outcome, Simulation},
};

/// Most runs that are tried: at some milliseconds each, a person waits for them.
const TRIES: u32 = 1_500;

/// The shortest run that was found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// What to run.
    pub scenario: Scenario,
    /// With which seed: that of the failure.
    pub seed: u64,
    /// What it breaks.
    pub violation: Violation,
    /// What happens in it, up to there.
    pub trace: String,
    /// Runs that were tried.
    pub tries: u32,
}

impl Shrunk {
    /// The command that runs it again.
    #[must_use]
    pub fn command(&self) -> String {
        let scenario = &self.scenario;
        let steps: Vec<String> = scenario.steps.iter().map(ToString::to_string).collect();
        let mut command = format!(
            "calvin simulate --seed {} --instances {} --faults {} --fault-time {} --steps {}",
            self.seed,
            scenario.spec.count,
            Fault::list(&scenario.faults),
            HumanDuration(scenario.faults_for),
            steps.join(","),
        );
        if scenario.spec.kind != FleetKind::Service {
            command.push_str(&format!(" --kind {}", scenario.spec.kind));
        }
        if let Some(only) = &scenario.only {
            let only: Vec<String> = only.iter().map(u64::to_string).collect();
            command.push_str(" --only ");
            command.push_str(if only.is_empty() { "none" } else { "" });
            command.push_str(&only.join(","));
        }
        command
    }

    /// What a person needs to know of it.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "seed {} breaks {}\n\nthe shortest run found ({} tried):\n{}\nto run it again:\n  {}\n",
            self.seed,
            self.violation,
            self.tries,
            self.trace,
            self.command()
        )
    }
}

/// A search under way.
struct Search {
    seed: u64,
    rule: Rule,
    best: Scenario,
    tries: u32,
}

/// Looks for it. Nothing, if the scenario breaks no rule with this seed.
#[must_use]
pub fn shrink(scenario: &Scenario, seed: u64) -> Option<Shrunk> {
    let first = run(scenario, seed);
    let mut search = Search {
        seed,
        rule: first.violations.first()?.rule,
        best: scenario.clone(),
        tries: 1,
    };
    loop {
        let before = search.best.clone();
        search.fewer_steps();
        search.fewer_faults();
        search.fewer_instances();
        search.shorter();
        search.fewer_fleets();
        if before.steps == search.best.steps
            && before.faults == search.best.faults
            && before.spec.count == search.best.spec.count
            && before.faults_for == search.best.faults_for
        {
            break;
        }
    }
    search.fewer_chances();
    let outcome = Simulation::run(&search.best, seed);
    let violation = outcome.violations.first()?.clone();
    Some(Shrunk {
        scenario: search.best,
        seed,
        violation,
        trace: outcome.trace.up_to_breach().to_owned(),
        tries: search.tries,
    })
}

fn run(scenario: &Scenario, seed: u64) -> Outcome {
    Simulation::run_keeping(scenario, seed, Planner, Keep::Violations)
}

impl Search {
    /// Takes a scenario if it breaks the same rule, too. Says whether it does.
    fn takes(&mut self, candidate: Scenario) -> bool {
        if self.tries >= TRIES {
            return false;
        }
        self.tries += 1;
        let outcome = run(&candidate, self.seed);
        let same = outcome.violations.first().map(|broken| broken.rule) == Some(self.rule);
        if same {
            self.best = candidate;
        }
        same
    }

    fn fewer_steps(&mut self) {
        let mut place = self.best.steps.len();
        // The first makes the fleet.
        while place > 1 {
            place -= 1;
            let mut candidate = self.best.clone();
            candidate.steps.remove(place);
            self.takes(candidate);
        }
    }

    fn fewer_faults(&mut self) {
        for fault in Fault::ALL {
            let mut candidate = self.best.clone();
            if candidate.faults.remove(&fault) {
                self.takes(candidate);
            }
        }
    }

    fn fewer_instances(&mut self) {
        for count in 1..self.best.spec.count {
            let mut candidate = self.best.clone();
            candidate.spec.count = count;
            if self.takes(candidate) {
                return;
            }
        }
    }

    fn fewer_fleets(&mut self) {
        let mut place = self.best.more.len();
        while place > 0 {
            place -= 1;
            let mut candidate = self.best.clone();
            candidate.more.remove(place);
            self.takes(candidate);
        }
    }

    fn shorter(&mut self) {
        let mut least = Duration::ZERO;
        let mut most = self.best.faults_for;
        while most.saturating_sub(least) > Duration::from_secs(1) {
            // Whole seconds: fate looks once in each.
            let middle = Duration::from_secs((least + (most - least) / 2).as_secs());
            if middle <= least {
                return;
            }
            let mut candidate = self.best.clone();
            candidate.faults_for = middle;
            if self.takes(candidate) {
                most = middle;
            } else {
                least = middle;
            }
        }
    }

    /// Leaves out ever smaller parts of what happens by chance.
    fn fewer_chances(&mut self) {
        let happened = run(&self.best, self.seed).ended.happened;
        let mut needed: Vec<u64> = match &self.best.only {
            Some(only) => only.iter().copied().collect(),
            None => (1..=happened).collect(),
        };
        let mut part = needed.len().div_ceil(2);
        while part > 0 && !needed.is_empty() {
            let mut from = 0;
            while from < needed.len() {
                let end = (from + part).min(needed.len());
                let left: Vec<u64> = [&needed[..from], &needed[end..]].concat();
                let mut candidate = self.best.clone();
                candidate.only = Some(left.iter().copied().collect::<BTreeSet<u64>>());
                if self.takes(candidate) {
                    needed = left;
                } else {
                    from = end;
                }
            }
            if part == 1 {
                return;
            }
            part = part.div_ceil(2).min(part - 1);
        }
    }
}
