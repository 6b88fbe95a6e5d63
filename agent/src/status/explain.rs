//! What the lifecycle waits for, as sentences that a person can act on.

use std::time::Duration;

use calvin_lifecycle::WaitingFor;
use calvin_model::{HumanDuration, WorkloadState};

use super::Sources;

/// One sentence about one thing that is waited for.
pub(super) fn sentence(what: &WaitingFor, sources: &Sources<'_>) -> String {
    match what {
        WaitingFor::Identity => identity(sources),
        WaitingFor::Session => {
            let fault = sources
                .session
                .fault
                .as_deref()
                .unwrap_or("none came about yet");
            format!(
                "a session with a coordinator: {fault}. The workload goes on as it is; the agent \
                 tries again for ever"
            )
        }
        WaitingFor::FirstOrder => {
            "the coordinator to say what this instance is to be; its rollout may wait for others"
                .to_owned()
        }
        WaitingFor::Disk => {
            "the disk: what the coordinator said could not be kept yet, and nothing is done about \
             it before; look at the space and the rights of the state directory"
                .to_owned()
        }
        WaitingFor::NamesOnDisk { reason } => format!(
            "the disk to keep the newest names, which are served all the same; until then a \
             restart of the agent brings back older ones: {reason}"
        ),
        WaitingFor::Consul { reason } => {
            let workload = match sources.lock.words {
                Some(_) => "The workload runs only with the lock",
                None => "The workload goes on as it is",
            };
            format!("Consul: {reason}. {workload}; the agent tries again for ever")
        }
        WaitingFor::Hook { kind, role } => format!("hook {kind} to end, to become {role}"),
        WaitingFor::HookAgain {
            kind,
            failures,
            reason,
            left,
        } => format!(
            "hook {kind}, which runs again in {}: it failed {failures} times, last: {reason}",
            rounded(*left)
        ),
        WaitingFor::WorkloadGone => {
            "the workload to end: it was asked to stop, and is killed after its stop_timeout"
                .to_owned()
        }
        WaitingFor::ConsulLeft { left } => format!(
            "the machine to leave Consul; it is retired all the same in {}",
            rounded(*left)
        ),
        WaitingFor::Runner => {
            "the runner, which starts workloads: nobody answers on run/init.sock".to_owned()
        }
        WaitingFor::WorkloadRunning => workload(sources),
        WaitingFor::Checks { open } => {
            let list: Vec<String> = open
                .iter()
                .map(|(name, reason)| match reason {
                    Some(reason) => format!("{name} ({reason})"),
                    None => name.clone(),
                })
                .collect();
            format!("checks to pass: {}", list.join(", "))
        }
        WaitingFor::Connections { open, left } => match open {
            Some(count) => format!(
                "{count} connections to close, for at most {} more",
                rounded(*left)
            ),
            None => format!(
                "the drain's time to pass, {}: connections cannot be counted here",
                rounded(*left)
            ),
        },
        WaitingFor::DrainDecision => {
            "the coordinator to decide: the drain's time is up and it is not done".to_owned()
        }
    }
}

fn identity(sources: &Sources<'_>) -> String {
    let fault = sources.identity.fault.as_deref();
    let reason = fault.unwrap_or("it was asked for and has not come yet");
    if sources.identity.refused {
        format!("an identity, which was refused: {reason}. Only a person can help")
    } else {
        format!("an identity: {reason}")
    }
}

fn workload(sources: &Sources<'_>) -> String {
    if sources.lock.words.is_some() {
        return "the workload, which runs only with the lock of its fleet".to_owned();
    }
    match sources.lifecycle.report_now().workload {
        WorkloadState::Backoff => {
            "the workload, which ended by itself and is started again after a pause; its output \
             is in console.log"
        }
        WorkloadState::Stopping => "the workload to end, before it is started again",
        WorkloadState::NotWanted
        | WorkloadState::Starting
        | WorkloadState::Running
        | WorkloadState::Stopped => "the workload to start",
    }
    .to_owned()
}

/// Whole seconds are enough for people.
fn rounded(duration: Duration) -> HumanDuration {
    HumanDuration::from_secs(duration.as_secs())
}
