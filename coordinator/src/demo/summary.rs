//! How the demo ended: for people, and as one JSON object.

use std::{
    env,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Afterwards,
    acts::{ACTS, Played},
    coordinator::Coordinator,
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
        let mut lines = vec![String::new()];
        lines.extend(self.verdict());
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
                let program = env::args().next().unwrap_or_else(|| "calvin".to_owned());
                lines.push(format!("  {program} demo --keep"));
                lines.push("      leaves it up, and says what to type".to_owned());
                lines.push("  README.md, \"Five minutes\"".to_owned());
                lines.push("      your own workload".to_owned());
            }
        }
        lines
    }

    fn verdict(&self) -> Vec<String> {
        if !self.ok {
            let acts = self.acts.iter().filter(|act| !act.as_told);
            let names: Vec<_> = acts.map(|act| act.name).collect();
            return vec![format!("Not as told: {}.", names.join(", "))];
        }
        let requests: u64 = self.acts.iter().map(|act| act.requests).sum();
        let failed: u64 = self.acts.iter().map(|act| act.failed).sum();
        let failed = match failed {
            0 => "none failed".to_owned(),
            some => format!("{some} failed"),
        };
        let mut lines = vec![format!(
            "All five acts ended as told. {requests} requests; {failed}."
        )];
        for (number, (act, title)) in (1..).zip(self.acts.iter().zip(&ACTS)) {
            if act.failed > 0 {
                lines.push(format!(
                    "  {} in act {number} within {} ms: {}",
                    act.failed, act.failing_ms, title.failures
                ));
            }
        }
        lines
    }
}

/// What to type while it is still up, and how to end it.
fn to_try(stage: &Stage) -> Vec<String> {
    let home = stage.home().display();
    let coordinator = stage
        .coordinator
        .id()
        .map_or(String::new(), |id| id.to_string());
    let mut lines = vec!["It is still up. To try it:".to_owned()];
    if let Some(directory) = directory_to_add(&stage.coordinator) {
        lines.push(format!("  export PATH=\"{}:$PATH\"", directory.display()));
    }
    lines.push(format!(
        "  export CALVIN_SOCKET={}",
        stage.socket().display()
    ));
    for command in [
        "calvin status",
        "calvin rollout plan web web@2.0",
        "calvin rollout start web web@2.0",
        "calvin rollout history web",
    ] {
        lines.push(format!("  {command}"));
    }
    // One list of commands, so that Ctrl-C in the loop ends all of it: a coordinator that ends
    // leaves its machines running.
    lines.push("To end it:".to_owned());
    lines.push("  calvin fleet delete web --yes && calvin fleet delete client --yes &&".to_owned());
    lines.push(
        "  until [ \"$(calvin fleet list --output json)\" = \"[]\" ]; do sleep 1; done &&"
            .to_owned(),
    );
    lines.push(format!("  kill {coordinator} && sleep 2 && rm -r {home}"));
    lines
}

/// The directory of this program, where a shell that is told `calvin` would not find it.
fn directory_to_add(coordinator: &Coordinator) -> Option<PathBuf> {
    let program = coordinator.program();
    let found = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|directory| directory.join("calvin"))
            .find(|candidate| candidate.is_file())
    });
    let found = found.and_then(|found| found.canonicalize().ok());
    if found == program.canonicalize().ok() {
        return None;
    }
    program.parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_fits_eighty_columns_and_says_why_requests_failed() {
        let act = |title: &super::super::acts::ActTitle| ActResult {
            name: title.name,
            outcome: "done".to_owned(),
            requests: 99_999,
            failed: 9_999,
            seconds: 9.0,
            lookups_failed: 0,
            failing_ms: 99_999,
            parts: Vec::new(),
            as_told: true,
        };
        let summary = Summary::new(&Played {
            acts: ACTS.iter().map(act).collect(),
            ..Played::default()
        });
        let lines = summary.verdict();
        for line in &lines {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(lines[3].ends_with("4.0 answered 500 until its check saw it"));
    }
}
