//! Streams that follow the engine: status, and one rollout until it has ended.
//!
//! Something is sent when something other than a time changed, looked for at most five times a
//! second; and at least each two seconds, so that times stay true and a dead client is noticed. Before each answer
//! the caller is judged again: a stream ends with the certificate or the revocation of its operator.

use std::{pin::Pin, sync::Arc, time::Duration};

use calvin_engine::View;
use calvin_proto::wire;
use futures_util::Stream;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{OperatorParts, answer::fleet, error::OperatorError, picture::rollout_status};
use crate::identity::Call;

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Least time between two answers: a screen shows no more.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest time between two answers.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Answers on their way to a slow client; the newest picture is taken once there is room.
const ANSWERS: usize = 1;

/// What one look at a picture gives to a follower.
enum Look<T> {
    /// Send this and go on.
    More(T),
    /// Send this as the last.
    Last(T),
    /// There is nothing more to follow.
    Gone,
}

impl OperatorParts {
    pub(super) fn watch_status(
        self: &Arc<Self>,
        request: wire::StatusRequest,
        call: Call,
    ) -> Result<Answers<wire::StatusReply>, OperatorError> {
        self.status(&request.fleet)?;
        let parts = Arc::clone(self);
        let look = move |view: &View| match parts.status_of(view, &request.fleet) {
            Ok(reply) => Look::More(reply),
            // The one fleet that was watched is gone.
            Err(_) => Look::Gone,
        };
        let judge = move || call.judge().map(|_| ());
        Ok(follow(self.desk.views(), judge, look, still_status))
    }

    pub(super) fn watch_rollout(
        &self,
        request: wire::FleetRequest,
        call: Call,
    ) -> Result<Answers<wire::RolloutStatus>, OperatorError> {
        let view = self.desk.view();
        let (name, state) = fleet(&view, &request.fleet)?;
        if state.rollout.is_none() {
            return Err(OperatorError::NotNow {
                message: format!("fleet {name} never had a rollout: there is nothing to watch"),
                rule: None,
            });
        }
        let name = name.clone();
        let look = move |view: &View| {
            let state = view.fleets.get(&name);
            let rollout = state.and_then(|state| Some((state, state.rollout.as_ref()?)));
            let Some((state, rollout)) = rollout else {
                return Look::Gone;
            };
            let status = rollout_status(view, &name, state, rollout);
            // What waits for this one to end is followed too.
            if status.ended && state.next.is_none() {
                Look::Last(status)
            } else {
                Look::More(status)
            }
        };
        let judge = move || call.judge().map(|_| ());
        Ok(follow(self.desk.views(), judge, look, still_rollout))
    }
}

