//! Watching a value by queries that wait, for as long as somebody wants to know.

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{
    client::Client,
    error::Error,
    query::{
        Advance, Consistency, Cursor, Read, UNWATCHED_MAX, go_duration, jittered_wait, pause,
        wait_limit,
    },
    request::{Answer, Request},
};

/// How a value is watched.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// Longest wait of one query. Without a change that is how often Consul is asked: five minutes,
    /// as Consul's own clients do, are 0.2 requests a minute.
    pub wait: Duration,
    /// How new the answers must be.
    pub consistency: Consistency,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(300),
            consistency: Consistency::Default,
        }
    }
}

/// What a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// The value, and what Consul said about its age.
    pub read: Read<T>,
    /// Whether it is the first, a change, or Consul begun anew.
    pub advance: Advance,
}

/// What one query of a watch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered<T> {
    /// The first value, a change, or the value after an error.
    Value(Seen<T>),
    /// Nothing has changed: the value is as new as this answer.
    Same,
}

/// When a watch was answered last, for who judges how new its value is while it waits.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// Time since the newest answer, be it that nothing has changed; none before the first.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        // It is replaced whole, so a panic elsewhere cannot have left it half changed.
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.map(|at| at.elapsed())
    }

    fn beat(&self) {
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *at = Some(Instant::now());
    }
}

/// One value of Consul's, watched.
///
/// A query that waits says nothing while it waits, also when the leader is lost meanwhile: who decides
/// on what he saw asks for [`Client::leader`], or reads what he decides on with
/// [`Consistency::Consistent`].
#[derive(Debug)]
pub struct Watch<T> {
    client: Client,
    what: Watched,
    options: WatchOptions,
    cursor: Cursor,
    failures: u32,
    /// When the next query may go out.
    next: Instant,
    /// Since when no query is under way.
    idle: Instant,
    pulse: Pulse,
    value: PhantomData<fn() -> T>,
    decode: fn(Answer) -> Result<T, Error>,
}

/// What is asked each time.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) request: fn(&str) -> Request,
    pub(crate) name: String,
}

impl<T> Watch<T> {
    pub(crate) fn new(
        client: &Client,
        what: Watched,
        options: WatchOptions,
        decode: fn(Answer) -> Result<T, Error>,
    ) -> Self {
        Self {
            client: client.clone(),
            what,
            options,
            cursor: Cursor::new(),
            failures: 0,
            next: Instant::now(),
            idle: Instant::now(),
            pulse: Pulse::default(),
            value: PhantomData,
            decode,
        }
    }

    /// When it was answered last.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Waits for the next value: the first at once, then each change. After an error it can be
    /// called again, and pauses by itself; the first value after errors is given even if it is the
    /// one from before, because only it says that Consul answers again.
    ///
    /// Dropping the future ends the query; the next call takes it up again and misses nothing. If that
    /// is later, it first looks at what is there: servers may have been begun anew meanwhile.
    ///
    /// # Errors
    /// Each failed query, once.
    pub async fn next(&mut self) -> Result<Seen<T>, Error> {
        loop {
            match self.answer().await? {
                Answered::Value(seen) => return Ok(seen),
                Answered::Same => {}
            }
        }
    }

    /// Waits for the next answer, be it that nothing has changed: for who judges himself how new the
    /// value is that he works with.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn answer(&mut self) -> Result<Answered<T>, Error> {
        loop {
            sleep_until(self.next).await;
            let started = Instant::now();
            if started.duration_since(self.idle) > UNWATCHED_MAX {
                self.cursor.look();
            }
            let asked = {
                let _under_way = UnderWay(&mut self.idle);
                let wait_from = self.cursor.wait_from();
                ask(
                    &self.client,
                    &self.what,
                    self.options,
                    wait_from,
                    self.decode,
                )
                .await
            };
            let (answer, index, known_leader, last_contact) = match asked {
                Ok(Some(answer)) => answer,
                // It was not on its way in time: who answers now may be another.
                Ok(None) => {
                    self.cursor.look();
                    self.next = Instant::now() + pause(0, started.elapsed(), fastrand::f64());
                    continue;
                }
                Err(error) => {
                    self.cursor.look();
                    self.failures = self.failures.saturating_add(1);
                    self.next =
                        Instant::now() + pause(self.failures, started.elapsed(), fastrand::f64());
                    return Err(error);
                }
            };
            self.pulse.beat();
            let recovered = std::mem::take(&mut self.failures) > 0;
            self.next = Instant::now() + pause(0, started.elapsed(), fastrand::f64());
            let advance = self.cursor.advance(index);
            if advance == Advance::Same && !recovered {
                return Ok(Answered::Same);
            }
            let read = Read {
                value: answer,
                index: index.unwrap_or(0),
                known_leader,
                last_contact,
            };
            return Ok(Answered::Value(Seen { read, advance }));
        }
    }
}

/// Notes when a query ends, also where it is dropped.
struct UnderWay<'a>(&'a mut Instant);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0 = Instant::now();
    }
}

async fn ask<T>(
    client: &Client,
    what: &Watched,
    options: WatchOptions,
    wait_from: Option<u64>,
    decode: fn(Answer) -> Result<T, Error>,
) -> Result<Option<(T, Option<u64>, bool, Duration)>, Error> {
    let mut request = (what.request)(&what.name).consistency(options.consistency);
    let mut within = None;
    if let Some(index) = wait_from {
        let wait = jittered_wait(options.wait, fastrand::f64());
        request = request
            .parameter("index", &index.to_string())
            .parameter("wait", &go_duration(wait));
        request.limit = Some(wait_limit(wait, client.limit()));
        within = Some(UNWATCHED_MAX);
    }
    let Some(answer) = client.ask_watching(request, within).await? else {
        return Ok(None);
    };
    let index = answer.index;
    let known_leader = answer.known_leader.unwrap_or(false);
    let last_contact = answer.last_contact.unwrap_or_default();
    Ok(Some((decode(answer)?, index, known_leader, last_contact)))
}
