//! The connection against runners that answer badly, late or not at all.

use std::collections::BTreeMap;

use calvin_model::WorkloadState;

use super::*;
use crate::workload::{
    ConsoleCounts,
    fake::{DEADLINE, Fake, request, spec, tell},
};

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_asked_again() {
    let (fake, runner) = Fake::new();
    let order = tokio::spawn(async move { runner.start(spec()).await });
    let mut lost = fake.accept().await;
    let first = request(&mut lost).await;
    drop(lost);
    let mut lines = fake.accept().await;
    let second = request(&mut lines).await;
    assert_eq!(second, first);
    assert_eq!(second.order, Order::Start(Box::new(spec())));
    let answer = |id| Message::Answer { id, refused: None };
    tell(&mut lines, &answer(second.id + 7)).await;
    tell(&mut lines, &answer(second.id)).await;
    order.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_order_that_gave_way_is_not_asked_again() {
    let (fake, runner) = Fake::new();
    let start = {
        let runner = runner.clone();
        tokio::spawn(async move { runner.start(spec()).await })
    };
    let mut lost = fake.accept().await;
    let first = request(&mut lost).await;
    assert!(matches!(first.order, Order::Start(_)));
    start.abort();
    assert!(start.await.unwrap_err().is_cancelled());
    let stop = tokio::spawn(async move { runner.stop(StopSignal::Term, DEADLINE).await });
    drop(lost);
    let mut lines = fake.accept().await;
    let second = request(&mut lines).await;
    assert!(matches!(second.order, Order::Stop { .. }), "{second:?}");
    let answer = Message::Answer {
        id: second.id,
        refused: None,
    };
    tell(&mut lines, &answer).await;
    stop.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_reason_of_a_refusal_reaches_who_asked() {
    let (fake, runner) = Fake::new();
    let order = tokio::spawn(async move { runner.start(spec()).await });
    let mut lines = fake.accept().await;
    let id = request(&mut lines).await.id;
    let refused = Some("the machine is being stopped".to_owned());
    tell(&mut lines, &Message::Answer { id, refused }).await;
    let error = order.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the runner refused to start the workload: the machine is being stopped"
    );
}

#[tokio::test]
async fn the_state_is_unknown_while_there_is_no_connection() {
    let (fake, runner) = Fake::new();
    let mut states = runner.state();
    assert!(states.borrow().is_none());
    let mut lines = fake.accept().await;
    let state = RunnerState {
        boot: "aa".parse().unwrap(),
        workload: WorkloadState::Running,
        pid: Some(7),
        starts: 1,
        last_end: None,
        fault: None,
        restart_in_ms: None,
        lease_left_ms: None,
        console: ConsoleCounts::default(),
        units: BTreeMap::new(),
        stopping: false,
    };
    tell(&mut lines, &Message::State(Box::new(state.clone()))).await;
    let known = states.wait_for(Option::is_some);
    let known = tokio::time::timeout(DEADLINE, known)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*known, Some(state));
    drop(known);
    lines.send("no message".to_owned()).await.unwrap();
    let unknown = states.wait_for(Option::is_none);
    tokio::time::timeout(DEADLINE, unknown)
        .await
        .unwrap()
        .unwrap();
    // It comes back by itself.
    fake.accept().await;
}

#[tokio::test]
async fn the_connection_ends_with_its_last_handle() {
    let root = tempfile::tempdir().unwrap();
    let (runner, connection) = Runner::connect(root.path().join("nobody.sock"));
    let running = tokio::spawn(connection.run());
    drop(runner);
    tokio::time::timeout(DEADLINE, running)
        .await
        .expect("it goes on")
        .unwrap();
}
