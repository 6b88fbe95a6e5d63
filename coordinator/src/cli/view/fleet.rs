//! What is: the environment, its fleets, their rollouts and instances.

use calvin_proto::wire;
use serde::Serialize;

use super::{
    each,
    orders::{FreezeView, GateView, LostZoneView, OrderView, PauseView, WindowView},
    some,
};

/// `StatusReply`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StatusView {
    pub(crate) environment: String,
    pub(crate) wall_ms: u64,
    pub(crate) epoch: u64,
    pub(crate) up_ms: u64,
    pub(crate) held: Option<String>,
    pub(crate) recovering: Option<String>,
    pub(crate) notices: Vec<String>,
    pub(crate) freeze: Option<FreezeView>,
    pub(crate) lost_zones: Vec<LostZoneView>,
    pub(crate) fleets: Vec<FleetView>,
}

/// `FleetStatus`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FleetView {
    pub(crate) name: String,
    pub(crate) image: Option<String>,
    pub(crate) image_applied: Option<String>,
    pub(crate) serving: u32,
    pub(crate) wanted: u32,
    pub(crate) deleting: bool,
    pub(crate) rollout: Option<RolloutView>,
    pub(crate) waiting: Vec<WaitingView>,
    pub(crate) blocked: Vec<BlockedView>,
    pub(crate) instances: Vec<InstanceView>,
    pub(crate) freeze: Option<FreezeView>,
    pub(crate) pin: Option<OrderView>,
    pub(crate) kind: Option<String>,
    pub(crate) window: Option<WindowView>,
}

/// `ShowFleetReply`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ShownFleetView {
    pub(crate) status: Option<FleetView>,
    pub(crate) toml: String,
}

/// `RolloutStatus`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RolloutView {
    pub(crate) id: String,
    pub(crate) fleet: String,
    pub(crate) phase: String,
    pub(crate) ended: bool,
    pub(crate) from: Option<String>,
    pub(crate) to: String,
    pub(crate) phase_ms: u64,
    pub(crate) total_ms: u64,
    pub(crate) wave: u32,
    pub(crate) waves: u32,
    pub(crate) reason: Option<String>,
    pub(crate) started_by: Option<String>,
    pub(crate) failures: u32,
    pub(crate) waiting: Vec<WaitingView>,
    pub(crate) blocked: Vec<BlockedView>,
    pub(crate) instances: Vec<InstanceView>,
    pub(crate) paused: Option<PauseView>,
    pub(crate) gate: Option<GateView>,
    pub(crate) emergency: Option<OrderView>,
    pub(crate) promoted: Option<OrderView>,
    pub(crate) turned_by: Option<String>,
    pub(crate) canary: bool,
    pub(crate) gap: Option<GapView>,
}

/// `Gap`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GapView {
    pub(crate) length_ms: u64,
    pub(crate) over: bool,
}

/// `Waiting`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WaitingView {
    pub(crate) what: String,
    pub(crate) since_ms: u64,
    pub(crate) left_ms: Option<u64>,
    pub(crate) then: Option<String>,
}

/// `Blocked`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BlockedView {
    pub(crate) what: String,
    pub(crate) rule: String,
    pub(crate) fact: String,
}

/// `InstanceStatus`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct InstanceView {
    pub(crate) id: String,
    pub(crate) fleet: String,
    pub(crate) image: String,
    pub(crate) address: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) catalogue: Option<String>,
    pub(crate) class: String,
    pub(crate) text: String,
    pub(crate) set: Option<String>,
    pub(crate) age_ms: u64,
    pub(crate) report: Option<ReportView>,
    pub(crate) report_age_ms: Option<u64>,
    pub(crate) generation: u64,
    pub(crate) machine: Option<String>,
    pub(crate) probe: Option<String>,
    pub(crate) fault: Option<String>,
    pub(crate) alarm: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) protected: Option<OrderView>,
    pub(crate) waits: Option<WaitingView>,
    pub(crate) since_ms: u64,
    pub(crate) rests_on: Option<RestsOnView>,
}

/// `RestsOn`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestsOnView {
    pub(crate) agent_age_ms: Option<u64>,
    pub(crate) list_age_ms: Option<u64>,
    pub(crate) probe_age_ms: Option<u64>,
}

/// `Report`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReportView {
    pub(crate) boot_id: String,
    pub(crate) sequence: u64,
    pub(crate) generation_applied: u64,
    pub(crate) role_applied: String,
    pub(crate) health: String,
    pub(crate) health_for_ms: u64,
    pub(crate) flaps: u64,
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) workload: String,
    pub(crate) names_epoch: u64,
    pub(crate) names_number: u64,
    pub(crate) drain: Option<DrainView>,
    pub(crate) failing: Vec<String>,
    pub(crate) connections: Option<ConnectionsView>,
    pub(crate) refused: Option<String>,
    pub(crate) names_unsaved: Option<String>,
    pub(crate) consul: Option<ConsulView>,
}

/// `ConsulReport`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConsulView {
    pub(crate) registered: Option<String>,
    pub(crate) fault: Option<String>,
}

/// `Connections`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConnectionsView {
    pub(crate) count: u32,
    pub(crate) peers: Vec<String>,
}

/// `DrainProgress`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DrainView {
    pub(crate) done: bool,
    pub(crate) connections: Option<u32>,
    pub(crate) time_left_ms: u64,
}

impl From<wire::StatusReply> for StatusView {
    fn from(reply: wire::StatusReply) -> Self {
        Self {
            environment: reply.environment,
            wall_ms: reply.wall_ms,
            epoch: reply.epoch,
            up_ms: reply.up_ms,
            held: some(reply.held),
            recovering: some(reply.recovering),
            notices: reply.notices,
            freeze: reply.freeze.map(Into::into),
            lost_zones: each(reply.lost_zones),
            fleets: each(reply.fleets),
        }
    }
}

