//! The picture of an agent at one moment.

use std::time::Duration;

use calvin_lifecycle::Lifecycle;
use calvin_model::{Health, Report, Role};
use serde::{Deserialize, Serialize};

use super::explain;
use crate::{
    catalogue::LockSeen, clock::boottime, dns::ForwarderSeen, identity::KeeperStatus,
    provision::Provisioned, session::SessionStatus,
};

/// Everything that `calvin-agent status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the agent.
    pub version: String,
    /// Which instance.
    pub instance: String,
    /// Its fleet.
    pub fleet: String,
    /// Its environment.
    pub environment: String,
    /// Its image, `name@version`.
    pub image: String,
    /// How long this agent has run, milliseconds.
    pub up_ms: u64,
    /// Why there is no identity, or it could not be renewed.
    pub identity_fault: Option<String>,
    /// The session.
    pub session: SessionView,
    /// The role that is wanted.
    pub role_wanted: Option<Role>,
    /// Generation of that.
    pub generation_wanted: u64,
    /// What it would report now.
    pub report: Report,
    /// The checks that count in its role.
    pub checks: Vec<CheckView>,
    /// Why names are not answered, if they are not.
    pub dns_fault: Option<String>,
    /// Who answers the environment's names, where it is not the agent itself.
    #[serde(default)]
    pub names_from: Option<NamesFromView>,
    /// The lock of its fleet, where it is held.
    #[serde(default)]
    pub lock: Option<LockView>,
    /// What it waits for, the first cause first.
    pub waiting: Vec<WaitingView>,
}

/// The session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// The coordinator of the live session.
    pub coordinator: Option<String>,
    /// The highest epoch that was listened to.
    pub epoch: Option<u64>,
    /// Why the last session ended, or none came about.
    pub fault: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// What it says.
    pub health: Health,
    /// Why its last run failed, if it did.
    pub reason: Option<String>,
}

/// The lock of an `exclusive` fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// The fencing number.
    pub fence: u64,
    /// How long the work may run yet without an answer of Consul, milliseconds.
    pub lease_left_ms: u64,
}

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingView {
    /// One sentence.
    pub text: String,
    /// For how long already, milliseconds.
    pub since_ms: u64,
}

/// Who answers the environment's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesFromView {
    /// Its address; nothing while nobody may be asked.
    pub server: Option<String>,
    /// Answers that were given out of memory since the agent started, because it gave none.
    pub stale_answers: u64,
    /// How old the oldest of those was when it was given, milliseconds.
    #[serde(default)]
    pub stale_oldest_ms: Option<u64>,
    /// Questions whose records are known, for when nobody answers.
    #[serde(default)]
    pub kept: usize,
    /// Why it gave no answer last, if it did not.
    pub fault: Option<String>,
    /// Why what is known is not on disk, if it is not.
    #[serde(default)]
    pub unsaved: Option<String>,
}

/// Where the picture is taken from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) machine: &'a Provisioned,
    pub(crate) lifecycle: &'a Lifecycle,
    pub(crate) up: Duration,
    pub(crate) identity: KeeperStatus,
    pub(crate) session: SessionStatus,
    pub(crate) dns_fault: Option<String>,
    pub(crate) forwarder: Option<ForwarderSeen>,
    pub(crate) lock: LockSeen,
}

/// Takes the picture.
#[must_use]
pub(crate) fn build(sources: &Sources<'_>) -> StatusView {
    let Sources {
        machine, lifecycle, ..
    } = sources;
    let provision = &machine.provision;
    let wanted = lifecycle.record().wanted;
    let checks = lifecycle.checks_now().into_iter();
    let waiting = lifecycle.waiting().into_iter();
    StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: provision.instance.to_string(),
        fleet: provision.fleet.to_string(),
        environment: provision.environment.to_string(),
        image: machine.manifest.tag().to_string(),
        up_ms: milliseconds(sources.up),
        identity_fault: sources.identity.fault.clone(),
        session: SessionView {
            coordinator: sources.session.coordinator.map(|at| at.to_string()),
            epoch: lifecycle.seen().0.map(|epoch| epoch.number),
            fault: sources.session.fault.clone(),
        },
        role_wanted: wanted.map(|wanted| wanted.role),
        generation_wanted: wanted.map(|wanted| wanted.generation.0).unwrap_or_default(),
        report: lifecycle.report_now(),
        checks: checks
            .map(|(name, health, reason)| CheckView {
                name: name.to_owned(),
                health,
                reason: reason.map(str::to_owned),
            })
            .collect(),
        dns_fault: sources.dns_fault.clone(),
        names_from: sources.forwarder.as_ref().map(|seen| NamesFromView {
            server: seen.server.map(|server| server.to_string()),
            stale_answers: seen.stale,
            stale_oldest_ms: seen.stale_oldest.map(milliseconds),
            kept: seen.kept,
            fault: seen.fault.clone(),
            unsaved: seen.unsaved.clone(),
        }),
        lock: sources.lock.fence.map(|fence| LockView {
            fence,
            lease_left_ms: milliseconds(
                sources
                    .lock
                    .lease
                    .unwrap_or_default()
                    .saturating_sub(boottime()),
            ),
        }),
        waiting: waiting
            .map(|waiting| WaitingView {
                text: explain::sentence(&waiting.what, sources),
                since_ms: milliseconds(waiting.since),
            })
            .collect(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
