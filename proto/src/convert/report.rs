//! What an agent says of itself.

use calvin_model::{
    Connections, ConsulReport, DrainProgress, Generation, Health, NamesVersion, QuorumReport,
    Report, WorkloadState,
};

use super::{
    ConvertError, bounded_text, check_size, duration,
    join::{maybe_catalogue_role, wire_catalogue_role},
    known, milliseconds, parse,
    wanted::{maybe_role, wire_role},
};
use crate::{limits, wire};

fn health(value: i32) -> Result<Health, ConvertError> {
    known(
        "report.health",
        value,
        |health: wire::Health| match health {
            wire::Health::Unspecified => None,
            wire::Health::Unknown => Some(Health::Unknown),
            wire::Health::Healthy => Some(Health::Healthy),
            wire::Health::Unhealthy => Some(Health::Unhealthy),
        },
    )
}

/// Health that an older version does not tell.
pub(super) fn maybe_health(field: &'static str, value: i32) -> Result<Health, ConvertError> {
    known(field, value, |health: wire::Health| match health {
        wire::Health::Unspecified | wire::Health::Unknown => Some(Health::Unknown),
        wire::Health::Healthy => Some(Health::Healthy),
        wire::Health::Unhealthy => Some(Health::Unhealthy),
    })
}

pub(super) fn wire_health(health: Health) -> wire::Health {
    match health {
        Health::Unknown => wire::Health::Unknown,
        Health::Healthy => wire::Health::Healthy,
        Health::Unhealthy => wire::Health::Unhealthy,
    }
}

fn workload(value: i32) -> Result<WorkloadState, ConvertError> {
    let field = "report.workload";
    known(field, value, |state: wire::WorkloadState| match state {
        wire::WorkloadState::Unspecified => None,
        wire::WorkloadState::NotWanted => Some(WorkloadState::NotWanted),
        wire::WorkloadState::Starting => Some(WorkloadState::Starting),
        wire::WorkloadState::Running => Some(WorkloadState::Running),
        wire::WorkloadState::Backoff => Some(WorkloadState::Backoff),
        wire::WorkloadState::Stopping => Some(WorkloadState::Stopping),
        wire::WorkloadState::Stopped => Some(WorkloadState::Stopped),
    })
}

