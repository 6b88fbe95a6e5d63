//! Runs the image's checks: each in a task of its own, so that one that hangs keeps no other from
//! its turn. What the results mean is decided by the lifecycle.

mod grpc;
mod probe;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use calvin_lifecycle::CheckOutcome;
use calvin_model::image::{CheckKind, CheckSpec};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tracing::{Instrument as _, debug_span};

pub(crate) use self::probe::why;
use crate::workload::Variables;

/// First pause before a check that never passed is tried again, and for a command, which costs
/// a process. Doubles up to the check's interval: a workload that comes up in 100 ms is seen to
/// be healthy then, and not an interval later.
const EAGER_PAUSE: Duration = Duration::from_millis(20);
const EAGER_PAUSE_EXEC: Duration = Duration::from_millis(200);

/// One run of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Its place in the image.
    pub index: usize,
    /// How it ended.
    pub outcome: CheckOutcome,
}

/// Where checks look, and how commands are run.
#[derive(Debug)]
pub struct CheckContext {
    /// The instance's address.
    pub address: IpAddr,
    /// What commands may know.
    pub variables: Variables,
    /// The image's directory.
    pub image: PathBuf,
}

/// The running checks; dropping it ends them, with every command that they run.
#[derive(Debug)]
pub struct Checks {
    specs: Vec<Arc<CheckSpec>>,
    context: Arc<CheckContext>,
    results: mpsc::Sender<CheckResult>,
    running: BTreeMap<usize, AbortHandle>,
}

impl Checks {
    /// The checks of an image; none runs yet. Results go to `results`.
    #[must_use]
    pub fn new(
        specs: &[CheckSpec],
        context: CheckContext,
        results: mpsc::Sender<CheckResult>,
    ) -> Self {
        Self {
            specs: specs.iter().cloned().map(Arc::new).collect(),
            context: Arc::new(context),
            results,
            running: BTreeMap::new(),
        }
    }

    /// Runs exactly the checks at these places from now on; those that did not run until now
    /// begin at once.
    pub fn run_only(&mut self, wanted: &[usize]) {
        self.running.retain(|index, task| {
            let stays = wanted.contains(index);
            if !stays {
                task.abort();
            }
            stays
        });
        for index in wanted {
            let Some(spec) = self.specs.get(*index) else {
                continue;
            };
            if self.running.contains_key(index) {
                continue;
            }
            let span = debug_span!("check", name = spec.name);
            let task = Task {
                index: *index,
                spec: spec.clone(),
                context: self.context.clone(),
                results: self.results.clone(),
            };
            let task = tokio::spawn(task.run().instrument(span));
            self.running.insert(*index, task.abort_handle());
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

struct Task {
    index: usize,
    spec: Arc<CheckSpec>,
    context: Arc<CheckContext>,
    results: mpsc::Sender<CheckResult>,
}

impl Task {
    /// Runs until nobody wants the results any more.
    async fn run(self) {
        let interval = self.spec.interval.0;
        let mut next = Instant::now();
        let mut outcome = self.first_outcome(&mut next).await;
        // The first full interval is drawn, so that the checks of many agents that started
        // together do not stay together.
        let mut pause = interval.mul_f64(0.5 + fastrand::f64() / 2.0);
        loop {
            let result = CheckResult {
                index: self.index,
                outcome,
            };
            if self.results.send(result).await.is_err() {
                return;
            }
            next += pause;
            // After a run that took longer than the interval there is nothing to catch up with.
            next = next.max(Instant::now());
            pause = interval;
            sleep_until(next).await;
            outcome = probe::run(&self.spec, &self.context).await;
        }
    }

    /// The outcome of the first interval: a pass as soon as there is one; else the failure with
    /// which the interval ended.
    async fn first_outcome(&self, next: &mut Instant) -> CheckOutcome {
        let end = *next + self.spec.interval.0;
        let mut pause = match self.spec.kind() {
            Some(CheckKind::Exec { .. }) => EAGER_PAUSE_EXEC,
            Some(CheckKind::Http { .. } | CheckKind::Tcp { .. } | CheckKind::Grpc { .. })
            | None => EAGER_PAUSE,
        };
        loop {
            let outcome = probe::run(&self.spec, &self.context).await;
            let again = Instant::now() + pause;
            if outcome == CheckOutcome::Pass || again >= end {
                *next = Instant::now();
                return outcome;
            }
            pause *= 2;
            sleep_until(again).await;
        }
    }
}
