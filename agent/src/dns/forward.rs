//! The environment's names out of the machine's Consul client, where it joins one. What it said last of
//! each is kept, and is given while the client is silent or cannot answer: names outlive Consul as they
//! outlive the coordinator, and on disk they outlive the agent and the machine's power too.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_proto::op::{Message, Query};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    flights::{AskedFor, Flights, TURN_TIMEOUT},
    kept::{self, AnswersError, Kept, Moment, News},
    upstream::{self, UpstreamError},
};
use crate::fault::chain;

/// Least time between two writes that succeed: services of a large environment change all the time, and
/// the disk is only for the next start.
const REST: Duration = Duration::from_secs(5);
/// Pause before what the disk refused is written again.
const AGAIN: Duration = Duration::from_secs(2);
/// A write that takes longer than this is told like one that failed: it is some megabytes at most.
const SLOW: Duration = Duration::from_secs(10);
/// Longest time that a name of which nothing is known waits for somebody who may be asked: after the
/// start of an agent it takes some milliseconds until its client is seen to be the right one.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(500);

/// Where the environment's names come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Target {
    /// From the coordinator's snapshots: the machine joins no Consul.
    #[default]
    Snapshots,
    /// From what Consul said before: nobody may be asked now.
    Memory,
    /// From the Consul client that answers DNS there.
    Client(SocketAddr),
}

/// What is forwarded, and what came back.
#[derive(Debug)]
pub struct Forwarder {
    target: watch::Receiver<Target>,
    flights: Flights,
    kept: Mutex<Kept>,
    given: Mutex<Given>,
    began: Instant,
    /// Something is to be written.
    news: Notify,
    /// Why the last question got no answer, if it did not.
    fault: watch::Sender<Option<String>>,
    /// Whether the last question got one; nothing before the first.
    answers: watch::Sender<Option<bool>>,
    /// Why what is known is not on disk, if it is not.
    unsaved: watch::Sender<Option<String>>,
}

/// Answers that were given out of memory.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    count: u64,
    oldest: Option<Duration>,
}

/// An answer, and whether it is a new one.
#[derive(Debug, Clone)]
pub(super) enum Answered {
    /// As the server has just said.
    Fresh(Arc<Message>),
    /// As it has just said to another one.
    Shared(Arc<Message>),
    /// As it said before; now it says nothing.
    Stale(Arc<Message>),
    /// It was never answered, or too long ago.
    Unknown,
}

impl Answered {
    /// Whether it says of anything that it is there.
    pub(super) fn has_records(&self) -> bool {
        match self {
            Self::Fresh(message) | Self::Shared(message) | Self::Stale(message) => {
                !message.answers.is_empty()
            }
            Self::Unknown => false,
        }
    }
}

impl Forwarder {
    /// Forwards to the client that may be asked now.
    #[must_use]
    pub fn new(target: watch::Receiver<Target>) -> Self {
        Self {
            target,
            flights: Flights::default(),
            kept: Mutex::default(),
            given: Mutex::default(),
            began: Instant::now(),
            news: Notify::new(),
            fault: watch::Sender::new(None),
            answers: watch::Sender::new(None),
            unsaved: watch::Sender::new(None),
        }
    }

    /// Takes over what an earlier agent kept in this file. What cannot be used is as if it were not
    /// there: Consul says it again.
    pub fn load(&self, path: &Path) {
        match kept::read(path) {
            Ok(answers) => {
                let now = self.now();
                self.kept().restore(answers, now);
            }
            Err(error) => warn!(
                error = chain(&error),
                "could not use the answers of Consul on disk"
            ),
        }
    }

