//! Holds the lock: asks Consul, hears the runner, and hands on what `Lock` decides.

use std::{
    future::{pending, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use calvin_consul::{
    Client, SessionId, Settings, Token, exclusive::lock_key, kv::Entry, watch::Watch,
};
use calvin_model::{ConsulJoin, Join, NamesVersion};
use calvin_proto::convert::RegistrationOrder;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{Answer, Ask, Facts, Gate, Holder, Lock, Next, Work, ask::Asker, gate::gate};
use crate::{
    catalogue::{Keep, Machine},
    clock::boottime,
    disk::DiskError,
    fault::chain,
    workload::{Commands, RunnerState, WorkloadOrder},
};

/// Longest time for one request, of which several must fit into a lease.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time to give the lock back when the agent ends: less than half of what the runner gives.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the runner to say that the workload has ended, when it ends with the agent.
const END_STILL: Duration = Duration::from_millis(300);
/// Time between two looks while the agent ends.
const END_LOOK: Duration = Duration::from_millis(20);

/// What the lock rests on, and who hears of it.
#[derive(Debug)]
pub struct KeeperEnds {
    /// How to join, as it was said last.
    pub join: watch::Receiver<Option<Join>>,
    /// How to be registered, likewise.
    pub registration: watch::Receiver<Option<RegistrationOrder>>,
    /// The names of the embedded catalogue, where there are some.
    pub names: watch::Receiver<Option<NamesVersion>>,
    /// What is wanted of the workload.
    pub orders: watch::Receiver<Option<WorkloadOrder>>,
    /// That the agent ends.
    pub finish: watch::Receiver<bool>,
    /// What the runner is to be told.
    pub commands: watch::Sender<Commands>,
    /// How the lock is.
    pub seen: watch::Sender<LockSeen>,
    /// What a later run needs of it.
    pub kept: watch::Sender<Option<KeptSession>>,
}

/// How the lock is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockSeen {
    /// The fencing number, where it is held.
    pub fence: Option<u64>,
    /// Until when the work may run, as [`boottime`] counts.
    pub lease: Option<Duration>,
    /// What is waited for, or wrong.
    pub words: Option<String>,
}

/// The session that holds the lock: an agent that is started again goes on with it.
#[derive(Debug, Clone, Default)]
pub struct KeptSession {
    /// Its id, while there is one.
    pub session: Option<SessionId>,
    /// Why it is not on disk, if it was refused.
    refused: watch::Sender<Option<String>>,
}

impl Keep for KeptSession {
    const NAME: &'static str = "lock";
    type Stored = Option<SessionId>;

    fn stored(&self) -> Self::Stored {
        self.session.clone()
    }

    fn restored(session: Self::Stored) -> Self {
        Self {
            session,
            ..Self::default()
        }
    }

    fn written(&self, refused: Option<&DiskError>) {
        replace(&self.refused, refused.map(|error| chain(error)));
    }
}

/// The task.
#[derive(Debug)]
pub struct Keeper {
    machine: Arc<Machine>,
    runner: watch::Receiver<Option<RunnerState>>,
    ends: KeeperEnds,
    lock: Lock,
    /// What was last said of its session.
    kept: KeptSession,
    /// Why that is not on disk, if it is not.
    refused: watch::Receiver<Option<String>>,
    /// How often something was wanted of the workload.
    again: u64,
    joined: Option<Joined>,
    asked: Option<Asked>,
    watching: Option<Watching>,
    ends_since: Option<Instant>,
}

/// How Consul is asked.
#[derive(Debug)]
struct Joined {
    join: ConsulJoin,
    /// Or why it cannot be.
    asker: Result<Asker, String>,
}

/// A request under way.
struct Asked {
    sent: Duration,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

/// A query that waits for changes of the lock.
#[derive(Debug)]
struct Watching {
    seen: watch::Receiver<Option<Holder>>,
    _task: JoinSet<()>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("sent", &self.sent).finish()
    }
}

impl Keeper {
    /// The task of a machine; nothing is asked or ordered yet.
    #[must_use]
    pub fn new(
        machine: Arc<Machine>,
        runner: watch::Receiver<Option<RunnerState>>,
        ends: KeeperEnds,
    ) -> Self {
        let kept = ends.kept.borrow().clone().unwrap_or_default();
        Self {
            machine,
            runner,
            ends,
            refused: kept.refused.subscribe(),
            lock: Lock::new(kept.session.clone(), boottime()),
            kept,
            again: 0,
            joined: None,
            asked: None,
            watching: None,
            ends_since: None,
        }
    }

    /// Runs until it is told that the agent ends, and then for as long as it takes to give back the lock
    /// of a workload that has ended.
    pub async fn run(mut self) {
        loop {
            let facts = self.facts();
            self.connect(&facts);
            let now = boottime();
            let next = self.lock.next(&facts, now);
            self.tell(&next, &facts, now);
            self.watch();
            if let Some(ask) = next.ask {
                self.begin(ask);
            }
            if self.has_ended(&facts) || self.wait(next.due).await.is_none() {
                return;
            }
        }
    }

    fn facts(&mut self) -> Facts {
        let ends = &mut self.ends;
        if *ends.finish.borrow_and_update() && self.ends_since.is_none() {
            self.ends_since = Some(Instant::now());
        }
        let gate = gate(
            &self.machine.manifest,
            ends.join.borrow_and_update().as_ref(),
            ends.registration.borrow_and_update().as_ref(),
            ends.names.borrow_and_update().is_some(),
        );
        let wanted = *ends.orders.borrow();
        Facts {
            gate,
            wanted: wanted.filter(|_| self.ends_since.is_none()),
            work: Work::of(self.runner.borrow_and_update().as_ref()),
        }
    }

    /// Makes the client that asks, or gives it what is new.
    fn connect(&mut self, facts: &Facts) {
        let said = self.ends.join.borrow().clone();
        let join = said.and_then(|said| said.consul);
        let needed = facts.gate != Gate::Free || self.lock.session().is_some();
        let Some(join) = join.filter(|_| needed) else {
            self.joined = None;
            return;
        };
        match &self.joined {
            Some(joined) if joined.join == join => return,
            Some(Joined {
                asker: Ok(asker),
                join: before,
            }) if before.datacenter == join.datacenter => {
                if let Ok(token) = token(&join) {
                    asker.client.set_token(token);
                }
            }
            Some(_) | None => {
                let asker = self.asker(&join);
                self.joined = Some(Joined { join, asker });
                return;
            }
        }
        if let Some(joined) = &mut self.joined {
            joined.join = join;
        }
    }

    fn asker(&self, join: &ConsulJoin) -> Result<Asker, String> {
        let machine = &self.machine;
        let provision = &machine.provision;
        if join.datacenter != provision.environment {
            return Err(format!("told to join datacenter {}", join.datacenter));
        }
        let address = machine.client_address();
        let words = |error: &dyn std::fmt::Display| format!("{address} cannot be asked: {error}");
        let settings = Settings {
            address: address.parse().map_err(|error| words(&error))?,
            timeout: REQUEST_TIMEOUT,
            tls: None,
            token: token(join)?,
        };
        let key = lock_key(&provision.environment, &provision.fleet);
        Ok(Asker {
            client: Client::new(settings).map_err(|error| chain(&error))?,
            key: key.map_err(|error| words(&error))?,
            instance: provision.instance.clone(),
            environment: provision.environment.clone(),
        })
    }

    /// Tells everybody what is new.
    fn tell(&mut self, next: &Next, facts: &Facts, now: Duration) {
        let commands = Commands {
            command: next.command,
            lease: next.lease,
            again: self.again,
        };
        replace(&self.ends.commands, commands);
        let seen = LockSeen {
            fence: self.lock.fence(),
            lease: next.lease,
            words: self.words(facts, now),
        };
        let before = self.ends.seen.borrow().clone();
        if seen.fence != before.fence {
            info!(fence = seen.fence, "the lock of the fleet");
        }
        if seen.words != before.words
            && let Some(words) = &seen.words
        {
            warn!("{words}");
        }
        replace(&self.ends.seen, seen);
        let session = self.lock.session();
        if self.kept.session.as_ref() != session {
            self.kept.session = session.cloned();
            self.ends.kept.send_replace(Some(self.kept.clone()));
        }
    }

    fn words(&mut self, facts: &Facts, now: Duration) -> Option<String> {
        let refused = self.refused.borrow_and_update();
        let fleet = &self.machine.provision.fleet;
        self.lock.words(facts, fleet, refused.as_deref(), now)
    }

    /// Has a query wait for changes of the lock while they matter.
    fn watch(&mut self) {
        let asker = self.joined.as_ref().map(|joined| &joined.asker);
        let Some(Ok(asker)) = asker.filter(|_| self.lock.watches()) else {
            self.watching = None;
            return;
        };
        if self.watching.is_some() {
            return;
        }
        let (newest, seen) = watch::channel(None);
        let mut task = JoinSet::new();
        let changes = asker.client.watch_key(&asker.key, Default::default());
        task.spawn(follow(changes, newest));
        self.watching = Some(Watching { seen, _task: task });
    }

    fn begin(&mut self, ask: Ask) {
        debug!(?ask, "asks Consul");
        let sent = boottime();
        let asker = self.joined.as_ref().map(|joined| joined.asker.clone());
        let answer: Pin<Box<dyn Future<Output = Answer> + Send>> = match asker {
            Some(Ok(asker)) => Box::pin(asker.ask(ask)),
            Some(Err(why)) => Box::pin(ready(Answer::Failed(why))),
            None => Box::pin(ready(Answer::Failed("no Consul is joined".to_owned()))),
        };
        self.asked = Some(Asked { sent, answer });
    }

    /// Whether there is nothing to be done any more before the agent ends.
    fn has_ended(&self, facts: &Facts) -> bool {
        let Some(since) = self.ends_since else {
            return false;
        };
        let stays = match facts.work {
            Work::Gone => false,
            // It goes on without the agent, or is about to end with the machine.
            Work::Free | Work::Leased | Work::Unknown => since.elapsed() > END_STILL,
        };
        self.lock.session().is_none() || stays || since.elapsed() > END_TIMEOUT
    }

    /// Waits for anything to happen, or to be due; `None` when the agent is gone.
    async fn wait(&mut self, due: Option<Duration>) -> Option<()> {
        let left = due.map(|due| due.saturating_sub(boottime()));
        let left = match self.ends_since {
            Some(_) => Some(left.unwrap_or(END_LOOK).min(END_LOOK)),
            None => left,
        };
        let Self {
            ends,
            lock,
            asked,
            watching,
            runner,
            again,
            refused,
            ..
        } = self;
        let tick = async {
            match left {
                Some(left) => sleep(left).await,
                None => pending().await,
            }
        };
        let answer = async {
            match asked {
                Some(asked) => (asked.sent, (&mut asked.answer).await),
                None => pending().await,
            }
        };
        let change = async {
            let Some(watching) = watching else {
                return pending().await;
            };
            if watching.seen.changed().await.is_err() {
                return pending().await;
            }
            watching.seen.borrow_and_update().clone()
        };
        tokio::select! {
            (sent, answer) = answer => {
                debug!(?answer, "Consul says");
                *asked = None;
                lock.answered(sent, answer, boottime(), fastrand::f64());
            }
            holder = change => lock.seen(holder?, boottime()),
            changed = ends.orders.changed() => {
                changed.ok()?;
                // Also when it is the same again: the runner may be another.
                *again += 1;
            }
            () = news(runner) => {}
            () = news(&mut ends.join) => {}
            () = news(&mut ends.registration) => {}
            () = news(&mut ends.names) => {}
            () = news(refused) => {}
            changed = ends.finish.changed() => changed.ok()?,
            () = tick => {}
        }
        Some(())
    }
}

/// Waits for something new. Who says it may end before this, which has the lock to give back.
async fn news<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        pending().await
    }
}

/// Hands on each change of the lock until nobody listens.
async fn follow(mut changes: Watch<Option<Entry>>, newest: watch::Sender<Option<Holder>>) {
    while !newest.is_closed() {
        match changes.next().await {
            Ok(seen) => {
                let read = seen.read;
                newest.send_replace(Some(Holder::of(read.value.as_ref(), read.index)));
            }
            // It is asked again, after a pause.
            Err(error) => debug!(error = chain(&error), "the lock is not watched"),
        }
    }
}

fn token(join: &ConsulJoin) -> Result<Option<Token>, String> {
    let token = join.token.as_ref().map(|token| token.expose().parse());
    token
        .transpose()
        .map_err(|_| "the token that the coordinator said is none".to_owned())
}

fn replace<T: PartialEq>(known: &watch::Sender<T>, new: T) {
    known.send_if_modified(|known| {
        let changed = *known != new;
        *known = new;
        changed
    });
}
