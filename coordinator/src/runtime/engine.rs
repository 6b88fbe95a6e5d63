//! The engine's thread: passes at least every 250 ms, at once when poked, orders in between.
//!
//! The engine is synchronous and commits to disk, so it must not run on the runtime's threads.
//! Its pictures go out through a watch channel, so that a slow reader never holds it up.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use calvin_engine::{Engine, PassOutcome, PortSet, View};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{oneshot, watch};

use super::{
    desk::{Ask, AskApproval, Desk, MESSAGES, Message, News, Poke},
    error::ServeError,
    metrics,
};

/// Longest time between two passes.
const PASS_INTERVAL: Duration = Duration::from_millis(250);
/// Least time between two passes that only news asked for: 10,000 agents that report every two
/// seconds poke 5,000 times in one, and must not make as many passes.
const PASS_PAUSE: Duration = Duration::from_millis(5);

/// How the engine's thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEnd {
    /// It was told to.
    Stopped,
    /// It can never decide again, for this reason: another coordinator took the store over.
    ForGood(String),
}

/// The engine's inbox, which is there before the engine: what pokes it is made first.
#[derive(Debug)]
pub struct EngineThread {
    sender: SyncSender<Message>,
    messages: Receiver<Message>,
    news: News,
}

impl Default for EngineThread {
    fn default() -> Self {
        let (sender, messages) = sync_channel(MESSAGES);
        Self {
            sender,
            messages,
            news: News::default(),
        }
    }
}

/// A running engine.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) desk: Desk,
    /// Comes when the thread has ended; an error means that it panicked.
    pub(super) ended: oneshot::Receiver<EngineEnd>,
    sender: SyncSender<Message>,
}

impl Running {
    /// Tells the engine to end; what it has committed stays as it is.
    pub(super) fn stop(&self) {
        let sender = self.sender.clone();
        // The queue may be full of orders that are about to be answered, so it is waited for,
        // elsewhere. A thread that is gone needs no telling.
        thread::spawn(move || sender.send(Message::Stop));
    }
}

impl EngineThread {
    /// What wakes the engine.
    #[must_use]
    pub fn poke(&self) -> Poke {
        Poke::new(self.sender.clone(), self.news.clone())
    }

    /// Starts the thread.
    pub(super) fn start(self, engine: Engine<PortSet>) -> Result<Running, ServeError> {
        let (view, seen) = watch::channel(engine.view());
        let pass_times = metrics::pass_times();
        let desk = Desk::new(self.sender.clone(), seen, pass_times.clone());
        let (end, ended) = oneshot::channel();
        let at_desk = AtDesk {
            engine,
            messages: self.messages,
            news: self.news,
            view,
            pass_times,
            began: Instant::now(),
        };
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                // Nobody waits for the end when the whole process goes.
                let _ = end.send(at_desk.run());
            })
            .map_err(|source| ServeError::System {
                what: "a thread for the engine",
                source,
            })?;
        Ok(Running {
            desk,
            ended,
            sender: self.sender,
        })
    }
}

/// The thread's own side.
struct AtDesk {
    engine: Engine<PortSet>,
    messages: Receiver<Message>,
    news: News,
    view: watch::Sender<Arc<View>>,
    pass_times: Histogram,
    /// When the newest pass began.
    began: Instant,
}

enum Next {
    Pass,
    Stop,
}

impl AtDesk {
    fn run(mut self) -> EngineEnd {
        loop {
            self.began = Instant::now();
            self.news.look();
            let outcome = self.engine.pass();
            self.pass_times.observe(self.began.elapsed().as_secs_f64());
            self.show();
            let due = match outcome {
                PassOutcome::Decided { changed: true, .. } => self.began,
                PassOutcome::Decided { changed: false, .. } | PassOutcome::Held => {
                    self.began + PASS_INTERVAL
                }
                PassOutcome::Stopped => return EngineEnd::ForGood(self.reason()),
            };
            match self.attend(due) {
                Next::Pass => {}
                Next::Stop => return EngineEnd::Stopped,
            }
        }
    }

    /// Takes orders until the next pass is due.
    fn attend(&mut self, mut due: Instant) -> Next {
        let took = self.began.elapsed();
        // As much time for orders as the pass took: with many instances and much news, passes
        // take half of one core at most.
        let earliest = Instant::now() + took.max(PASS_PAUSE);
        due = due.max(earliest);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(Message::Order(ask)) => {
                    self.take(*ask);
                    due = earliest;
                }
                Ok(Message::Approve(ask)) => {
                    self.approve(*ask);
                    due = earliest;
                }
                Ok(Message::Poke) => due = earliest,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Next::Stop,
                Err(RecvTimeoutError::Timeout) => return Next::Pass,
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        let outcome = self.engine.command(&ask.order, &ask.who);
        self.show();
        // Who asked may have gone away; the order is taken all the same.
        let _ = ask.answer.send(outcome);
    }

    fn approve(&mut self, ask: AskApproval) {
        let outcome = self.engine.approve_recovery(&ask.approval, &ask.who);
        self.show();
        // Who asked may have gone away; the word is taken all the same.
        let _ = ask.answer.send(outcome);
    }

    fn show(&self) {
        self.view.send_replace(self.engine.view());
    }

    fn reason(&self) -> String {
        let view = self.engine.view();
        let held = view.held.as_ref();
        held.map_or_else(String::new, |held| held.reason.clone())
    }
}
