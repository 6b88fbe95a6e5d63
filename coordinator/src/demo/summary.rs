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
        let home = stage.home().display();
        let mut lines = vec![String::new(), self.verdict()];
        lines.push(format!(
            "Machines left over: {}; made twice: {}.",
            self.leaked, self.doubled
        ));
        lines.push(format!("Files: {home}"));
        lines.push("  calvin.toml, web.toml, images/, coordinator.log".to_owned());
        match afterwards {
            Afterwards::KeepRunning => lines.extend(to_try(stage)),
            Afterwards::EndAll => {
                lines.push("Nothing is left running. What to try next:".to_owned());
                lines
                    .push("  calvin demo --keep    leaves it up, and says what to type".to_owned());
                lines.push("  README.md             your own workload in five minutes".to_owned());
            }
        }
        lines
    }

    fn verdict(&self) -> String {
        if !self.ok {
            let acts = self.acts.iter().filter(|act| !act.as_told);
            let names: Vec<_> = acts.map(|act| act.name).collect();
            return format!("Not as told: {}.", names.join(", "));
        }
        let requests: u64 = self.acts.iter().map(|act| act.requests).sum();
        let failed: Vec<_> = self
            .acts
            .iter()
            .enumerate()
            .filter(|(_, act)| act.failed > 0)
            .map(|(index, act)| {
                let (failed, ms) = (act.failed, act.failing_ms);
                format!("{failed} in act {} within {ms} ms", index + 1)
            })
            .collect();
        let failed = if failed.is_empty() {
            "none failed".to_owned()
        } else {
            format!("failed: {}", failed.join(", "))
        };
        format!("All five acts ended as told. {requests} requests; {failed}.")
    }
}

/// What to type while it is still up, and how to end it.
fn to_try(stage: &Stage) -> Vec<String> {
    let home = stage.home().display();
    let coordinator = stage
        .coordinator
        .id()
        .map_or(String::new(), |id| id.to_string());
    let mut lines = vec![
        "It is still up. To try it:".to_owned(),
        format!("  export CALVIN_SOCKET={}", stage.socket().display()),
    ];
    for command in [
        "calvin status",
        "calvin rollout plan web web@2.0",
        "calvin rollout start web web@2.0",
        "calvin rollout history web",
    ] {
        lines.push(format!("  {command}"));
    }
    lines.push("To end it:".to_owned());
    lines.push("  calvin fleet delete web --yes && calvin fleet delete client --yes".to_owned());
    lines.push("  calvin status         # until there is no fleet any more".to_owned());
    lines.push(format!("  kill {coordinator} && rm -r {home}"));
    lines
}
