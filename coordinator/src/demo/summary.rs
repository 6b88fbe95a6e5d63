//! How the demo ended: for people, and as one JSON object.

use serde::Serialize;

use super::{
    Afterwards,
    acts::{ACTS, Played},
    stage::Stage,
};

/// One act, in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ActResult {
    pub(super) name: &'static str,
    /// `done`, `rolled_back`, `replaced`; in trouble the phase or state that it ended in.
    pub(super) outcome: String,
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) seconds: f64,
    /// Look-ups without an answer.
    pub(super) lookups_failed: u64,
    /// Longest time without an answered request so far, milliseconds.
    pub(super) failing_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<Part>,
    #[serde(skip)]
    pub(super) as_told: bool,
}

/// A part of an act whose failures count by themselves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) failed: u64,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    ok: bool,
    acts: Vec<ActResult>,
    leaked: usize,
    doubled: usize,
}

impl Summary {
    pub(super) fn new(played: &Played) -> Self {
        let mut acts = played.acts.clone();
        for title in ACTS.iter().skip(acts.len()) {
            acts.push(ActResult {
                name: title.name,
                outcome: "not_played".to_owned(),
                requests: 0,
                failed: 0,
                seconds: 0.0,
                lookups_failed: 0,
                failing_ms: 0,
                parts: Vec::new(),
                as_told: false,
            });
        }
        let as_told = acts.iter().all(|act| act.as_told);
        let clean = played.leaked == 0 && played.doubled == 0 && played.trouble.is_none();
        Self {
            ok: as_told && clean,
            acts,
            leaked: played.leaked,
            doubled: played.doubled,
        }
    }

    /// Every act ended as told, and nothing was left or made twice.
    pub(super) fn ok(&self) -> bool {
        self.ok
    }

    pub(super) fn json(&self) -> String {
        // Numbers, strings and lists: serde_json has no reason to refuse.
        serde_json::to_string(self)
            .unwrap_or_else(|error| format!("{{\"ok\":false,\"error\":\"{error}\"}}"))
    }

    /// What a person reads at the end.
    pub(super) fn lines(&self, stage: &Stage, afterwards: Afterwards) -> Vec<String> {
        let requests: u64 = self.acts.iter().map(|act| act.requests).sum();
        let failed: u64 = self.acts.iter().map(|act| act.failed).sum();
        let mut lines = vec![String::new()];
        lines.push(if self.ok {
            format!("All five acts ended as told: {requests} requests, {failed} failed (acts 3 and 5, as shown).")
        } else {
            let bad: Vec<_> = self.acts.iter().filter(|act| !act.as_told).map(|act| act.name).collect();
            format!("Not as told: {}.", if bad.is_empty() { "see above".to_owned() } else { bad.join(", ") })
        });
        lines.push(format!(
            "Machines left over: {}; made twice: {}.",
            self.leaked, self.doubled
        ));
        let home = stage.home().display();
        lines.push(format!(
            "Files: {home} (calvin.toml, web.toml, images/, coordinator.log)"
        ));
        let socket = stage.socket();
        match afterwards {
            Afterwards::KeepRunning => {
                lines.push("It is still up. To try it:".to_owned());
                lines.push(format!("  export CALVIN_SOCKET={}", socket.display()));
                for command in [
                    "calvin status",
                    "calvin rollout plan web web@2.0",
                    "calvin rollout start web web@2.0",
                    "calvin rollout watch web",
                    "calvin rollout history web",
                ] {
                    lines.push(format!("  {command}"));
                }
                lines.push(format!(
                    "To end it: kill the processes of `pgrep -f {home}`, then rm -r {home}"
                ));
            }
            Afterwards::EndAll => {
                lines.push("Nothing is left running. What to try next: calvin demo --keep, and the tutorial in README.md".to_owned());
            }
        }
        lines
    }
}
