//! The environment's names out of the machine's Consul client, where it joins one. The last good
//! answer to each question is kept, and is given while the client is silent or cannot answer: names
//! outlive Consul as they outlive the coordinator. That a name does not exist, or has nothing of a
//! type, is an answer too.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::upstream::{self, UpstreamError};
use crate::fault::chain;

/// Answers that are kept: some for each service that something on this machine looks up.
const ANSWERS_MAX: usize = 4096;
/// Bytes of all of them, as they came: an answer with 1,000 instances has some 50 kB.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is forwarded, and what came back.
#[derive(Debug)]
pub struct Forwarder {
    server: watch::Receiver<Option<SocketAddr>>,
    kept: Mutex<Kept>,
    stale: AtomicU64,
    /// Why the last question got no answer, if it did not.
    fault: watch::Sender<Option<String>>,
}

/// An answer, and whether it is a new one.
#[derive(Debug, Clone)]
pub(super) enum Answered {
    /// As the server has just said.
    Fresh(Arc<Message>),
    /// As it said before; now it says nothing.
    Stale(Arc<Message>),
    /// It was never answered.
    Unknown,
}

type Key = (Name, RecordType);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Key, Answer>,
    /// The oldest first.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct Answer {
    message: Arc<Message>,
    bytes: usize,
    number: u64,
}

impl Kept {
    fn put(&mut self, key: Key, message: Arc<Message>, bytes: usize) {
        self.remove(&key);
        self.count += 1;
        let number = self.count;
        self.order.insert(number, key.clone());
        self.bytes += bytes;
        self.answers.insert(
            key,
            Answer {
                message,
                bytes,
                number,
            },
        );
        while self.answers.len() > ANSWERS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(answer) = self.answers.remove(key) {
            self.bytes -= answer.bytes;
            self.order.remove(&answer.number);
        }
    }

    fn get(&self, key: &Key) -> Option<Arc<Message>> {
        self.answers.get(key).map(|answer| answer.message.clone())
    }
}

impl Forwarder {
    /// Forwards to the server that is there now; where none is, nothing.
    #[must_use]
    pub fn new(server: watch::Receiver<Option<SocketAddr>>) -> Self {
        Self {
            server,
            kept: Mutex::default(),
            stale: AtomicU64::new(0),
            fault: watch::Sender::new(None),
        }
    }

    /// Who is asked, if anybody is.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        *self.server.borrow()
    }

    /// How it is, for `status`; nothing where nobody is asked.
    #[must_use]
    pub fn seen(&self) -> Option<ForwarderSeen> {
        Some(ForwarderSeen {
            server: self.server()?,
            stale: self.stale.load(Relaxed),
            fault: self.fault.borrow().clone(),
        })
    }

    /// The answer to a question.
    pub(super) async fn ask(&self, server: SocketAddr, query: &Query) -> Answered {
        match upstream::ask(server, query).await {
            Ok(message) => {
                self.note(None);
                let message = Arc::new(message);
                // An answer that came can be written again.
                let bytes = message.to_vec().map_or(BYTES_MAX, |bytes| bytes.len());
                self.kept().put(key_of(query), message.clone(), bytes);
                Answered::Fresh(message)
            }
            Err(error) => {
                self.note(Some(&error));
                self.known(query)
            }
        }
    }

    /// What was answered before.
    pub(super) fn known(&self, query: &Query) -> Answered {
        match self.kept().get(&key_of(query)) {
            Some(message) => {
                self.stale.fetch_add(1, Relaxed);
                Answered::Stale(message)
            }
            None => Answered::Unknown,
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing that holds it can stop half way.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: Option<&UpstreamError>) {
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
    /// Who is asked.
    pub server: SocketAddr,
    /// Answers that were given out of memory since the agent started.
    pub stale: u64,
    /// Why the last question got no answer, if it did not.
    pub fault: Option<String>,
}

fn key_of(query: &Query) -> Key {
    (query.name().to_lowercase(), query.query_type())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};

    use super::*;

    fn key(number: usize) -> Key {
        let name = Name::from_ascii(format!("n{number}.example.")).unwrap();
        (name, RecordType::A)
    }

    fn message() -> Arc<Message> {
        Arc::new(Message::new(1, MessageType::Response, OpCode::Query))
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_asked_last_stays() {
        let mut kept = Kept::default();
        for number in 0..ANSWERS_MAX + 10 {
            kept.put(key(0), message(), 10);
            kept.put(key(number), message(), 10);
        }
        assert_eq!(kept.answers.len(), ANSWERS_MAX);
        assert_eq!(kept.order.len(), ANSWERS_MAX);
        assert_eq!(kept.bytes, ANSWERS_MAX * 10);
        assert!(kept.get(&key(0)).is_some() && kept.get(&key(1)).is_none());
        kept.put(key(0), message(), BYTES_MAX);
        assert_eq!(kept.answers.len(), 1);
        assert!(kept.bytes <= BYTES_MAX);
        kept.put(key(0), message(), BYTES_MAX + 1);
        assert_eq!((kept.answers.len(), kept.bytes), (0, 0));
    }
}
