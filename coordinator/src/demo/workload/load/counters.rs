//! What the load generator counts, and how it is read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Failures whose text is kept: what a person reads before looking elsewhere.
const FAILURES_SHOWN: usize = 8;

/// Two failures with less time between them belong to the same stretch of failing.
const ONE_STRETCH: Duration = Duration::from_secs(1);

/// Versions that are told apart. A server that makes up versions must not fill the memory.
const VERSIONS_MAX: usize = 64;

/// All counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Those that did not end well: no connection, no answer in time, not status 200, half a page.
    pub failed: u64,
    /// Requests that ended well, by the version that answered.
    pub by_version: BTreeMap<String, u64>,
    /// Look-ups sent to the name server.
    pub lookups: u64,
    /// Those without a usable answer.
    pub lookups_failed: u64,
    /// New connections.
    pub connections: u64,
    /// Kept-alive connections that the server had closed while they were idle.
    pub reopened: u64,
    /// Longest time without a request that ended well, milliseconds; one that lasts counts.
    pub longest_gap_ms: u64,
    /// For how long requests failed, milliseconds: each failure counts with the time since the one
    /// before it, where that was less than a second ago.
    pub failing_ms: u64,
    /// The newest failures, one sentence each.
    pub newest_failures: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Counters {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counted: Counted,
    last_success: Option<Instant>,
    last_failure: Option<Instant>,
    longest_gap: Duration,
    failing: Duration,
    failures: VecDeque<String>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                counted: Counted::default(),
                last_success: None,
                last_failure: None,
                longest_gap: Duration::ZERO,
                failing: Duration::ZERO,
                failures: VecDeque::new(),
            }),
        }
    }

    pub(super) fn answered(&self, version: String) {
        let mut state = self.lock();
        state.counted.requests += 1;
        let versions = &mut state.counted.by_version;
        if versions.len() < VERSIONS_MAX || versions.contains_key(&version) {
            *versions.entry(version).or_default() += 1;
        }
        let now = Instant::now();
        if let Some(last) = state.last_success.replace(now) {
            state.longest_gap = state.longest_gap.max(now - last);
        }
    }

    pub(super) fn failed(&self, why: String) {
        let mut state = self.lock();
        state.counted.requests += 1;
        state.counted.failed += 1;
        let now = Instant::now();
        if let Some(last) = state.last_failure.replace(now)
            && now - last < ONE_STRETCH
        {
            state.failing += now - last;
        }
        if state.failures.len() == FAILURES_SHOWN {
            state.failures.pop_front();
        }
        state.failures.push_back(why);
    }

    pub(super) fn looked_up(&self) {
        self.lock().counted.lookups += 1;
    }

    pub(super) fn lookup_failed(&self) {
        self.lock().counted.lookups_failed += 1;
    }

    pub(super) fn connected(&self) {
        self.lock().counted.connections += 1;
    }

    pub(super) fn reopened(&self) {
        self.lock().counted.reopened += 1;
    }

    pub(super) fn read(&self) -> Counted {
        let state = self.lock();
        let lasting = state
            .last_success
            .map_or(Duration::ZERO, |last| last.elapsed());
        let gap = state.longest_gap.max(lasting);
        Counted {
            longest_gap_ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
            failing_ms: u64::try_from(state.failing.as_millis()).unwrap_or(u64::MAX),
            newest_failures: state.failures.iter().cloned().collect(),
            ..state.counted.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change above is complete before anything can panic, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
