//! Rollouts that are followed: how they end, Ctrl-C, timeouts, a coordinator that goes away.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use crate::{
    fake::Fake,
    run::{PATIENCE, command, ended, run, start},
};

#[tokio::test]
async fn a_rollout_is_followed_to_its_end_with_a_line_for_each_change() {
    let fake = Fake::start();
    let ended = run(&fake, &["rollout", "start", "web", "web@2.0"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], "[test] rollout web-7 started");
    assert!(
        lines[1].starts_with("[test] web-7 provisioning; green web@2.0 0/1"),
        "{}",
        ended.out
    );
    assert!(
        lines.last().unwrap().contains("web-7 is done"),
        "{}",
        ended.out
    );
    // The fake shows the rollout before this one first, and every state twice.
    assert_eq!(
        ended.out.matches("provisioning").count(),
        1,
        "{}",
        ended.out
    );
    assert!(!ended.out.contains("web-6"), "{}", ended.out);
}

#[tokio::test]
async fn each_end_has_its_own_exit_code() {
    let fake = Fake::start();
    assert_eq!(run(&fake, &["rollout", "start", "bad"]).await.code, 3);
    assert_eq!(run(&fake, &["rollout", "start", "first"]).await.code, 1);
    assert_eq!(
        run(&fake, &["rollout", "rollback", "bad", "--yes"])
            .await
            .code,
        0
    );
    assert_eq!(
        run(&fake, &["rollout", "abort", "bad", "--yes", "--detach"])
            .await
            .code,
        0
    );
    assert_eq!(run(&fake, &["undo", "web"]).await.code, 0);
    assert_eq!(run(&fake, &["rollout", "watch", "never"]).await.code, 4);
}

#[tokio::test]
async fn as_json_each_state_is_an_object_on_its_line() {
    let fake = Fake::start();
    let ended = run(&fake, &["rollout", "watch", "bad", "--output", "json"]).await;
    assert_eq!(ended.code, 3);
    let states: Vec<serde_json::Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(states.last().unwrap()["phase"], "rolled_back");
    assert_eq!(states.last().unwrap()["reason"], "it never became healthy");
}

#[tokio::test]
async fn ctrl_c_leaves_the_rollout_alone_and_says_so() {
    let fake = Fake::start();
    let mut child = start(command(&fake, &["rollout", "start", "slow"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("provisioning") {
        said = timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .expect("a line");
    }
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        rest.push_str(&line);
    }
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(rest.contains("the rollout goes on"), "{rest}");
    assert_eq!(fake.changes(), ["start slow "]);
}

#[tokio::test]
async fn a_timeout_ends_the_watching_and_names_the_phase() {
    let fake = Fake::start();
    let ended = run(&fake, &["rollout", "watch", "slow", "--timeout", "700ms"]).await;
    assert_eq!(ended.code, 5, "{}", ended.err);
    assert!(
        ended.err.contains("it is provisioning and goes on"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn watching_goes_on_when_the_coordinator_is_killed_and_comes_back() {
    let mut fake = Fake::start();
    let mut child = start(command(&fake, &["rollout", "watch", "resumed"]));
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    fake.wait_for_watchers(1).await;
    fake.stop();
    let line = timeout(PATIENCE, errors.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(line.contains("the coordinator does not answer"), "{line}");
    fake.begin();
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let ended = ended(&output);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("resumed-7 is done"), "{}", ended.out);
}

#[tokio::test]
async fn a_reader_that_goes_away_does_not_make_a_rollout_done() {
    let fake = Fake::start();
    let mut child = start(command(&fake, &["rollout", "watch", "bad"]));
    // As `head -0` does.
    drop(child.stdout.take());
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let ended = ended(&output);
    assert_eq!((ended.code, ended.err.as_str()), (130, ""));
}