impl From<wire::FleetStatus> for FleetView {
    fn from(fleet: wire::FleetStatus) -> Self {
        Self {
            name: fleet.name,
            image: some(fleet.image),
            image_applied: some(fleet.image_applied),
            serving: fleet.serving,
            wanted: fleet.wanted,
            deleting: fleet.deleting,
            rollout: fleet
                .rollout
                .filter(|rollout| !rollout.id.is_empty())
                .map(Into::into),
            waiting: each(fleet.waiting),
            blocked: each(fleet.blocked),
            instances: each(fleet.instances),
            freeze: fleet.freeze.map(Into::into),
            pin: fleet.pin.map(Into::into),
            kind: some(fleet.kind),
            window: fleet.window.map(Into::into),
        }
    }
}

impl From<wire::ShowFleetReply> for ShownFleetView {
    fn from(reply: wire::ShowFleetReply) -> Self {
        Self {
            status: reply.status.map(Into::into),
            toml: reply.toml,
        }
    }
}

impl From<wire::RolloutStatus> for RolloutView {
    fn from(rollout: wire::RolloutStatus) -> Self {
        Self {
            id: rollout.id,
            fleet: rollout.fleet,
            phase: rollout.phase,
            ended: rollout.ended,
            from: some(rollout.from),
            to: rollout.to,
            phase_ms: rollout.phase_ms,
            total_ms: rollout.total_ms,
            wave: rollout.wave,
            waves: rollout.waves,
            reason: some(rollout.reason),
            started_by: some(rollout.started_by),
            failures: rollout.failures,
            waiting: each(rollout.waiting),
            blocked: each(rollout.blocked),
            instances: each(rollout.instances),
            paused: rollout.paused.map(Into::into),
            gate: rollout.gate.map(Into::into),
            emergency: rollout.emergency.map(Into::into),
            promoted: rollout.promoted.map(Into::into),
            turned_by: some(rollout.turned_by),
            canary: rollout.canary,
            gap: rollout.gap.map(|gap| GapView {
                length_ms: gap.length_ms,
                over: gap.over,
            }),
        }
    }
}

impl From<wire::Waiting> for WaitingView {
    fn from(waiting: wire::Waiting) -> Self {
        Self {
            what: waiting.what,
            since_ms: waiting.since_ms,
            left_ms: waiting.left_ms,
            then: some(waiting.then),
        }
    }
}

impl From<wire::Blocked> for BlockedView {
    fn from(blocked: wire::Blocked) -> Self {
        Self {
            what: blocked.what,
            rule: blocked.rule,
            fact: blocked.fact,
        }
    }
}

impl From<wire::InstanceStatus> for InstanceView {
    fn from(instance: wire::InstanceStatus) -> Self {
        let report_age_ms = instance.report.as_ref().map(|_| instance.report_age_ms);
        Self {
            id: instance.id,
            fleet: instance.fleet,
            image: instance.image,
            address: some(instance.address),
            role: some(instance.role),
            catalogue: some(instance.catalogue),
            class: instance.class,
            text: instance.text,
            set: some(instance.set),
            age_ms: instance.age_ms,
            report: instance.report.map(Into::into),
            report_age_ms,
            generation: instance.generation,
            machine: some(instance.machine),
            probe: some(instance.probe),
            fault: some(instance.fault),
            alarm: some(instance.alarm),
            zone: some(instance.zone),
            protected: instance.protected.map(Into::into),
            waits: instance.waits.map(Into::into),
            since_ms: instance.since_ms,
            rests_on: instance.rests_on.map(|rests| RestsOnView {
                agent_age_ms: rests.agent_age_ms,
                list_age_ms: rests.list_age_ms,
                probe_age_ms: rests.probe_age_ms,
            }),
        }
    }
}

impl From<wire::Report> for ReportView {
    fn from(report: wire::Report) -> Self {
        Self {
            role_applied: word("ROLE_", report.role_applied().as_str_name()),
            health: word("HEALTH_", report.health().as_str_name()),
            workload: word("WORKLOAD_STATE_", report.workload().as_str_name()),
            boot_id: report.boot_id,
            sequence: report.sequence,
            generation_applied: report.generation_applied,
            health_for_ms: report.health_for_ms,
            flaps: report.flaps,
            clock_offset_ms: report.clock_offset_ms,
            names_epoch: report.names_epoch,
            names_number: report.names_number,
            drain: report.drain.map(Into::into),
            failing: report.failing,
            connections: report.connections.map(|connections| ConnectionsView {
                count: connections.count,
                peers: connections.peers,
            }),
            refused: some(report.refused),
            names_unsaved: some(report.names_unsaved),
            consul: report.consul.map(Into::into),
        }
    }
}

impl From<wire::DrainProgress> for DrainView {
    fn from(drain: wire::DrainProgress) -> Self {
        Self {
            done: drain.done,
            connections: drain.connections,
            time_left_ms: drain.time_left_ms,
        }
    }
}

impl From<wire::ConsulReport> for ConsulView {
    fn from(consul: wire::ConsulReport) -> Self {
        let role = word("CATALOGUE_ROLE_", consul.registered().as_str_name());
        Self {
            registered: Some(role).filter(|role| role != "unspecified"),
            fault: some(consul.fault),
        }
    }
}

/// `HEALTH_UNHEALTHY` -> `unhealthy`.
fn word(prefix: &str, name: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}
