//! Runs hooks, one process group each; a hook that is cancelled is killed with all its children.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use calvin_lifecycle::{HookKind, HookOutcome, HookRun};
use calvin_model::{DrainReason, image::Hooks as HookCommands};
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::{Instrument as _, info, info_span, warn};

use crate::{
    command::{CommandSpec, run_command},
    health::why,
    workload::Variables,
};

/// The end of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEnd {
    /// Which run.
    pub run: HookRun,
    /// How.
    pub outcome: HookOutcome,
}

/// The image's hooks, and those that run now.
#[derive(Debug)]
pub struct Hooks {
    commands: HookCommands,
    variables: Variables,
    image: PathBuf,
    ends: mpsc::Sender<HookEnd>,
    running: BTreeMap<HookRun, AbortHandle>,
}

impl Hooks {
    /// The hooks of an image. Ends of runs go to `ends`.
    #[must_use]
    pub fn new(
        commands: HookCommands,
        variables: Variables,
        image: PathBuf,
        ends: mpsc::Sender<HookEnd>,
    ) -> Self {
        Self {
            commands,
            variables,
            image,
            ends,
            running: BTreeMap::new(),
        }
    }

    /// Starts a hook. In its environment are, besides the machine's variables, `CALVIN_HOOK`, and
    /// for draining `CALVIN_DRAIN_REASON` and `CALVIN_DRAIN_SECONDS`.
    pub fn start(
        &mut self,
        run: HookRun,
        kind: HookKind,
        reason: Option<DrainReason>,
        limit: Duration,
    ) {
        self.running.retain(|_, task| !task.is_finished());
        let spec = self.spec(kind, reason, limit);
        let ends = self.ends.clone();
        let hook = async move {
            let outcome = match spec {
                Ok(spec) => execute(&spec, limit).await,
                Err(reason) => HookOutcome::Failed(reason),
            };
            // Nobody listens any more when the agent ends.
            let _ = ends.send(HookEnd { run, outcome }).await;
        };
        let task = tokio::spawn(hook.instrument(info_span!("hook", %kind)));
        self.running.insert(run, task.abort_handle());
    }

    /// Ends a hook with all its children.
    pub fn cancel(&mut self, run: HookRun) {
        if let Some(task) = self.running.remove(&run) {
            task.abort();
        }
    }

    fn spec(
        &self,
        kind: HookKind,
        reason: Option<DrainReason>,
        limit: Duration,
    ) -> Result<CommandSpec, String> {
        let command = match kind {
            HookKind::Standby => &self.commands.standby,
            HookKind::Active => &self.commands.active,
            HookKind::Drain => &self.commands.drain,
            HookKind::Retire => &self.commands.retire,
        };
        let Some(command) = command else {
            return Err("the image has no such hook".to_owned());
        };
        let mut added = BTreeMap::from([("CALVIN_HOOK".to_owned(), kind.to_string())]);
        if let Some(reason) = reason {
            added.insert("CALVIN_DRAIN_REASON".to_owned(), reason.to_string());
            let seconds = limit.as_secs().to_string();
            added.insert("CALVIN_DRAIN_SECONDS".to_owned(), seconds);
        }
        CommandSpec::new(command, &self.variables, &added, &self.image)
            .map_err(|error| error.to_string())
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

async fn execute(spec: &CommandSpec, limit: Duration) -> HookOutcome {
    let outcome = run_command(spec, limit).await;
    if outcome.passed() {
        info!(took = ?outcome.took, "done");
        return HookOutcome::Done;
    }
    let reason = why(&outcome);
    warn!(%reason, output = outcome.output.trim(), "failed");
    HookOutcome::Failed(reason)
}

#[cfg(test)]
mod tests {
    use calvin_model::{ImageManifest, Provision};
    use tokio::time::timeout;

    use super::*;

    fn hooks(script: &str, dir: &std::path::Path) -> (Hooks, mpsc::Receiver<HookEnd>) {
        let text = format!(
            "name = \"web\"\nversion = \"1\"\n[hooks]\ndrain = [\"sh\", \"-c\", '''{script}''']\n"
        );
        let manifest = ImageManifest::parse("image.toml", &text).unwrap();
        let provision = format!(
            "environment = \"e\"\ninstance = \"web-a\"\nfleet = \"web\"\ncoordinators = \
             [\"127.0.0.1:1\"]\ndomain = \"d\"\njoin_token = \"\"\nca_pem = \"\"\n[image]\ntag = \
             \"web@1\"\ndigest = \"sha256:{}\"\n",
            "01".repeat(32)
        );
        let provision = Provision::parse("provision.toml", &provision).unwrap();
        let (ends, seen) = mpsc::channel(4);
        let variables = Variables::new(&provision, dir);
        (
            Hooks::new(manifest.hooks, variables, dir.to_owned(), ends),
            seen,
        )
    }

    async fn end(seen: &mut mpsc::Receiver<HookEnd>) -> HookEnd {
        timeout(Duration::from_secs(10), seen.recv())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn a_drain_hook_is_told_why_and_for_how_long() {
        let dir = tempfile::tempdir().unwrap();
        let script = "test \"$CALVIN_HOOK $CALVIN_DRAIN_REASON $CALVIN_DRAIN_SECONDS\" = \"drain \
                      replaced 30\"";
        let (mut hooks, mut seen) = hooks(script, dir.path());
        let (reason, limit) = (Some(DrainReason::Replaced), Duration::from_secs(30));
        hooks.start(HookRun(1), HookKind::Drain, reason, limit);
        assert_eq!(
            end(&mut seen).await,
            HookEnd {
                run: HookRun(1),
                outcome: HookOutcome::Done
            }
        );
    }

    #[tokio::test]
    async fn a_failing_and_a_missing_hook_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let (mut hooks, mut seen) = hooks("echo no lease; exit 4", dir.path());
        let limit = Duration::from_secs(30);
        for (run, kind, reason) in [
            (1, HookKind::Drain, "ended with exit code 4: no lease"),
            (2, HookKind::Retire, "the image has no such hook"),
        ] {
            hooks.start(HookRun(run), kind, None, limit);
            let outcome = end(&mut seen).await.outcome;
            assert_eq!(outcome, HookOutcome::Failed(reason.into()));
        }
    }

    #[tokio::test]
    async fn a_cancelled_hook_is_killed_with_its_children_and_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // Both hold the pipe's end: it ends when the last of them is gone.
        let (mut hooks, mut seen) = hooks("echo > began; sleep 600 & sleep 600", dir.path());
        hooks.start(HookRun(1), HookKind::Drain, None, Duration::from_secs(600));
        let began = async {
            while !dir.path().join("began").exists() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), began).await.unwrap();
        hooks.cancel(HookRun(1));
        drop(hooks);
        let ended = timeout(Duration::from_secs(10), seen.recv()).await.unwrap();
        assert_eq!(ended, None);
    }
}
