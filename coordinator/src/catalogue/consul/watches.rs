//! One query that waits for each name that somebody on record can be found under, one for the nodes, and
//! one for the locks of exclusive fleets.
//!
//! Each of them is a connection for as long as it waits, and Consul takes only so many from one address. So
//! the names of other images, under which something may be left, are asked for one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_consul::{
    Advance, Answered, Client, Consistency, Error, Prefix, Seen, WatchOptions, catalog::Node,
    health::ServiceHealth, query::Cursor,
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

use super::{faults::About, holds::WAIT, names::Names, shared::Shared};

/// Answers on their way. One that waits for its turn waits in its own query's task, and the next answer
/// of that name is the newer one: a few more than one handful are enough.
const ANSWERS: usize = 64;
/// Longest wait of the query of the locks: what it says is as new as its newest answer, and what is older
/// than half a minute proves nothing.
const LOCKS_WAIT: Duration = Duration::from_secs(10);
/// Between two questions about a name that nobody on record can be found under. Nobody waits for what is
/// found there.
const SELDOM: Duration = Duration::from_secs(60);

/// What a query says.
#[derive(Debug)]
pub(super) enum News {
    /// Who is registered under a name.
    Service(Value),
    /// The same of a name that is asked for seldom.
    Seldom(String, Result<(Advance, Vec<ServiceHealth>), Error>),
    /// Which nodes there are.
    Nodes(Result<Seen<Vec<Node>>, Error>),
}

/// A new value of one name.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) name: String,
    /// Grows with each value of any name.
    pub(super) number: u64,
    /// When it was given.
    pub(super) at: Instant,
    pub(super) advance: Advance,
    pub(super) entries: Vec<ServiceHealth>,
}

/// The queries that run.
#[derive(Debug)]
pub(super) struct Watches {
    client: Client,
    shared: Shared,
    tasks: JoinSet<()>,
    names: BTreeMap<String, AbortHandle>,
    /// Those that are asked for seldom.
    seldom: watch::Sender<BTreeSet<String>>,
    sender: mpsc::Sender<News>,
}

impl Watches {
    /// Watches the nodes, the locks below this prefix, and no name yet.
    pub(super) fn new(
        client: Client,
        shared: Shared,
        locks: &Prefix,
    ) -> (Self, mpsc::Receiver<News>) {
        let (sender, news) = mpsc::channel(ANSWERS);
        let mut watches = Self {
            client,
            shared,
            tasks: JoinSet::new(),
            names: BTreeMap::new(),
            seldom: watch::Sender::default(),
            sender,
        };
        watches.ask_seldom();
        watches.watch_nodes();
        watches.watch_locks(locks);
        (watches, news)
    }

    fn options() -> WatchOptions {
        WatchOptions {
            wait: WAIT,
            consistency: Consistency::Default,
        }
    }

    fn watch_nodes(&mut self) {
        let mut watch = self.client.watch_nodes(Self::options());
        let sender = self.sender.clone();
        let watching = async move {
            loop {
                let seen = watch.next().await;
                if sender.send(News::Nodes(seen)).await.is_err() {
                    return;
                }
            }
        };
        let span = tracing::info_span!("nodes");
        self.tasks.spawn(watching.instrument(span));
    }

    fn watch_locks(&mut self, prefix: &Prefix) {
        let options = WatchOptions {
            wait: LOCKS_WAIT,
            consistency: Consistency::Consistent,
        };
        let mut watch = self.client.watch_prefix(prefix, options);
        self.shared.state().locks.pulse = watch.pulse();
        let (shared, prefix) = (self.shared.clone(), prefix.clone());
        // Not as news that wait for their turn: what is known is as new as the newest answer then.
        let watching = async move {
            loop {
                match watch.next().await {
                    Ok(seen) => shared.take_locks(&prefix, &seen.read.value),
                    Err(error) => shared.failed(&About::Locks, &error),
                }
            }
        };
        let span = tracing::info_span!("locks");
        self.tasks.spawn(watching.instrument(span));
    }