fn wire_workload(state: WorkloadState) -> wire::WorkloadState {
    match state {
        WorkloadState::NotWanted => wire::WorkloadState::NotWanted,
        WorkloadState::Starting => wire::WorkloadState::Starting,
        WorkloadState::Running => wire::WorkloadState::Running,
        WorkloadState::Backoff => wire::WorkloadState::Backoff,
        WorkloadState::Stopping => wire::WorkloadState::Stopping,
        WorkloadState::Stopped => wire::WorkloadState::Stopped,
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = ConvertError;

    fn try_from(report: wire::Report) -> Result<Self, ConvertError> {
        let role_applied = maybe_role("report.role_applied", report.role_applied)?;
        if role_applied.is_some() != (report.generation_applied != 0) {
            let problem = "a role and a generation are applied together or not at all";
            let field = "report.role_applied";
            return Err(ConvertError::Contradiction { field, problem });
        }
        let field = "report.failing";
        check_size(field, report.failing.len(), "entries", limits::FAILING)?;
        for text in &report.failing {
            check_size(field, text.len(), "bytes", limits::FAILING_BYTES)?;
        }
        let names = NamesVersion {
            epoch: report.names_epoch,
            number: report.names_number,
        };
        Ok(Self {
            boot: parse("report.boot_id", &report.boot_id)?,
            sequence: report.sequence,
            generation_applied: Generation(report.generation_applied),
            role_applied,
            health: health(report.health)?,
            health_for: duration("report.health_for_ms", report.health_for_ms)?,
            flaps: report.flaps,
            clock_offset_ms: report.clock_offset_ms,
            workload: workload(report.workload)?,
            names: (names.epoch != 0).then_some(names),
            drain: report.drain.map(drain_progress).transpose()?,
            failing: report.failing,
            connections: report.connections.map(connections).transpose()?,
            refused: sentence("report.refused", report.refused, limits::REFUSED_BYTES)?,
            names_unsaved: sentence(
                "report.names_unsaved",
                report.names_unsaved,
                limits::NAMES_UNSAVED_BYTES,
            )?,
            quorum: report.quorum.map(quorum).transpose()?,
            consul: report.consul.map(consul).transpose()?,
        })
    }
}

fn consul(consul: wire::ConsulReport) -> Result<ConsulReport, ConvertError> {
    Ok(ConsulReport {
        registered: maybe_catalogue_role("report.consul.registered", consul.registered)?,
        fault: sentence("report.consul.fault", consul.fault, limits::CONSUL_BYTES)?,
    })
}

fn wire_consul(consul: &ConsulReport) -> wire::ConsulReport {
    let unspecified = wire::CatalogueRole::Unspecified;
    let registered = consul.registered.map_or(unspecified, wire_catalogue_role);
    wire::ConsulReport {
        registered: registered.into(),
        fault: consul
            .fault
            .as_deref()
            .map_or("", |text| cut(text, limits::CONSUL_BYTES))
            .to_owned(),
    }
}

fn quorum(quorum: wire::QuorumReport) -> Result<QuorumReport, ConvertError> {
    Ok(QuorumReport {
        voters: quorum.voters,
        needed: quorum.needed,
        leader: quorum.leader,
        caught_up: quorum.caught_up,
        age: duration("report.quorum.age_ms", quorum.age_ms)?,
    })
}

fn wire_quorum(quorum: QuorumReport) -> wire::QuorumReport {
    wire::QuorumReport {
        voters: quorum.voters,
        needed: quorum.needed,
        leader: quorum.leader,
        caught_up: quorum.caught_up,
        age_ms: milliseconds(quorum.age),
    }
}

fn connections(connections: wire::Connections) -> Result<Connections, ConvertError> {
    let field = "report.connections.peers";
    check_size(field, connections.peers.len(), "entries", limits::PEERS)?;
    Ok(Connections {
        count: connections.count,
        peers: connections
            .peers
            .iter()
            .map(|peer| parse(field, peer))
            .collect::<Result<_, _>>()?,
    })
}

/// A sentence that is empty where there is nothing to say.
fn sentence(field: &'static str, text: String, max: usize) -> Result<Option<String>, ConvertError> {
    let text = bounded_text(field, text, max)?;
    Ok((!text.is_empty()).then_some(text))
}

fn drain_progress(progress: wire::DrainProgress) -> Result<DrainProgress, ConvertError> {
    Ok(DrainProgress {
        done: progress.done,
        connections: progress.connections,
        time_left: duration("report.drain.time_left_ms", progress.time_left_ms)?,
    })
}

impl From<&Report> for wire::Report {
    fn from(report: &Report) -> Self {
        Self {
            boot_id: report.boot.as_str().to_owned(),
            sequence: report.sequence,
            generation_applied: report.generation_applied.0,
            role_applied: report
                .role_applied
                .map_or(wire::Role::Unspecified, wire_role)
                .into(),
            health: wire_health(report.health).into(),
            health_for_ms: milliseconds(report.health_for),
            flaps: report.flaps,
            clock_offset_ms: report.clock_offset_ms,
            workload: wire_workload(report.workload).into(),
            names_epoch: report.names.map_or(0, |names| names.epoch),
            names_number: report.names.map_or(0, |names| names.number),
            drain: report.drain.map(|drain| wire::DrainProgress {
                done: drain.done,
                connections: drain.connections,
                time_left_ms: milliseconds(drain.time_left),
            }),
            failing: report
                .failing
                .iter()
                .take(limits::FAILING)
                .map(|text| cut(text, limits::FAILING_BYTES).to_owned())
                .collect(),
            connections: report.connections.as_ref().map(wire_connections),
            refused: report
                .refused
                .as_deref()
                .map_or("", |text| cut(text, limits::REFUSED_BYTES))
                .to_owned(),
            names_unsaved: report
                .names_unsaved
                .as_deref()
                .map_or("", |text| cut(text, limits::NAMES_UNSAVED_BYTES))
                .to_owned(),
            quorum: report.quorum.map(wire_quorum),
            consul: report.consul.as_ref().map(wire_consul),
        }
    }
}

fn wire_connections(connections: &Connections) -> wire::Connections {
    wire::Connections {
        count: connections.count,
        peers: connections
            .peers
            .iter()
            .take(limits::PEERS)
            .map(ToString::to_string)
            .collect(),
    }
}

/// At most `max` bytes of a text, cut between characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
