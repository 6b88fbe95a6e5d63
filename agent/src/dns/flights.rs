//! Questions on their way to Consul. Equal ones share one, so that a crowd of look-ups of one name is one
//! question; of different ones only so many are asked at a time, and the others wait for their turn.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query},
    rr::{DNSClass, Name, RecordType},
};
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::timeout,
};

/// Questions to Consul at one time, of which each holds a socket and below 70 KiB. A thousand look-ups
/// a second, each of 10 ms, are ten.
const QUESTIONS_MAX: usize = 64;
/// Longest time that a question waits for its turn. With answers of 10 ms, 3,200 come before it in that
/// time; with the half second that the answer itself may take it is what clients wait for anyway.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_millis(500);

/// What came back: nothing where Consul has not answered.
pub(super) type Outcome = Option<Arc<Message>>;

/// Questions that are under way.
#[derive(Debug)]
pub(super) struct Flights {
    open: Mutex<HashMap<Key, Flight>>,
    turns: Semaphore,
}

/// For whom a question was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedFor {
    /// For whoever waited for it here.
    Us,
    /// For another one, who asked the same at the same time.
    Another,
}

/// A name in lower case.
type Key = (Name, RecordType, DNSClass);

#[derive(Debug)]
struct Flight {
    outcome: Arc<OnceCell<Outcome>>,
    /// How many wait for it; the last to go takes it away.
    waiting: usize,
}

/// One who waits.
struct Seat<'a> {
    flights: &'a Flights,
    key: Key,
    outcome: Arc<OnceCell<Outcome>>,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            turns: Semaphore::new(QUESTIONS_MAX),
        }
    }
}

impl Flights {
    /// What comes back of a question: of an equal one that is under way, else of this one. Where whoever
    /// had it asked goes away before the answer, the next that waits has it asked anew.
    pub(super) async fn share(
        &self,
        query: &Query,
        ask: impl Future<Output = Outcome>,
    ) -> (Outcome, AskedFor) {
        let seat = self.seat(query);
        let mut asked_for = AskedFor::Another;
        let asked = seat.outcome.get_or_init(|| async {
            asked_for = AskedFor::Us;
            let outcome = ask.await;
            // Who asks from now on wants to know what is true from now on.
            seat.close();
            outcome
        });
        let outcome = asked.await.clone();
        (outcome, asked_for)
    }

    /// A turn to ask, held until it is dropped; nothing where it has not come in time.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        timeout(TURN_TIMEOUT, self.turns.acquire()).await.ok()?.ok()
    }

    fn seat(&self, query: &Query) -> Seat<'_> {
        let mut name = query.name().to_lowercase();
        name.set_fqdn(true);
        let key = (name, query.query_type(), query.query_class());
        let mut open = self.open();
        let flight = open.entry(key.clone()).or_insert_with(|| Flight {
            outcome: Arc::default(),
            waiting: 0,
        });
        flight.waiting += 1;
        Seat {
            flights: self,
            key,
            outcome: flight.outcome.clone(),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        // Nothing that holds it can stop half way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// Nobody joins it any more.
    fn close(&self) {
        self.change(|_| 0);
    }

    fn change(&self, waiting: impl FnOnce(usize) -> usize) {
        let mut open = self.flights.open();
        let Entry::Occupied(mut flight) = open.entry(self.key.clone()) else {
            return;
        };
        // A later one with the same key is not ours.
        if !Arc::ptr_eq(&flight.get().outcome, &self.outcome) {
            return;
        }
        flight.get_mut().waiting = waiting(flight.get().waiting);
        if flight.get().waiting == 0 {
            flight.remove();
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.change(|waiting| waiting.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures_util::future::join_all;
    use hickory_proto::op::{MessageType, OpCode};
    use tokio::time::sleep;

    use super::*;

    fn query(name: &str) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
    }

    async fn answer() -> Outcome {
        sleep(Duration::from_millis(10)).await;
        let message = Message::new(0, MessageType::Response, OpCode::Query);
        Some(Arc::new(message))
    }

    #[tokio::test(start_paused = true)]
    async fn equal_questions_share_one_and_the_next_is_asked_anew() {
        let flights = Flights::default();
        for _ in 0..2 {
            let asked = ["web.example.", "WEB.example.", "web.example", "db.example."];
            let asked = asked.map(query);
            let shared = join_all(asked.iter().map(|query| flights.share(query, answer()))).await;
            let own = shared.iter().map(|(_, asked_for)| *asked_for);
            use AskedFor::{Another, Us};
            assert_eq!(own.collect::<Vec<_>>(), [Us, Another, Another, Us]);
            assert!(shared.iter().all(|(outcome, _)| outcome.is_some()));
            assert!(flights.open().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_with_one_that_went_away_asks_itself_and_nothing_is_left_behind() {
        let flights = Flights::default();
        let web = query("web.example.");
        let first = timeout(Duration::from_millis(5), flights.share(&web, pending()));
        let second = flights.share(&web, answer());
        let (first, (outcome, asked_for)) = tokio::join!(first, second);
        assert!(first.is_err());
        assert!(outcome.is_some());
        assert_eq!(asked_for, AskedFor::Us);
        let gone = timeout(Duration::from_millis(5), flights.share(&web, pending()));
        assert!(gone.await.is_err());
        assert!(flights.open().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_waited_for_half_a_second() {
        let flights = Flights::default();
        let mut held = Vec::new();
        for _ in 0..QUESTIONS_MAX {
            held.push(flights.turn().await.unwrap());
        }
        let began = tokio::time::Instant::now();
        assert!(flights.turn().await.is_none());
        assert_eq!(began.elapsed(), TURN_TIMEOUT);
        let later = async {
            sleep(TURN_TIMEOUT / 2).await;
            held.pop();
        };
        let (turn, ()) = tokio::join!(flights.turn(), later);
        assert!(turn.is_some());
    }
}
