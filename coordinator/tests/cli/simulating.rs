//! `calvin simulate`: asks nobody, and what a program reads is not mixed with what a person does.

use crate::run::{bare, finish};

/// `calvin simulate` of a small fleet, with a trace.
async fn trace(output: &str) -> crate::run::Ended {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.args(["simulate", "--seed", "1", "--instances", "1"]);
    command.args(["--faults", "none", "--trace", "--output", output]);
    finish(command).await
}

#[tokio::test]
async fn a_trace_goes_beside_the_result_that_a_program_reads() {
    let ended = trace("json").await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.json()["broken"], 0);
    assert!(ended.err.contains("epoch 1"), "{}", ended.err);
    let ended = trace("table").await;
    assert!(ended.out.contains("epoch 1") && ended.out.contains("no rule was broken"));
}

#[tokio::test]
async fn a_fleet_of_another_kind_is_simulated_too() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.args(["simulate", "--seeds", "2", "--kind", "exclusive"]);
    command.args(["--faults", "loss", "--output", "json"]);
    let ended = finish(command).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.json()["instances"], 1);
}
