//! Probes every instance over and over, and keeps the newest result of each.
//!
//! An instance is probed in a task of its own that sleeps most of the time; how many look at once
//! is bounded. The engine reads results and hands over targets through one shared table, and is
//! poked when a result changes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use calvin_engine::ports::{Probe, ProbeTarget};
use calvin_model::InstanceId;
use calvin_planner::ProbeObserved;
use futures_util::future::join_all;
use tokio::{
    sync::{Notify, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};
use tracing::Instrument as _;

use super::attempt::{Attempt, attempt};

/// Time between two looks at one instance, plus up to as much again by chance, so that 10,000
/// instances are not looked at in the same moment.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks at one time. Of 10,000 instances, one in 1.5 s each, 6,700 looks begin in a second; a
/// healthy one takes about a millisecond, so below ten run at once. A whole network that went
/// silent holds each for the check's timeout, 2 s as a rule and 3 s at most: with 2,048 it takes
/// 10 s to look at all of it, at most 15. Each takes a descriptor; the agents take 10,000.
const ATTEMPTS: usize = 2048;
/// Looks that must fail in a row before an instance that passed fails: one may meet a pause of the
/// workload or a lost packet, and the image's own checks are as patient.
const FALL: u32 = 2;

/// Called when a result changed.
pub type OnChange = Arc<dyn Fn() + Send + Sync>;

#[derive(Debug, Default)]
struct Table {
    /// What to probe, and the result; `None` before the first.
    instances: BTreeMap<InstanceId, Probed>,
}

#[derive(Debug)]
struct Probed {
    targets: Arc<[ProbeTarget]>,
    seen: Option<Seen>,
    /// Looks that failed since the last that passed.
    misses: u32,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    passing: bool,
    last: Instant,
    /// When the first of those that say the same was made.
    same_since: Instant,
}

struct Shared {
    table: Mutex<Table>,
    retargeted: Notify,
    changed: OnChange,
    attempts: Semaphore,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is one assignment; a panic cannot leave half of one.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's end.
#[derive(Debug)]
pub struct ProbePort(Arc<Shared>);

/// The probing end: one future that owns every probe.
#[derive(Debug)]
pub struct Prober(Arc<Shared>);

/// Both ends. `changed` is called when a result changed.
#[must_use]
pub fn prober(changed: OnChange) -> (ProbePort, Prober) {
    let shared = Arc::new(Shared {
        table: Mutex::default(),
        retargeted: Notify::new(),
        changed,
        attempts: Semaphore::new(ATTEMPTS),
    });
    (ProbePort(Arc::clone(&shared)), Prober(shared))
}

impl Probe for ProbePort {
    fn watch(&mut self, targets: &BTreeMap<InstanceId, Vec<ProbeTarget>>) {
        let mut table = self.0.table();
        table.instances.retain(|id, _| targets.contains_key(id));
        for (id, targets) in targets {
            match table.instances.get(id) {
                Some(probed) if *probed.targets == **targets => {}
                Some(_) | None => {
                    let probed = Probed {
                        targets: targets.as_slice().into(),
                        seen: None,
                        misses: 0,
                    };
                    table.instances.insert(id.clone(), probed);
                }
            }
        }
        drop(table);
        self.0.retargeted.notify_one();
    }

    fn results(&self) -> BTreeMap<InstanceId, ProbeObserved> {
        let now = Instant::now();
        let observed = |seen: Seen| ProbeObserved {
            age: now.saturating_duration_since(seen.last),
            passing: seen.passing,
            same_for: seen.last.saturating_duration_since(seen.same_since),
        };
        let table = self.0.table();
        table
            .instances
            .iter()
            .filter_map(|(id, probed)| Some((id.clone(), observed(probed.seen?))))
            .collect()
    }
}

impl Prober {
    /// Probes until it is dropped.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<InstanceId, (Arc<[ProbeTarget]>, AbortHandle)> = BTreeMap::new();
        loop {
            self.follow_targets(&mut tasks, &mut running);
            tokio::select! {
                () = self.0.retargeted.notified() => {}
                // Ended tasks are those that were aborted; they are only cleared away.
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    fn follow_targets(
        &self,
        tasks: &mut JoinSet<()>,
        running: &mut BTreeMap<InstanceId, (Arc<[ProbeTarget]>, AbortHandle)>,
    ) {
        let table = self.0.table();
        running.retain(|id, (targets, task)| {
            let wanted = table.instances.get(id);
            let stays = wanted.is_some_and(|probed| Arc::ptr_eq(&probed.targets, targets));
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, probed) in &table.instances {
            if running.contains_key(id) {
                continue;
            }
            let targets = Arc::clone(&probed.targets);
            let span = tracing::debug_span!("probe", instance = %id);
            let probing = probe(Arc::clone(&self.0), id.clone(), Arc::clone(&targets));
            let task = tasks.spawn(probing.instrument(span));
            running.insert(id.clone(), (targets, task));
        }
    }
}

async fn probe(shared: Arc<Shared>, id: InstanceId, targets: Arc<[ProbeTarget]>) {
    loop {
        let looks = targets.iter().map(async |target| {
            // The semaphore is never closed: an error cannot come, and would only lift the bound.
            let _permit = shared.attempts.acquire().await;
            attempt(target).await
        });
        // Side by side: an instance with many ports is looked at as often as others.
        let looks = join_all(looks).await;
        let all = looks.into_iter().fold(Attempt::Passing, Attempt::and);
        if record(&shared, &id, &targets, all) {
            (shared.changed)();
        }
        sleep(INTERVAL + INTERVAL.mul_f64(fastrand::f64())).await;
    }
}

/// Keeps a result; says whether it differs from the one before. What says nothing, or not enough
/// yet, is not kept: the result before it grows old, and in the end counts no more.
fn record(shared: &Shared, id: &InstanceId, targets: &Arc<[ProbeTarget]>, look: Attempt) -> bool {
    let now = Instant::now();
    let mut table = shared.table();
    let Some(probed) = table.instances.get_mut(id) else {
        return false;
    };
    if !Arc::ptr_eq(&probed.targets, targets) {
        return false;
    }
    let passing = match look {
        Attempt::Passing => true,
        Attempt::Failing => false,
        Attempt::Unknown => return false,
    };
    probed.misses = if passing { 0 } else { probed.misses + 1 };
    let passed = probed.seen.is_some_and(|seen| seen.passing);
    if passed && !passing && probed.misses < FALL {
        return false;
    }
    let same_since = match probed.seen {
        Some(seen) if seen.passing == passing => seen.same_since,
        Some(_) | None => now,
    };
    let changed = probed.seen.is_none_or(|seen| seen.passing != passing);
    probed.seen = Some(Seen {
        passing,
        last: now,
        same_since,
    });
    changed
}

#[cfg(test)]
mod tests;