    /// Keeps in this file what is known, for as long as it is polled.
    pub async fn keep(self: Arc<Self>, path: PathBuf) {
        loop {
            self.news.notified().await;
            match self.written(&path).await {
                Ok(()) => {
                    if self
                        .unsaved
                        .send_if_modified(|known| known.take().is_some())
                    {
                        info!("the answers of Consul are on disk again");
                    }
                    sleep(REST).await;
                }
                Err(error) => {
                    self.tell_unsaved(chain(&error));
                    self.news.notify_one();
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// One write. While it takes long, that is told: nothing else would ever say so of a disk that hangs.
    async fn written(&self, path: &Path) -> Result<(), AnswersError> {
        let answers = self.kept().for_disk(self.now());
        let to = path.to_owned();
        let write = tokio::task::spawn_blocking(move || kept::write(&to, &answers));
        tokio::pin!(write);
        let ended = tokio::select! {
            ended = &mut write => ended,
            () = sleep(SLOW) => {
                self.tell_unsaved(format!("the disk has not answered for {SLOW:?}"));
                write.await
            }
        };
        ended.unwrap_or_else(|error| Err(AnswersError::ended(path, error)))
    }

    fn tell_unsaved(&self, reason: String) {
        self.unsaved.send_if_modified(|known| {
            // The same again and again is one line in the log.
            let new = known.as_ref() != Some(&reason);
            if new {
                warn!(reason, "the answers of Consul are not on disk");
                *known = Some(reason);
            }
            new
        });
    }

    /// Where names come from now.
    pub(super) fn target(&self) -> Target {
        *self.target.borrow()
    }

    /// How it is, for `status`; nothing where names come from snapshots.
    #[must_use]
    pub fn seen(&self) -> Option<ForwarderSeen> {
        let server = match self.target() {
            Target::Snapshots => return None,
            Target::Memory => None,
            Target::Client(server) => Some(server),
        };
        let given = *self.given.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ForwarderSeen {
            server,
            kept: self.kept().len(),
            stale: given.count,
            stale_oldest: given.oldest,
            fault: self.fault.borrow().clone(),
            unsaved: self.unsaved.borrow().clone(),
        })
    }

    /// The answer to a question.
    pub(super) async fn answer(&self, query: &Query) -> Answered {
        if let Target::Client(server) = self.target() {
            return self.ask(server, query).await;
        }
        self.kept().silence(query);
        let known = self.known(query);
        if !matches!(known, Answered::Unknown) {
            return known;
        }
        match self.client_soon().await {
            Some(server) => self.ask(server, query).await,
            None => Answered::Unknown,
        }
    }

    /// Waits until somebody may be asked, for a while.
    async fn client_soon(&self) -> Option<SocketAddr> {
        let mut target = self.target.clone();
        let found = target.wait_for(|target| matches!(target, Target::Client(_)));
        match timeout(CLIENT_TIMEOUT, found).await.ok()?.as_deref() {
            Ok(Target::Client(server)) => Some(*server),
            Ok(Target::Snapshots | Target::Memory) | Err(_) => None,
        }
    }

    async fn ask(&self, server: SocketAddr, query: &Query) -> Answered {
        let asked = self.flights.share(query, self.outcome(server, query));
        match asked.await {
            (Some(message), AskedFor::Us) => Answered::Fresh(message),
            (Some(message), AskedFor::Another) => Answered::Shared(message),
            (None, _) => self.known(query),
        }
    }

    /// What the server says, which is kept.
    async fn outcome(&self, server: SocketAddr, query: &Query) -> Option<Arc<Message>> {
        let asked = match self.flights.turn().await {
            Some(_turn) => upstream::ask(server, query).await,
            None => Err(UpstreamError::Crowded {
                server,
                limit: TURN_TIMEOUT,
            }),
        };
        // It was seen meanwhile not to be the machine's own: what it says is another environment's.
        if self.target() != Target::Client(server) {
            return None;
        }
        match asked {
            Ok(message) => {
                self.note(None);
                let message = Arc::new(message);
                let now = self.now();
                let news = self.kept().hear(query, message.clone(), now);
                if news == News::Write {
                    self.news.notify_one();
                }
                Some(message)
            }
            Err(error) => {
                self.note(Some(&error));
                self.kept().silence(query);
                None
            }
        }
    }

    /// What was answered before.
    pub(super) fn known(&self, query: &Query) -> Answered {
        let known = self.kept().known(query, self.now());
        let Some(known) = known else {
            return Answered::Unknown;
        };
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.count += 1;
        given.oldest = given.oldest.max(Some(known.age));
        Answered::Stale(Arc::new(known.message))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds it can stop half way.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment::try_from(self.began.elapsed().as_millis()).unwrap_or(Moment::MAX)
    }

    /// Whether the last question got an answer of the client's; nothing before the first.
    #[must_use]
    pub fn answers(&self) -> watch::Receiver<Option<bool>> {
        self.answers.subscribe()
    }

    fn note(&self, error: Option<&UpstreamError>) {
        let now = Some(error.is_none());
        self.answers.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        let fault = error.map(|error| chain(error));
        self.fault.send_if_modified(|known| {
            match (&fault, &known) {
                (Some(fault), None) => warn!(fault, "names come from memory"),
                (Some(fault), Some(_)) => debug!(fault, "names come from memory"),
                (None, Some(_)) => info!("names come from Consul again"),
                (None, None) => {}
            }
            let changed = *known != fault;
            *known = fault;
            changed
        });
    }
}

/// How a [`Forwarder`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwarderSeen {
    /// Who is asked, if anybody may be.
    pub server: Option<SocketAddr>,
    /// Questions whose records are known, for when nobody answers.
    pub kept: usize,
    /// Answers that were given out of memory since the agent started.
    pub stale: u64,
    /// How old the oldest of those was when it was given.
    pub stale_oldest: Option<Duration>,
    /// Why the last question got no answer, if it did not.
    pub fault: Option<String>,
    /// Why what is known is not on disk, if it is not.
    pub unsaved: Option<String>,
}