/// Answers with each picture of `views` that `look` finds something new in, besides what `still`
/// takes away, for as long as `judge` lets the caller. A picture is shared before it is looked at:
/// whoever makes the next one must never wait for a watcher.
fn follow<V, T>(
    mut views: watch::Receiver<Arc<V>>,
    judge: impl Fn() -> Result<(), Status> + Send + Sync + 'static,
    look: impl Fn(&V) -> Look<T> + Send + Sync + 'static,
    still: fn(&T) -> T,
) -> Answers<T>
where
    V: Send + Sync + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let (sender, answers) = mpsc::channel(ANSWERS);
    tokio::spawn(async move {
        loop {
            let view = newest(&mut views);
            let shown = match look(&view) {
                Look::More(answer) => {
                    let shown = still(&answer);
                    if sender.send(Ok(answer)).await.is_err() {
                        return;
                    }
                    shown
                }
                Look::Last(answer) => {
                    // Who watched may be gone; either way this is the end.
                    let _ = sender.send(Ok(answer)).await;
                    return;
                }
                Look::Gone => return,
            };
            let changed = async {
                while views.changed().await.is_ok() {
                    let differs = match look(&newest(&mut views)) {
                        Look::More(answer) => shown != still(&answer),
                        Look::Last(_) | Look::Gone => true,
                    };
                    if differs {
                        return;
                    }
                    sleep(PAUSE).await;
                }
            };
            sleep(PAUSE).await;
            tokio::select! {
                // After the longest pause the same is sent with its new times.
                _ = timeout(KEEPALIVE, changed) => {}
                () = sender.closed() => return,
            }
            if let Err(status) = judge() {
                let _ = sender.send(Err(status)).await;
                return;
            }
            if views.has_changed().is_err() {
                // The engine has ended; clients connect again to whom comes after.
                let status = Status::unavailable("the coordinator is stopping");
                let _ = sender.send(Err(status)).await;
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(answers))
}

/// The newest picture; the channel is held only to take a share of it.
fn newest<V>(views: &mut watch::Receiver<Arc<V>>) -> Arc<V> {
    Arc::clone(&views.borrow_and_update())
}

/// A status without what changes by itself as time goes by.
fn still_status(status: &wire::StatusReply) -> wire::StatusReply {
    wire::StatusReply {
        wall_ms: 0,
        up_ms: 0,
        fleets: status.fleets.iter().map(still_fleet).collect(),
        ..status.clone()
    }
}

fn still_fleet(fleet: &wire::FleetStatus) -> wire::FleetStatus {
    wire::FleetStatus {
        rollout: fleet.rollout.as_ref().map(still_rollout),
        waiting: still_waiting(&fleet.waiting),
        instances: fleet.instances.iter().map(still_instance).collect(),
        window: fleet.window.map(|window| wire::WindowState {
            changes_ms: None,
            ..window
        }),
        ..fleet.clone()
    }
}

fn still_rollout(rollout: &wire::RolloutStatus) -> wire::RolloutStatus {
    wire::RolloutStatus {
        phase_ms: 0,
        total_ms: 0,
        waiting: still_waiting(&rollout.waiting),
        instances: rollout.instances.iter().map(still_instance).collect(),
        paused: rollout.paused.clone().map(|paused| wire::PauseState {
            left_ms: 0,
            ..paused
        }),
        gate: rollout
            .gate
            .clone()
            .map(|gate| wire::GateState { left_ms: 0, ..gate }),
        ..rollout.clone()
    }
}

/// Sentences about waiting tell durations; how many there are and what they lead to does not
/// change by itself.
fn still_waiting(waiting: &[wire::Waiting]) -> Vec<wire::Waiting> {
    waiting.iter().map(still_wait).collect()
}

fn still_wait(waiting: &wire::Waiting) -> wire::Waiting {
    wire::Waiting {
        then: waiting.then.clone(),
        ..wire::Waiting::default()
    }
}

fn still_instance(instance: &wire::InstanceStatus) -> wire::InstanceStatus {
    let report = instance.report.as_ref().map(|report| wire::Report {
        health: report.health,
        generation_applied: report.generation_applied,
        workload: report.workload,
        ..wire::Report::default()
    });
    wire::InstanceStatus {
        age_ms: 0,
        report_age_ms: 0,
        text: String::new(),
        since_ms: 0,
        waits: instance.waits.as_ref().map(still_wait),
        rests_on: None,
        report,
        ..instance.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };

    use tokio::time::Instant;
    use tokio_stream::StreamExt as _;

    use super::*;

    /// No condition of these tests takes longer.
    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_watches_never_holds_up_who_decides() {
        let (views, seen) = watch::channel(Arc::new(0));
        let (entered, is_in) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let may_leave = Mutex::new(may_leave);
        let look = move |view: &u64| {
            if *view == 1 {
                entered.send(()).unwrap();
                // Both ends of the test let it go.
                let _ = may_leave.lock().unwrap().recv_timeout(DEADLINE);
            }
            Look::More(*view)
        };
        let mut answers = follow(seen, || Ok(()), look, |view| *view);
        assert_eq!(answers.next().await.unwrap().unwrap(), 0);
        views.send_replace(Arc::new(1));
        is_in.recv_timeout(DEADLINE).unwrap();
        let (published, is_published) = mpsc::channel();
        thread::spawn(move || {
            views.send_replace(Arc::new(2));
            published.send(views).unwrap();
        });
        let views = is_published.recv_timeout(Duration::from_secs(1));
        drop(leave);
        let _views = views.expect("the engine waited for a watcher");
        while answers.next().await.unwrap().unwrap() != 2 {}
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pictures_that_come_fast_are_looked_at_with_pauses() {
        let (views, seen) = watch::channel(Arc::new(0));
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let look = move |_: &u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            Look::More(())
        };
        let mut answers = follow(seen, || Ok(()), look, |()| ());
        let began = Instant::now();
        answers.next().await.unwrap().unwrap();
        let publish = async {
            let mut number = 0;
            loop {
                number += 1;
                views.send_replace(Arc::new(number));
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = publish => {}
            answer = answers.next() => answer.unwrap().unwrap(),
        }
        let most = began.elapsed().as_millis() / PAUSE.as_millis() + 2;
        assert!((looks.load(Ordering::SeqCst) as u128) <= most);
    }
}
