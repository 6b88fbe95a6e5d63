//! What Consul said last, for when it is silent. Pure: the time is given.
//!
//! That there are records, and that there are none, are kept apart. Consul that answers is believed, and
//! whoever asks is told what it says. But one answer without records may come from a catalogue that has
//! just been lost, and must not cost the names that outlive it: what is given while Consul is silent is
//! the last answer with records, unless answers without any have gone on for `GONE_AFTER`, with no
//! silence between them. A Consul client by itself, without servers, without its data or without a
//! token, says SERVFAIL of every name that could exist, which is silence; only servers say NXDOMAIN of
//! one.

mod file;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, Record, RecordType},
};

pub(super) use self::file::{AnswersError, Heard, read, write};

/// Answers of one sort that are kept: some for each service that something on this machine looks up.
const ANSWERS_MAX: usize = 4096;
/// Bytes of all with records, as they came: an answer with 1,000 instances has some 50 kB.
const FOUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of all without: each has some 150.
const EMPTY_BYTES_MAX: usize = 1024 * 1024;
/// Oldest answer that is given. While Consul is away its coordinator replaces nothing, so that a whole
/// weekend, from Friday's evening to Monday's morning, changes no address; what a machine finds on its
/// disk after a longer time may be somebody else's by now.
const OLDEST: Duration = Duration::from_secs(3 * 24 * 3600);
/// A name has gone once Consul has said so for this long. A catalogue that was lost has its nodes and
/// services again within half a minute, from the clients that join again.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// Longest time between two answers without records that are taken for one time without them.
const GOES_ON: Duration = Duration::from_secs(300);
/// When an answer was heard is written again after this, although it says the same: less than a tenth
/// of `OLDEST`, and a write an hour.
const STAMP: Duration = Duration::from_secs(3600);
/// Longest time for which others may keep what was given out of memory: Consul may be back by then.
const STALE_TTL: u32 = 5;

/// Milliseconds since the agent started; what an earlier agent heard is below zero.
pub(super) type Moment = i64;
/// A name in lower case, and a type.
type Key = (Name, RecordType);

/// Answers with records, and answers without.
#[derive(Debug)]
pub(super) struct Kept {
    found: Shelf,
    empty: Shelf,
}

/// Whether something is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It says what is written already.
    Nothing,
    /// It says something else, or is about to be too old on disk.
    Write,
}

/// What is given while Consul is silent.
#[derive(Debug)]
pub(super) struct Known {
    /// To be kept by others for some seconds at most.
    pub(super) message: Message,
    /// How old it is.
    pub(super) age: Duration,
}

/// Answers of one sort.
#[derive(Debug)]
struct Shelf {
    answers: HashMap<Key, Answer>,
    /// The one that was heard first comes first.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    bytes_max: usize,
    count: u64,
}

#[derive(Debug, Clone)]
struct Answer {
    message: Arc<Message>,
    bytes: usize,
    /// Its place in the order.
    number: u64,
    /// What it says, whatever its order and times.
    substance: u64,
    heard: Moment,
    /// Since when there have been no records, without a silence since then.
    empty_since: Option<Moment>,
    /// When what is on disk was heard, if it says the same.
    written: Option<Moment>,
}

impl Shelf {
    fn new(bytes_max: usize) -> Self {
        Self {
            answers: HashMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            count: 0,
        }
    }

    fn put(&mut self, key: Key, mut answer: Answer) {
        self.remove(&key);
        // It would leave room for nothing else.
        if answer.bytes > self.bytes_max {
            return;
        }
        self.count += 1;
        answer.number = self.count;
        self.order.insert(answer.number, key.clone());
        self.bytes += answer.bytes;
        self.answers.insert(key, answer);
        while self.answers.len() > ANSWERS_MAX || self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Answer> {
        let answer = self.answers.remove(key)?;
        self.bytes -= answer.bytes;
        self.order.remove(&answer.number);
        Some(answer)
    }

    fn fresh_enough(&self, key: &Key, now: Moment) -> Option<&Answer> {
        let answer = self.answers.get(key);
        answer.filter(|answer| since(answer.heard, now) <= OLDEST)
    }
}

impl Answer {
    fn new(message: Arc<Message>, now: Moment) -> Self {
        Self {
            // What came can be written again.
            bytes: message.to_vec().map_or(usize::MAX / 4, |bytes| bytes.len()),
            substance: substance(&message),
            message,
            number: 0,
            heard: now,
            empty_since: None,
            written: None,
        }
    }

