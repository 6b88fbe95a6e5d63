//! What the engine and the task share: what is wanted one way, what is seen the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use calvin_consul::{Error, Key, Pulse, SessionId, txn::Op};
use calvin_model::{CatalogueRole, FleetName, InstanceId};
use tokio::{sync::Notify, time::Instant};

use super::{
    decide::Decision,
    holds::{Fault, FaultKind, Lock, NameHealth, Signs},
    locks::Locks,
};

/// The roles of one fleet.
pub(super) type Roles = BTreeMap<InstanceId, CatalogueRole>;

/// The one thing that both ends hold.
#[derive(Clone)]
pub(super) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// The engine wants something else.
    news: Notify,
    /// Wakes the engine.
    poke: Arc<dyn Fn() + Send + Sync>,
}

/// Both ways.
#[derive(Debug)]
pub(super) struct State {
    /// As the engine set them, and as they take effect from its last `publish` on.
    pub(super) set: BTreeMap<FleetName, Roles>,
    pub(super) wanted: BTreeMap<FleetName, Roles>,
    /// Instances whose entries the engine wants removed.
    pub(super) ghosts: BTreeSet<InstanceId>,
    /// What was seen of each fleet that was wanted and read.
    pub(super) seen: BTreeMap<FleetName, Decision>,
    /// Everybody who has an entry that may be removed once he is gone.
    pub(super) listed: Vec<(InstanceId, CatalogueRole)>,
    pub(super) lock: Lock,
    /// The session that holds it.
    guard: Option<(Key, SessionId)>,
    signed: Option<Instant>,
    fault: Option<Failing>,
    /// Every name was read once.
    pub(super) complete: bool,
    pub(super) names: BTreeMap<String, NameState>,
    /// What was read of the locks of exclusive fleets.
    pub(super) locks: Locks,
}

/// What failed last, and since when.
#[derive(Debug, Clone)]
struct Failing {
    text: String,
    kind: FaultKind,
    since: Instant,
}

/// One watched name.
#[derive(Debug, Default)]
pub(super) struct NameState {
    pulse: Pulse,
    fault: Option<Failing>,
}

impl Failing {
    fn again(before: Option<&Self>, error: &Error) -> Self {
        let now = Instant::now();
        let fault = Fault::new(error, Duration::ZERO);
        Self {
            text: fault.text,
            kind: fault.kind,
            since: before.map_or(now, |before| before.since),
        }
    }

    fn fault(&self) -> Fault {
        Fault {
            text: self.text.clone(),
            kind: self.kind,
            lasts: self.since.elapsed(),
        }
    }
}

impl NameState {
    pub(super) fn new(pulse: Pulse) -> Self {
        Self { pulse, fault: None }
    }

    pub(super) fn failed(&mut self, error: &Error) {
        self.fault = Some(Failing::again(self.fault.as_ref(), error));
    }

    pub(super) fn answered(&mut self) {
        self.fault = None;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl State {
    /// Age of the newest proof that what is read is what there is.
    pub(super) fn proof_age(&self) -> Duration {
        self.signed.map_or(Duration::MAX, |at| at.elapsed())
    }

    pub(super) fn signs(&self) -> Signs {
        let name = |state: &NameState| NameHealth {
            age: state.pulse.age(),
            fault: state.fault.as_ref().map(Failing::fault),
        };
        let names = self.names.iter();
        Signs {
            lock: self.lock.clone(),
            sign_age: self.signed.map(|at| at.elapsed()),
            fault: self.fault.as_ref().map(Failing::fault),
            complete: self.complete,
            names: names
                .map(|(key, state)| (key.clone(), name(state)))
                .collect(),
        }
    }
}

impl Shared {
    pub(super) fn new(poke: Arc<dyn Fn() + Send + Sync>) -> Self {
        let state = State {
            set: BTreeMap::new(),
            wanted: BTreeMap::new(),
            ghosts: BTreeSet::new(),
            seen: BTreeMap::new(),
            listed: Vec::new(),
            lock: Lock::NotOurs("the environment's lock in Consul was not taken yet".to_owned()),
            guard: None,
            signed: None,
            fault: None,
            complete: false,
            names: BTreeMap::new(),
            locks: Locks::default(),
        };
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                news: Notify::new(),
                poke,
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole at each step, so a panic elsewhere cannot have left it half
        // changed.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the engine wants something else.
    pub(super) fn tell_task(&self) {
        self.inner.news.notify_one();
    }

    /// Waits until the engine wants something else.
    pub(super) async fn news(&self) {
        self.inner.news.notified().await;
    }

    pub(super) fn poke(&self) {
        (self.inner.poke)();
    }

    /// The lock is ours, with this session; known since the request that says so was sent.
    pub(super) fn locked(&self, key: &Key, session: &SessionId, at: Instant) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.lock, Lock::Ours);
        state.guard = Some((key.clone(), session.clone()));
        state.signed = Some(at);
        state.fault = None;
        drop(state);
        if before != Lock::Ours {
            self.tell_task();
            self.poke();
        }
    }

    /// The lock is not ours.
    pub(super) fn unlocked(&self, why: String) {
        let mut state = self.state();
        state.guard = None;
        state.fault = None;
        let changed = state.lock != Lock::NotOurs(why.clone());
        state.lock = Lock::NotOurs(why);
        drop(state);
        if changed {
            self.poke();
        }
    }

    /// It could not be asked whether the lock is ours.
    pub(super) fn lock_unknown(&self, error: &Error) {
        let mut state = self.state();
        state.fault = Some(Failing::again(state.fault.as_ref(), error));
        drop(state);
        self.poke();
    }

    /// What every write begins with; none while the lock is not ours.
    pub(super) fn guard(&self) -> Option<Op> {
        let (key, session) = self.state().guard.clone()?;
        Some(Op::CheckSession { key, session })
    }
}
