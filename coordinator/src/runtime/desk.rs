//! The way to the engine, which runs on a thread of its own: orders in, pictures out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};

use calvin_engine::{Approval, CommandError, View};
use calvin_planner::{Command, CommandOutcome};
use prometheus_client::metrics::histogram::Histogram;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// Messages on their way to the engine. An order takes one commit (milliseconds), so this is more
/// than a second of them; beyond, operators are told to try again.
pub(super) const MESSAGES: usize = 64;
/// Time for an order: the queue's orders before it, and a slow disk.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the engine's thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something is new: look.
    Poke,
    /// An operator's order.
    Order(Box<Ask>),
    /// A person's word on what a coordinator that recovers has found.
    Approve(Box<AskApproval>),
    /// End.
    Stop,
}

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) order: Command,
    pub(super) who: String,
    pub(super) answer: oneshot::Sender<Result<CommandOutcome, CommandError>>,
}

#[derive(Debug)]
pub(super) struct AskApproval {
    pub(super) approval: Approval,
    pub(super) who: String,
    pub(super) answer: oneshot::Sender<Result<Vec<String>, CommandError>>,
}

/// Whether news came that no pass has looked for yet.
#[derive(Debug, Clone, Default)]
pub(super) struct News(Arc<AtomicBool>);

impl News {
    /// Says that a pass begins, before it looks: what comes later pokes again.
    pub(super) fn look(&self) {
        // Reads what pokes wrote, so that the pass sees what they were about.
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// Wakes the engine. Pokes before its next pass count as one.
#[derive(Debug, Clone)]
pub struct Poke {
    messages: SyncSender<Message>,
    news: News,
}

impl Poke {
    pub(super) fn new(messages: SyncSender<Message>, news: News) -> Self {
        Self { messages, news }
    }

    /// Says that there is something to look at.
    pub fn poke(&self) {
        if !self.news.0.swap(true, Ordering::AcqRel) {
            // A full queue wakes the engine as well, and the pass after it takes the news. One that
            // ended needs no waking.
            let _ = self.messages.try_send(Message::Poke);
        }
    }
}

/// Why an order was not taken, or is not known to have been.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] CommandError),
    /// Too many orders wait already.
    #[error("{MESSAGES} orders wait already: try again in a moment")]
    Busy,
    /// No answer came in time.
    #[error("the order was not answered within {} s, so whether it was taken is not known: look with calvin status before it is given again", ORDER_TIMEOUT.as_secs())]
    NoAnswer,
    /// The engine has ended.
    #[error("the coordinator is stopping: give the order again once it runs")]
    Ended,
}

/// The operators' way to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    messages: SyncSender<Message>,
    view: watch::Receiver<Arc<View>>,
    pass_times: Histogram,
}

impl Desk {
    pub(super) fn new(
        messages: SyncSender<Message>,
        view: watch::Receiver<Arc<View>>,
        pass_times: Histogram,
    ) -> Self {
        Self {
            messages,
            view,
            pass_times,
        }
    }

    /// How long passes took, in seconds.
    pub(super) fn pass_times(&self) -> &Histogram {
        &self.pass_times
    }

    /// The engine after its newest pass.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Each picture of the engine as it comes; those that nobody looked at in time are skipped.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Hands an order of `who` to the engine. When it returns `Ok`, the order is durable.
    ///
    /// # Errors
    /// The order was not taken, or that is not known.
    pub async fn order(&self, order: Command, who: &str) -> Result<CommandOutcome, OrderError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            order,
            who: who.to_owned(),
            answer,
        };
        self.ask(Message::Order(Box::new(ask)), answered).await
    }

    /// Hands the word of `who` on the recovery plan to the engine. When it returns `Ok`, it is
    /// durable, and the coordinator decides again.
    ///
    /// # Errors
    /// It was not taken, or that is not known.
    pub async fn approve(&self, approval: Approval, who: &str) -> Result<Vec<String>, OrderError> {
        let (answer, answered) = oneshot::channel();
        let ask = AskApproval {
            approval,
            who: who.to_owned(),
            answer,
        };
        self.ask(Message::Approve(Box::new(ask)), answered).await
    }

    async fn ask<T>(
        &self,
        message: Message,
        answered: oneshot::Receiver<Result<T, CommandError>>,
    ) -> Result<T, OrderError> {
        match self.messages.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(OrderError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(OrderError::Ended),
        }
        match timeout(ORDER_TIMEOUT, answered).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(_)) => Err(OrderError::Ended),
            Err(_) => Err(OrderError::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_poke_that_meets_a_full_queue_does_not_silence_those_after_it() {
        let (sender, messages) = sync_channel(1);
        sender.send(Message::Stop).unwrap();
        let news = News::default();
        let poke = Poke::new(sender, news.clone());
        poke.poke();
        // The queue's message alone wakes the engine: what came until its pass needs none.
        assert!(matches!(messages.try_recv(), Ok(Message::Stop)));
        poke.poke();
        assert!(messages.try_recv().is_err(), "pokes count as one");
        news.look();
        poke.poke();
        poke.poke();
        assert!(matches!(messages.try_recv(), Ok(Message::Poke)));
        assert!(messages.try_recv().is_err(), "pokes count as one");
    }
}