    /// Goes on from what was heard before it.
    fn after(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            // Two single words are no time between them.
            let goes_on = since(before.heard, self.heard) <= GOES_ON;
            self.empty_since = before.empty_since.filter(|_| goes_on);
            if before.substance == self.substance {
                self.written = before.written;
            }
        }
        self
    }

    fn news(&self) -> News {
        let written = self.written;
        if written.is_some_and(|written| since(written, self.heard) < STAMP) {
            News::Nothing
        } else {
            News::Write
        }
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            found: Shelf::new(FOUND_BYTES_MAX),
            empty: Shelf::new(EMPTY_BYTES_MAX),
        }
    }
}

impl Kept {
    /// Consul has answered.
    pub(super) fn hear(&mut self, query: &Query, message: Arc<Message>, now: Moment) -> News {
        let key = key_of(query);
        let answer = Answer::new(message, now);
        if !answer.message.answers.is_empty() {
            let answer = answer.after(self.found.answers.get(&key));
            let news = answer.news();
            self.empty.remove(&key);
            self.found.put(key, answer);
            return news;
        }
        let mut answer = answer.after(self.empty.answers.get(&key));
        let begun = *answer.empty_since.get_or_insert(now);
        let gone = since(begun, now) >= GONE_AFTER && self.found.remove(&key).is_some();
        let news = if gone {
            News::Write
        } else if is_lasting(&answer.message) {
            answer.news()
        } else {
            News::Nothing
        };
        self.empty.put(key, answer);
        news
    }

    /// Consul has not answered. That there are no records, if it says so next, is said anew.
    pub(super) fn silence(&mut self, query: &Query) {
        if let Some(empty) = self.empty.answers.get_mut(&key_of(query)) {
            empty.empty_since = None;
        }
    }

    /// What is to be given instead.
    pub(super) fn known(&self, query: &Query, now: Moment) -> Option<Known> {
        let key = key_of(query);
        let found = self.found.fresh_enough(&key, now);
        let answer = found.or_else(|| self.empty.fresh_enough(&key, now))?;
        let mut message = Message::clone(&answer.message);
        let sections = [
            &mut message.answers,
            &mut message.authorities,
            &mut message.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.min(STALE_TTL);
        }
        Some(Known {
            message,
            age: since(answer.heard, now),
        })
    }

    /// How many names have records.
    pub(super) fn len(&self) -> usize {
        self.found.answers.len()
    }

    /// What is to be on disk, in the order in which it was heard.
    pub(super) fn for_disk(&mut self, now: Moment) -> Vec<Heard> {
        let mut all = Vec::new();
        for shelf in [&mut self.empty, &mut self.found] {
            for key in shelf.order.values() {
                let Some(answer) = shelf.answers.get_mut(key) else {
                    continue;
                };
                let age = since(answer.heard, now);
                if age <= OLDEST && is_lasting(&answer.message) {
                    answer.written = Some(answer.heard);
                    all.push(Heard {
                        query: Query::query(key.0.clone(), key.1),
                        message: answer.message.clone(),
                        age,
                    });
                }
            }
        }
        all
    }

    /// Takes over what was on disk, before anything is heard.
    pub(super) fn restore(&mut self, all: Vec<Heard>, now: Moment) {
        for one in all {
            let age = i64::try_from(one.age.as_millis()).unwrap_or(i64::MAX);
            let heard = now.saturating_sub(age);
            let mut answer = Answer::new(one.message, heard);
            answer.written = Some(heard);
            let has_records = !answer.message.answers.is_empty();
            let shelf = if has_records {
                &mut self.found
            } else {
                &mut self.empty
            };
            shelf.put(key_of(&one.query), answer);
        }
    }
}

/// Whether it may be said at another start too: records, or that there are none of this type. Of a name
/// that does not exist nothing is kept for that.
fn is_lasting(message: &Message) -> bool {
    message.metadata.response_code == ResponseCode::NoError
}

/// What an answer says: the order of its records is drawn each time, and their times run down.
fn substance(message: &Message) -> u64 {
    let one = |record: &Record| {
        let mut hasher = DefaultHasher::new();
        (&record.name, &record.data).hash(&mut hasher);
        hasher.finish()
    };
    let records = message.answers.iter().chain(&message.additionals);
    let code = u64::from(u16::from(message.metadata.response_code));
    records.map(one).fold(code, u64::wrapping_add)
}

fn since(then: Moment, now: Moment) -> Duration {
    let passed = now.saturating_sub(then);
    Duration::from_millis(u64::try_from(passed).unwrap_or(0))
}

fn key_of(query: &Query) -> Key {
    let mut name = query.name().to_lowercase();
    name.set_fqdn(true);
    (name, query.query_type())
}

#[cfg(test)]
mod tests;
