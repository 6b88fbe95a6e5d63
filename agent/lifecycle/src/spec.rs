//! What the lifecycle must know of an image: a small part of `image.toml`.

use std::time::Duration;

use calvin_model::{
    ImageManifest,
    image::{CheckSpec, CheckWhen, Hooks, Work},
};

use crate::output::HookKind;

/// The part of an image that decides how an instance of it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// When the workload may run; `None` if the image has none.
    pub work: Option<Work>,
    /// The hooks that the image has.
    pub hooks: Vec<HookKind>,
    /// Time after which a hook is ended. Draining has its own.
    pub hook_timeout: Duration,
    /// Its checks, in the order of the file.
    pub checks: Vec<CheckRule>,
    /// What the quorum's command said is no longer known after this; `None` if there is none.
    pub quorum_stale_after: Option<Duration>,
}

/// How the results of one check count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRule {
    /// Its name.
    pub name: String,
    /// Runs that must pass in a row before it passes.
    pub rise: u32,
    /// Runs that must fail in a row before it fails.
    pub fall: u32,
    /// In which roles it counts.
    pub when: CheckWhen,
    /// A result older than this is no longer known.
    pub stale_after: Duration,
}

/// Missed runs after which a check's last result says nothing any more: the same three intervals
/// after which a coordinator no longer knows.
const STALE_INTERVALS: u32 = 3;

impl Spec {
    /// Takes from a manifest what the lifecycle needs.
    #[must_use]
    pub fn of(manifest: &ImageManifest) -> Self {
        Self {
            work: manifest.workload.as_ref().map(|workload| workload.work),
            hooks: hooks_of(&manifest.hooks),
            hook_timeout: manifest.hooks.timeout.0,
            checks: manifest.checks.iter().map(rule_of).collect(),
            quorum_stale_after: manifest
                .quorum
                .as_ref()
                .map(|quorum| quorum.interval.0 * STALE_INTERVALS + quorum.timeout.0),
        }
    }

    pub(crate) fn has(&self, kind: HookKind) -> bool {
        self.hooks.contains(&kind)
    }
}

fn hooks_of(hooks: &Hooks) -> Vec<HookKind> {
    [
        (HookKind::Standby, &hooks.standby),
        (HookKind::Active, &hooks.active),
        (HookKind::Drain, &hooks.drain),
        (HookKind::Retire, &hooks.retire),
    ]
    .into_iter()
    .filter(|(_, command)| command.is_some())
    .map(|(kind, _)| kind)
    .collect()
}

fn rule_of(check: &CheckSpec) -> CheckRule {
    CheckRule {
        name: check.name.clone(),
        rise: check.rise.get(),
        fall: check.fall.get(),
        when: check.when,
        stale_after: check.interval.0 * STALE_INTERVALS + check.timeout.0,
    }
}
