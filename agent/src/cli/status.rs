//! `calvin-agent status` and `explain`: what the machine's agent says of itself.

use std::{fmt::Write as _, path::Path, time::Duration};

use calvin_model::{CatalogueRole, ConsulReport, HumanDuration, WorkloadState};
use calvin_proto::machine::MachineFiles;

use super::{Output, render};
use crate::{
    exit::Exit,
    status::{NamesFromView, StatusError, StatusView, ask},
};

/// Shows everything at a glance.
pub(super) fn status(machine: &Path, output: Output) -> Exit {
    with_view(machine, output, status_text)
}

/// Says in sentences what the agent waits for.
pub(super) fn explain(machine: &Path, output: Output) -> Exit {
    with_view(machine, output, explain_text)
}

fn with_view(machine: &Path, output: Output, text: impl Fn(&StatusView) -> String) -> Exit {
    match ask(&MachineFiles::new(machine).agent_socket()) {
        Ok(view) => match output {
            Output::Json => render::json(&view),
            Output::Text => render::text(text(&view).trim_end()),
        },
        Err(error) => {
            let exit = match error {
                StatusError::Connect { .. } => Exit::Unreachable,
                StatusError::Answer { .. } => Exit::Failed,
            };
            render::failure(&error, exit)
        }
    }
}

fn status_text(view: &StatusView) -> String {
    let mut text = String::new();
    let report = &view.report;
    let mut row = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    let (instance, fleet, image) = (&view.instance, &view.fleet, &view.image);
    row(
        "instance",
        format!("{instance} of fleet {fleet}, image {image}"),
    );
    row(
        "environment",
        format!(
            "{}, agent {}, up {}",
            view.environment,
            view.version,
            ms(view.up_ms)
        ),
    );
    row("session", session(view));
    row("role", role(view));
    let health_for = rounded(report.health_for);
    row(
        "health",
        format!("{} for {health_for}, {} flaps", report.health, report.flaps),
    );
    for check in &view.checks {
        let reason = check.reason.as_ref().map(|reason| format!(": {reason}"));
        row(
            "  check",
            format!(
                "{} {}{}",
                check.name,
                check.health,
                reason.unwrap_or_default()
            ),
        );
    }
    row("workload", workload(report.workload).to_owned());
    if let Some(open) = &report.connections {
        row("connections", open.count.to_string());
    }
    row(
        "names",
        match (&view.dns_fault, &view.names_from, report.names) {
            (Some(fault), ..) => fault.clone(),
            (None, Some(from), _) => match &from.server {
                Some(server) => format!("from Consul at {server}"),
                None => "out of memory: no Consul client is known to be this machine's".to_owned(),
            },
            (None, None, Some(version)) => format!("version {version}"),
            (None, None, None) => "none yet".to_owned(),
        },
    );
    if let Some(from) = &view.names_from {
        for line in forwarded(from) {
            row("", line);
        }
    }
    if let Some(consul) = &report.consul {
        row("consul", registered(consul));
    }
    if let Some(lock) = &view.lock {
        let (fence, left) = (lock.fence, ms(lock.lease_left_ms));
        row(
            "lock",
            format!("held, fence {fence}; without Consul its work may run for {left} more"),
        );
    }
    if let Some(unsaved) = &report.names_unsaved {
        row("", format!("not on disk: {unsaved}"));
    }
    if let Some(refused) = &report.refused {
        row("refused", refused.clone());
    }
    text.push('\n');
    text.push_str(&explain_text(view));
    text
}

fn session(view: &StatusView) -> String {
    match (&view.session.coordinator, &view.session.fault) {
        (Some(address), _) => match view.session.epoch {
            Some(epoch) => format!("with {address}, epoch {epoch}"),
            None => format!("with {address}"),
        },
        (None, Some(fault)) => format!("none: {fault}"),
        (None, None) => "none".to_owned(),
    }
}

fn forwarded(from: &NamesFromView) -> Vec<String> {
    let kept = format!("{} names kept for when it is silent", from.kept);
    let memory = match (from.stale_answers, from.stale_oldest_ms) {
        (0, _) => None,
        (count, None) => Some(format!("{count} answers out of memory")),
        (count, Some(oldest)) => Some(format!(
            "{count} answers out of memory, the oldest {} old",
            ms(oldest)
        )),
    };
    let fault = from.fault.as_ref();
    let fault = fault.map(|fault| format!("out of memory now: {fault}"));
    let unsaved = from.unsaved.as_ref();
    let unsaved = unsaved.map(|reason| format!("not on disk: {reason}"));
    let more = memory.into_iter().chain(fault).chain(unsaved);
    std::iter::once(kept).chain(more).collect()
}

fn registered(consul: &ConsulReport) -> String {
    let role = match consul.registered {
        Some(CatalogueRole::Absent) => "not registered".to_owned(),
        Some(role) => format!("registered as {role}"),
        None => "not registered yet".to_owned(),
    };
    match &consul.fault {
        Some(fault) => format!("{role}: {fault}"),
        None => role,
    }
}

fn role(view: &StatusView) -> String {
    let applied = view
        .report
        .role_applied
        .map_or("none".to_owned(), |role| role.to_string());
    let generation = view.report.generation_applied;
    match view.role_wanted {
        Some(wanted) if view.generation_wanted != generation.0 => format!(
            "{applied} (generation {generation}), wanted {wanted} (generation {})",
            view.generation_wanted
        ),
        Some(_) | None => format!("{applied} (generation {generation})"),
    }
}

fn workload(state: WorkloadState) -> &'static str {
    match state {
        WorkloadState::NotWanted => "not to run now",
        WorkloadState::Starting => "starting",
        WorkloadState::Running => "running",
        WorkloadState::Backoff => "ended by itself, is started again after a pause",
        WorkloadState::Stopping => "stopping",
        WorkloadState::Stopped => "stopped as told",
    }
}

fn explain_text(view: &StatusView) -> String {
    if view.waiting.is_empty() {
        return format!(
            "{} does what it was told and waits for nothing.\n",
            view.instance
        );
    }
    let mut text = String::new();
    for waiting in &view.waiting {
        let since = ms(waiting.since_ms);
        let _ = writeln!(text, "waits since {since} for {}", waiting.text);
    }
    text
}

fn ms(milliseconds: u64) -> HumanDuration {
    rounded(Duration::from_millis(milliseconds))
}

/// Whole seconds are enough for people.
fn rounded(duration: Duration) -> HumanDuration {
    HumanDuration::from_secs(duration.as_secs())
}
