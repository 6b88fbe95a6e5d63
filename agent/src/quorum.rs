//! Asks a member of a quorum what it knows of its voters: runs the image's command again and again,
//! and reads the four lines that it writes. What it writes is a stranger's: too much, twice the same,
//! half of it or nothing is a failed run, and a failed run takes back what was known.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use calvin_lifecycle::QuorumOutcome;
use calvin_model::{QuorumReport, fleet::COUNT_MAX, image::QuorumSpec};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    command::{CommandOutcome, CommandSpec, run_command},
    health::why,
    workload::Variables,
};

/// What is asked, and how commands are run.
#[derive(Debug)]
pub struct Quorum {
    /// The image's command.
    pub spec: QuorumSpec,
    /// What commands may know.
    pub variables: Variables,
    /// The image's directory.
    pub image: PathBuf,
}

impl Quorum {
    /// Asks for as long as somebody wants to know.
    pub async fn run(self, outcomes: mpsc::Sender<QuorumOutcome>) {
        loop {
            let outcome = match self.ask().await {
                Ok(report) => QuorumOutcome::Said(report),
                Err(reason) => QuorumOutcome::Failed(reason),
            };
            if outcomes.send(outcome).await.is_err() {
                return;
            }
            // Not all members of one fleet at the same moment.
            sleep(self.spec.interval.0.mul_f64(0.9 + fastrand::f64() / 10.0)).await;
        }
    }

    async fn ask(&self) -> Result<QuorumReport, String> {
        let none = BTreeMap::new();
        let spec = CommandSpec::new(&self.spec.exec, &self.variables, &none, &self.image)
            .map_err(|error| error.to_string())?;
        let outcome = run_command(&spec, self.spec.timeout.0).await;
        read(&outcome)
    }
}

/// What a run said.
fn read(outcome: &CommandOutcome) -> Result<QuorumReport, String> {
    if !outcome.passed() {
        return Err(why(outcome));
    }
    if outcome.output_dropped > 0 {
        return Err("it wrote more than four lines can be".to_owned());
    }
    parse(&outcome.output)
}

/// Reads the four lines; other lines are not ours.
fn parse(output: &str) -> Result<QuorumReport, String> {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    let lines = output.lines().filter_map(|line| line.split_once('='));
    for (key, value) in lines {
        let key = key.trim();
        if KEYS.contains(&key) && values.insert(key, value.trim()).is_some() {
            return Err(format!("it said {key} twice"));
        }
    }
    let value = |key: &str| {
        let found = values.get(key).copied();
        found.ok_or_else(|| format!("it did not say {key}="))
    };
    let number = |key: &str| {
        let text = value(key)?;
        let number = text.parse().ok().filter(|number| *number <= COUNT_MAX);
        number.ok_or_else(|| format!("{key}={:?} is no number of voters", short(text)))
    };
    let word = |key: &str| match value(key)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!(
            "{key}={:?} is neither true nor false",
            short(other)
        )),
    };
    let report = QuorumReport {
        voters: number("voters")?,
        needed: number("needed")?,
        leader: word("leader")?,
        caught_up: word("caught_up")?,
        age: Duration::ZERO,
    };
    if report.needed == 0 {
        return Err("needed=0: some voter is always needed".to_owned());
    }
    Ok(report)
}

const KEYS: [&str; 4] = ["voters", "needed", "leader", "caught_up"];
/// Characters of a value that are shown.
const SHOWN: usize = 20;

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