    fn ask_seldom(&mut self) {
        let asking = ask_seldom(
            self.client.clone(),
            self.seldom.subscribe(),
            self.sender.clone(),
        );
        let span = tracing::info_span!("seldom");
        self.tasks.spawn(asking.instrument(span));
    }

    /// Watches these names, asks for those seldom, and for no others.
    pub(super) fn keep(&mut self, names: &Names) {
        self.names.retain(|name, task| {
            let stays = names.watched.contains(name);
            if !stays {
                task.abort();
            }
            stays
        });
        self.shared
            .state()
            .names
            .retain(|name, _| names.watched.contains(name));
        for name in &names.watched {
            if !self.names.contains_key(name) {
                self.watch(name);
            }
        }
        for (name, reading) in &mut self.shared.state().names {
            reading.used = names.used.contains(name);
        }
        self.seldom.send_if_modified(|seldom| {
            let changed = *seldom != names.seldom;
            seldom.clone_from(&names.seldom);
            changed
        });
    }

    fn watch(&mut self, name: &str) {
        let mut watch = match self.client.watch_service(name, Self::options()) {
            Ok(watch) => watch,
            // `image add` refuses such names.
            Err(error) => {
                tracing::error!(%error, name, "a service cannot be watched");
                return;
            }
        };
        self.shared.state().watches(name.to_owned());
        let (sender, shared, service) = (self.sender.clone(), self.shared.clone(), name.to_owned());
        let watching = async move {
            loop {
                let answered = watch.answer().await;
                let Some(value) = note(&shared, &service, answered) else {
                    continue;
                };
                if sender.send(News::Service(value)).await.is_err() {
                    return;
                }
            }
        };
        let span = tracing::info_span!("service", name);
        let task = self.tasks.spawn(watching.instrument(span));
        self.names.insert(name.to_owned(), task);
    }
}

/// Asks for each of these names now and then, one after the other.
async fn ask_seldom(
    client: Client,
    mut names: watch::Receiver<BTreeSet<String>>,
    sender: mpsc::Sender<News>,
) {
    let mut asked: BTreeMap<String, (Cursor, Instant)> = BTreeMap::new();
    loop {
        let wanted = names.borrow_and_update().clone();
        asked.retain(|name, _| wanted.contains(name));
        let now = Instant::now();
        let due = |name: &String| asked.get(name).map_or(now, |(_, at)| *at + SELDOM);
        let next = wanted.iter().map(|name| (due(name), name)).min();
        let Some((due, name)) = next else {
            if names.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = names.changed() => if changed.is_err() {
                return;
            },
            () = sleep_until(due) => {
                let read = client.service_health(name, Consistency::Default).await;
                let (cursor, at) = asked
                    .entry(name.to_owned())
                    .or_insert_with(|| (Cursor::new(), now));
                *at = Instant::now();
                let read = read.map(|read| (cursor.advance(Some(read.index)), read.value));
                if sender.send(News::Seldom(name.to_owned(), read)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Notes at once how new what was read is, and whether it can be read; a value waits for its turn.
fn note(
    shared: &Shared,
    name: &str,
    answered: Result<Answered<Vec<ServiceHealth>>, Error>,
) -> Option<Value> {
    let now = Instant::now();
    let mut state = shared.state();
    match answered {
        Ok(Answered::Value(seen)) => {
            state.suspect_after(seen.advance);
            Some(Value {
                name: name.to_owned(),
                number: state.gives(name, now),
                at: now,
                advance: seen.advance,
                entries: seen.read.value,
            })
        }
        Ok(Answered::Same) => {
            if let Some(reading) = state.names.get_mut(name) {
                reading.is_same(now);
            }
            None
        }
        Err(error) => {
            if let Some(reading) = state.names.get_mut(name) {
                reading.failed(&error, now);
            }
            drop(state);
            shared.poke();
            tracing::debug!(%error, "a query failed");
            None
        }
    }
}
