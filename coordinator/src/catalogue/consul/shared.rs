//! What the engine and the task share: what is wanted one way, what is seen the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use calvin_consul::{Advance, Error, Key, Prefix, SessionId, kv::Entry, txn::Op};
use calvin_engine::ports::{CatalogueDebt, CatalogueWord};
use calvin_model::{CatalogueRole, FleetName, InstanceId};
use calvin_planner::{Event, EventKind};
use tokio::{sync::Notify, time::Instant};

use super::{
    decide::{Decision, Said},
    faults::{About, Board, Failing, Show, Since},
    holds::{Lock, Signs, holds},
    locks::Locks,
    owners::Foreign,
    reading::Reading,
};

/// A token that is to go is gone a moment later; one that is not for so long waits for something.
const OWES_QUIETLY: Duration = Duration::from_secs(10);

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
    pub(super) names: BTreeMap<String, Reading>,
    /// Of the newest value that was read of any name.
    number: u64,
    /// What cannot be done now, beside what is read.
    board: Board,
    /// Instances that are gone whose tokens were not read back as gone yet, and since when.
    pub(super) debts: BTreeMap<InstanceId, Since>,
    /// What was done and is not in the history yet.
    deeds: Vec<Event>,
    /// Whether Consul may have lost what was there before.
    suspect: bool,
    /// What only says that it is of our instances, by node, and since when.
    foreign: BTreeMap<String, (Foreign, Since)>,
    /// What was read of the locks of exclusive fleets.
    pub(super) locks: Locks,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl State {
    /// What people are told beside why nothing is decided.
    pub(super) fn word(&self) -> CatalogueWord {
        let now = Instant::now();
        let show = match holds(&self.signs()) {
            Some(_) => Show::Denials,
            None => Show::All,
        };
        let debts = self.debts.iter();
        let waiting = debts.filter(|(_, since)| now.duration_since(since.at) > OWES_QUIETLY);
        let debts = waiting.map(|(instance, since)| CatalogueDebt {
            instance: instance.clone(),
            since_wall_ms: since.wall_ms,
        });
        let mut faults = self.board.shown(show, now);
        let foreign = self.foreign.values();
        faults.extend(foreign.map(|(one, since)| one.shown(*since, now)));
        CatalogueWord {
            faults,
            debts: debts.collect(),
        }
    }

    /// These entries only say that they are of our instances.
    pub(super) fn show_foreign(&mut self, foreign: Vec<Foreign>) {
        let mut before = std::mem::take(&mut self.foreign);
        for one in foreign {
            let since = before.remove(&one.node).map(|(_, since)| since);
            let since = since.unwrap_or_else(|| {
                tracing::warn!(node = one.node, instances = ?one.instances, "entries in Consul say that they are of instances that are not registered there: they are left alone");
                Since::of(Instant::now())
            });
            self.foreign.insert(one.node.clone(), (one, since));
        }
    }

    /// After an index that went back, what was there before may be gone with all else.
    pub(super) fn suspect_after(&mut self, advance: Advance) {
        match advance {
            Advance::Reset => self.suspect = true,
            Advance::First | Advance::Same | Advance::Changed => {}
        }
    }

    /// What was done since it was asked last.
    pub(super) fn take_deeds(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.deeds)
    }

    /// Watches a name from now on.
    pub(super) fn watches(&mut self, name: String) {
        self.names.insert(name, Reading::new(self.number));
    }

    /// A new value was read of a name, which waits for its turn. Gives its number.
    pub(super) fn gives(&mut self, name: &str, now: Instant) -> u64 {
        self.number += 1;
        if let Some(reading) = self.names.get_mut(name) {
            reading.gives(self.number, now);
        }
        self.number
    }

    /// Ages of what is shown of the names that say this. A query that waits says nothing new, also where
    /// it waits at a server that leads no more; so what it said last is as old as that answer is.
    pub(super) fn ages(&self, said: &Said, now: Instant) -> impl Iterator<Item = Option<Duration>> {
        let names = said.by.iter();
        names.map(move |name| self.names.get(name).and_then(|reading| reading.age(now)))
    }

    pub(super) fn signs(&self) -> Signs {
        let now = Instant::now();
        let used = self.names.iter().filter(|(_, reading)| reading.used);
        Signs {
            lock: self.lock.clone(),
            sign_age: self.signed.map(|at| at.elapsed()),
            fault: self.fault.as_ref().map(Failing::fault),
            complete: self.complete,
            names: used
                .map(|(name, reading)| (name.clone(), reading.health(now)))
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
            number: 0,
            board: Board::default(),
            debts: BTreeMap::new(),
            deeds: Vec::new(),
            suspect: false,
            foreign: BTreeMap::new(),
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
        state.fault = Some(Failing::again(state.fault.as_ref(), error, Instant::now()));
        drop(state);
        self.poke();
    }

    /// Something failed that is not about what is read.
    pub(super) fn failed(&self, about: &About, error: &Error) {
        if self.state().board.failed(about, error, Instant::now()) {
            self.poke();
        }
    }

    /// Consul did nothing of it.
    pub(super) fn stopped(&self, about: &About, why: &str) {
        if self.state().board.stopped(about, why, Instant::now()) {
            self.poke();
        }
    }

    /// It works.
    pub(super) fn works(&self, about: &About) {
        if self.state().board.works(about) {
            self.poke();
        }
    }

    /// What was read of the locks of exclusive fleets: every key below the prefix.
    pub(super) fn take_locks(&self, prefix: &Prefix, entries: &[Entry]) {
        let changed = self.state().locks.take(prefix, entries, Instant::now());
        if changed {
            self.poke();
        }
        self.works(&About::Locks);
    }

    /// Forgets faults that are about nobody any more.
    pub(super) fn keep_faults(&self, is_open: impl Fn(&About) -> bool) {
        self.state().board.keep(is_open);
    }

    /// The token of an instance that is gone must go.
    pub(super) fn owes(&self, instance: InstanceId) {
        let mut state = self.state();
        let since = || Since::of(Instant::now());
        state.debts.entry(instance).or_insert_with(since);
    }

    /// Something was done that belongs into the history.
    pub(super) fn did(&self, fleet: Option<FleetName>, instance: InstanceId, text: String) {
        self.state().deeds.push(Event {
            fleet,
            instance: Some(instance),
            kind: EventKind::Catalogue,
            text,
        });
        self.poke();
    }

    /// Consul may have lost what was there before: it is looked at anew.
    pub(super) fn suspect(&self) {
        self.state().suspect = true;
    }

    /// Whether it may have since the last time that was asked.
    pub(super) fn take_suspicion(&self) -> bool {
        std::mem::take(&mut self.state().suspect)
    }

    /// What every write begins with; none while the lock is not ours.
    pub(super) fn guard(&self) -> Option<Op> {
        let (key, session) = self.state().guard.clone()?;
        Some(Op::CheckSession { key, session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_went_back_makes_the_tokens_suspect_once() {
        let shared = Shared::new(Arc::new(|| {}));
        for advance in [Advance::First, Advance::Same, Advance::Changed] {
            shared.state().suspect_after(advance);
            assert!(!shared.take_suspicion(), "{advance:?}");
        }
        shared.state().suspect_after(Advance::Reset);
        assert!(shared.take_suspicion());
        assert!(!shared.take_suspicion());
    }

    #[test]
    fn a_name_that_nobody_on_record_uses_holds_nobody() {
        let shared = Shared::new(Arc::new(|| {}));
        let mut state = shared.state();
        for name in ["old", "web"] {
            state.watches(name.to_owned());
        }
        state.names.get_mut("old").unwrap().used = false;
        let names: Vec<_> = state.signs().names.into_keys().collect();
        assert_eq!(names, ["web"]);
    }

    #[test]
    fn what_is_owed_is_shown_once_that_lasts_and_counts_from_its_beginning() {
        let shared = Shared::new(Arc::new(|| {}));
        let instance: InstanceId = "web-a".parse().unwrap();
        shared.owes(instance.clone());
        assert_eq!(shared.state().word(), CatalogueWord::default());
        let mut state = shared.state();
        let since = Since {
            at: Instant::now() - Duration::from_secs(60),
            wall_ms: 7,
        };
        state.debts.insert(instance.clone(), since);
        drop(state);
        // It is owed still, and not anew.
        shared.owes(instance.clone());
        let debt = CatalogueDebt {
            instance,
            since_wall_ms: 7,
        };
        assert_eq!(shared.state().word().debts, [debt]);
    }
}
