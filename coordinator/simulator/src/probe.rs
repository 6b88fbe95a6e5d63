//! The coordinator's probes: the world says what they find.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::ports::{Probe, ProbeTarget};
use calvin_model::InstanceId;
use calvin_planner::ProbeObserved;

/// One instance's results.
#[derive(Debug, Clone, Copy)]
struct Result {
    at: Duration,
    passing: bool,
    since: Duration,
}

/// One coordinator's probes.
#[derive(Debug, Default)]
pub(crate) struct SimProbe {
    pub(crate) targets: BTreeMap<InstanceId, Vec<ProbeTarget>>,
    results: BTreeMap<InstanceId, Result>,
    pub(crate) now: Duration,
}

impl SimProbe {
    /// Notes what a probe found. Says whether that is news.
    pub(crate) fn note(&mut self, instance: &InstanceId, passing: bool) -> bool {
        let before = self.results.get(instance).copied();
        let same = before.filter(|before| before.passing == passing);
        let result = Result {
            at: self.now,
            passing,
            since: same.map_or(self.now, |before| before.since),
        };
        self.results.insert(instance.clone(), result);
        same.is_none()
    }
}

impl Probe for SimProbe {
    fn watch(&mut self, targets: &BTreeMap<InstanceId, Vec<ProbeTarget>>) {
        self.results
            .retain(|instance, _| targets.contains_key(instance));
        self.targets.clone_from(targets);
    }

    fn results(&self) -> BTreeMap<InstanceId, ProbeObserved> {
        let observed = self.results.iter().map(|(instance, result)| {
            let observed = ProbeObserved {
                age: self.now.saturating_sub(result.at),
                passing: result.passing,
                same_for: self.now.saturating_sub(result.since),
            };
            (instance.clone(), observed)
        });
        observed.collect()
    }
}
