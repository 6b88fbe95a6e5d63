//! The coordinator is killed at each commit and around each call that it makes of the outside, in
//! a whole rollout and in a rollback, and started again at once. Where it can die is not a list
//! that somebody keeps: a dry run of the same course numbers the places.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and shows what it knows"
)]

mod course;
mod leaks;
mod points;
#[allow(dead_code, reason = "this suite uses a part of what the others need")]
mod support;

use std::time::Instant;

use crate::{
    course::{Course, Stage},
    points::{Points, chosen},
};

/// Tries for a place: a run that was quicker than the dry one has fewer.
const TRIES: usize = 3;

/// Courses without a death, of which the shortest names the places.
const DRY_RUNS: usize = 3;

/// Of the places, so many may not be met in any try. Only the last ones depend on the pace.
const MISSED_MAX: usize = 3;

async fn survives_every_point(course: Course) {
    let started = Instant::now();
    let mut first = Stage::prepare(course).await;
    // What commits together on an idle machine commits apart on a busy one: the fewest places are those
    // that every pace has.
    let mut passed = first.dry_run().await;
    for _ in 1..DRY_RUNS {
        let again = first.dry_run().await;
        if again.len() < passed.len() {
            passed = again;
        }
    }
    assert!(passed.len() > 20, "hardly any places: {passed:#?}");
    let all = Points::of(&passed);
    let (share, points) = chosen(all);
    println!(
        "{course:?}: {} places, {} deaths, of which {share}: {}",
        passed.len(),
        2 * passed.len(),
        points.len()
    );
    // Three at a time: a run is mostly waiting, for names to time out and for agents to come back.
    let (second, third) = tokio::join!(Stage::prepare(course), Stage::prepare(course));
    let (one, two, three) = tokio::join!(
        work(first, &points),
        work(second, &points),
        work(third, &points),
    );
    let missed = [one, two, three].concat();
    println!(
        "{course:?}: died at {} of {} in {} s; not met: {missed:?}",
        points.len() - missed.len(),
        points.len(),
        started.elapsed().as_secs()
    );
    assert!(missed.len() <= MISSED_MAX, "places not met: {missed:?}");
}

/// Dies at one place after the other, as long as there are some. Gives those that were not met.
async fn work(mut stage: Stage, points: &Points) -> Vec<String> {
    let mut missed = Vec::new();
    while let Some(point) = points.next() {
        let mut met = false;
        for _ in 0..TRIES {
            met = stage.run(&point).await;
            if met {
                break;
            }
        }
        if !met {
            missed.push(point.to_string());
        }
    }
    missed
}

#[tokio::test]
async fn a_rollout_ends_right_wherever_its_coordinator_is_killed() {
    survives_every_point(Course::Forward).await;
}

#[tokio::test]
async fn a_rollback_ends_right_wherever_its_coordinator_is_killed() {
    survives_every_point(Course::Back).await;
}
