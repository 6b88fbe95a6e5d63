//! What the runner is told, and in which order.

use calvin_consul::exclusive::FENCE_VARIABLE;
use calvin_model::image::StopSignal;

use super::*;
use crate::workload::{
    fake::{Fake, Lines, answered, request, spec, tell},
    protocol::{Message, Order, Request},
};

/// The agent's end, and the runner's.
struct Ends {
    commands: watch::Sender<Commands>,
    lines: Lines,
    _fake: Fake,
    _task: JoinSet<()>,
}

impl Ends {
    async fn new() -> Self {
        let (fake, runner) = Fake::new();
        let (commands, newest) = watch::channel(Commands::default());
        let mut task = JoinSet::new();
        task.spawn(give_orders(runner, Some(spec()), newest));
        Self {
            commands,
            lines: fake.accept().await,
            _fake: fake,
            _task: task,
        }
    }

    fn want(&self, command: Command) {
        self.commands
            .send_modify(|newest| newest.command = Some(command));
    }

    /// The lease is told after the command.
    fn want_with_lease(&self, command: Command, seconds: u64) {
        self.commands.send_modify(|newest| {
            newest.command = Some(command);
            newest.lease = Some(Duration::from_secs(seconds));
        });
    }

    async fn take(&mut self, Request { id, .. }: Request) {
        let answer = Message::Answer { id, refused: None };
        tell(&mut self.lines, &answer).await;
    }

    /// The next order, which is taken.
    async fn taken(&mut self) -> Order {
        answered(&mut self.lines, None).await
    }
}

const WITH_LOCK: Command = Command::Start { fence: Some(7) };

fn start(fence: Option<u64>) -> Order {
    let mut spec = spec();
    if let Some(fence) = fence {
        spec.needs_lease = true;
        let fence = fence.to_string();
        spec.env.insert(FENCE_VARIABLE.to_owned(), fence);
    }
    Order::Start(Box::new(spec))
}

fn stop(timeout_ms: u64) -> Order {
    Order::Stop {
        signal: StopSignal::Term,
        timeout_ms,
    }
}

fn lease(seconds: u64) -> Order {
    Order::Lease {
        until_ms: seconds * 1_000,
    }
}

#[tokio::test]
async fn what_was_told_before_an_order_that_was_broken_off_is_told_again() {
    let mut ends = Ends::new().await;
    ends.want_with_lease(Command::Stop, 10);
    assert_eq!(ends.taken().await, stop(1_000));
    assert_eq!(ends.taken().await, lease(10), "that was told");
    ends.want(WITH_LOCK);
    let begun = request(&mut ends.lines).await;
    assert_eq!(begun.order, start(Some(7)));
    ends.want(Command::Stop);
    // It has its turn, and waits for that answer no more: the runner obeys all the same.
    tokio::task::yield_now().await;
    ends.take(begun).await;
    assert_eq!(ends.taken().await, stop(1_000));
}

#[tokio::test]
async fn work_with_another_fence_than_that_of_the_lock_is_killed_and_started_with_it() {
    let mut ends = Ends::new().await;
    ends.want(WITH_LOCK);
    let lines = &mut ends.lines;
    assert_eq!(answered(lines, Some(RUNS_OTHERWISE)).await, start(Some(7)));
    assert_eq!(answered(lines, None).await, stop(0));
    assert_eq!(answered(lines, None).await, start(Some(7)));
}

#[tokio::test]
async fn a_start_that_is_refused_for_another_reason_stops_nothing() {
    let without = Command::Start { fence: None };
    for (command, fence, reason) in [
        (without, None, RUNS_OTHERWISE),
        (WITH_LOCK, Some(7), "the machine is being stopped"),
    ] {
        let mut ends = Ends::new().await;
        ends.want_with_lease(command, 10);
        let refused = answered(&mut ends.lines, Some(reason)).await;
        assert_eq!(refused, start(fence));
        assert_eq!(ends.taken().await, lease(10), "{reason}");
    }
}

#[tokio::test]
async fn a_command_comes_before_the_lease_and_a_newer_lease_repeats_no_command() {
    let mut ends = Ends::new().await;
    ends.want_with_lease(WITH_LOCK, 10);
    assert_eq!(ends.taken().await, start(Some(7)));
    let begun = request(&mut ends.lines).await;
    assert_eq!(begun.order, lease(10));
    ends.want_with_lease(WITH_LOCK, 11);
    tokio::task::yield_now().await;
    ends.take(begun).await;
    assert_eq!(ends.taken().await, lease(11));
    // The runner may be another.
    ends.commands.send_modify(|newest| {
        newest.again += 1;
        newest.lease = Some(Duration::from_secs(12));
    });
    assert_eq!(ends.taken().await, start(Some(7)));
    assert_eq!(ends.taken().await, lease(12));
}
