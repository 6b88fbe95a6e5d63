//! What is to be seen, apart from how it looks.

use std::sync::Arc;

use calvin_proto::wire::StatusReply;
use tokio::time::Instant;

use crate::demo::{
    acts::{ACTS, ActTitle},
    traffic::Traffic,
};

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) started: Instant,
    pub(super) coordinator_up: bool,
    pub(super) acts: [ActState; ACTS.len()],
    pub(super) sentence: String,
    pub(super) status: Option<Arc<StatusReply>>,
    pub(super) traffic: Traffic,
}

/// How far an act is.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::demo) enum ActState {
    /// Its turn has not come.
    Waiting,
    /// It is on; counters as they were when it began.
    Playing {
        /// When it began.
        since: Instant,
        /// Requests counted until then.
        requests: u64,
        /// Failed ones.
        failed: u64,
    },
    /// It is over.
    Ended(Verdict),
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::demo) struct Verdict {
    /// As it was to end.
    pub(in crate::demo) as_told: bool,
    /// In a few words.
    pub(in crate::demo) text: String,
    /// Requests in it.
    pub(in crate::demo) requests: u64,
    /// Failed ones.
    pub(in crate::demo) failed: u64,
    /// Its length.
    pub(in crate::demo) seconds: f64,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            coordinator_up: false,
            acts: std::array::from_fn(|_| ActState::Waiting),
            sentence: String::new(),
            status: None,
            traffic: Traffic::default(),
        }
    }

    /// Changes an act; the same as a line.
    pub(super) fn set_act(&mut self, index: usize, state: ActState) -> String {
        let ActTitle { what, told, .. } = ACTS[index];
        let number = index + 1;
        let line = match &state {
            ActState::Waiting => format!("act {number} waits"),
            ActState::Playing { .. } => format!("act {number}: {what}; {told}"),
            ActState::Ended(verdict) => format!(
                "act {number} {}: {}; {} requests, {} failed, {:.1} s",
                if verdict.as_told {
                    "ended as told"
                } else {
                    "DID NOT END AS TOLD"
                },
                verdict.text,
                verdict.requests,
                verdict.failed,
                verdict.seconds
            ),
        };
        self.acts[index] = state;
        line
    }
}
