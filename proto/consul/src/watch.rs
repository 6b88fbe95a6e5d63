//! Watching a value by queries that wait, for as long as somebody wants to know.

use std::{marker::PhantomData, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    client::Client,
    error::Error,
    query::{Advance, Consistency, Cursor, Read, go_duration, jittered_wait, pause, wait_limit},
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
            value: PhantomData,
            decode,
        }
    }

    /// Waits for the next value: the first at once, then each change. After an error it can be
    /// called again, and pauses by itself; the first value after errors is given even if it is the
    /// one from before, because only it says that Consul answers again.
    ///
    /// Dropping the future ends the query; the next call takes it up again and misses nothing.
    ///
    /// # Errors
    /// Each failed query, once.
    pub async fn next(&mut self) -> Result<Seen<T>, Error> {
        loop {
            sleep_until(self.next).await;
            let started = Instant::now();
            let (answer, index, known_leader, last_contact) = match self.ask().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.cursor.failed();
                    self.failures = self.failures.saturating_add(1);
                    self.next =
                        Instant::now() + pause(self.failures, started.elapsed(), fastrand::f64());
                    return Err(error);
                }
            };
            let recovered = std::mem::take(&mut self.failures) > 0;
            self.next = Instant::now() + pause(0, started.elapsed(), fastrand::f64());
            let advance = self.cursor.advance(index);
            if advance == Advance::Same && !recovered {
                continue;
            }
            let read = Read {
                value: answer,
                index: index.unwrap_or(0),
                known_leader,
                last_contact,
            };
            return Ok(Seen { read, advance });
        }
    }

    async fn ask(&self) -> Result<(T, Option<u64>, bool, Duration), Error> {
        let mut request =
            (self.what.request)(&self.what.name).consistency(self.options.consistency);
        if let Some(index) = self.cursor.wait_from() {
            let wait = jittered_wait(self.options.wait, fastrand::f64());
            request = request
                .parameter("index", &index.to_string())
                .parameter("wait", &go_duration(wait));
            request.limit = Some(wait_limit(wait, self.client.limit()));
        }
        let answer = self.client.ask(request).await?;
        let index = answer.index;
        let known_leader = answer.known_leader.unwrap_or(false);
        let last_contact = answer.last_contact.unwrap_or_default();
        let value = (self.decode)(answer)?;
        Ok((value, index, known_leader, last_contact))
    }
}
