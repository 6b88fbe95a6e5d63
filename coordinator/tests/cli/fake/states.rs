//! The states that the script shows.

use calvin_coordinator::api::operator::OperatorError;
use calvin_planner::{InvariantId, Refusal};
use calvin_proto::wire::{
    FleetStatus, Health, Image, InstanceStatus, Order, Recovery, RecoveryFinding, Report, Role,
    RolloutStatus, WorkloadState,
};
use tonic::Status;

/// 2026-11-23 09:43:10 UTC.
pub(super) const WALL_MS: u64 = 1_795_426_990_000;

/// The fleet `name`, well; `bad` is in the middle of its rollout.
pub(super) fn fleet(name: &str) -> FleetStatus {
    let phase = match name {
        "bad" => "provisioning",
        "switched" => "settling",
        _ => "done",
    };
    FleetStatus {
        name: name.to_owned(),
        image: format!("{name}@1.0"),
        image_applied: format!("{name}@1.0"),
        serving: 1,
        wanted: 1,
        instances: vec![instance(name, "healthy")],
        rollout: Some(rollout(name, 7, phase)),
        ..FleetStatus::default()
    }
}

/// An instance of it.
pub(super) fn instance(fleet: &str, class: &str) -> InstanceStatus {
    let mut report = Report {
        boot_id: "0b".to_owned(),
        sequence: 3,
        generation_applied: 2,
        health_for_ms: 5_000,
        ..Report::default()
    };
    report.set_health(Health::Healthy);
    report.set_role_applied(Role::Active);
    report.set_workload(WorkloadState::Running);
    InstanceStatus {
        id: format!("{fleet}-aaaa0001"),
        fleet: fleet.to_owned(),
        image: format!("{fleet}@1.0"),
        address: "127.1.0.1".to_owned(),
        role: "active".to_owned(),
        catalogue: "active".to_owned(),
        class: class.to_owned(),
        report: Some(report),
        ..InstanceStatus::default()
    }
}

/// The rollout `number` of a fleet in a phase.
pub(super) fn rollout(fleet: &str, number: u32, phase: &str) -> RolloutStatus {
    let ended = matches!(phase, "done" | "rolled_back" | "failed");
    let green = InstanceStatus {
        image: format!("{fleet}@2.0"),
        set: "green".to_owned(),
        catalogue: "standby".to_owned(),
        ..instance(fleet, if ended { "healthy" } else { "starting" })
    };
    let wrong = matches!(phase, "rolled_back" | "failed" | "rolling_back");
    RolloutStatus {
        id: format!("{fleet}-{number}"),
        fleet: fleet.to_owned(),
        phase: phase.to_owned(),
        ended,
        from: format!("{fleet}@1.0"),
        to: format!("{fleet}@2.0"),
        phase_ms: 1_000,
        total_ms: 2_000,
        wave: 1,
        waves: 1,
        reason: if wrong { "it never became healthy" } else { "" }.to_owned(),
        started_by: "alice".to_owned(),
        instances: vec![green],
        ..RolloutStatus::default()
    }
}

/// What a watch shows, and whether it then goes on without an end.
pub(super) fn course(fleet: &str, run: u32) -> (Vec<RolloutStatus>, Rest) {
    let phases: &[&str] = match (fleet, run) {
        ("web", _) => &["provisioning", "provisioning", "soaking", "done"],
        ("bad", _) => &["provisioning", "rolling_back", "rolled_back"],
        ("first", _) => &["provisioning", "failed"],
        ("resumed", 2..) => &["baking", "done"],
        ("slow" | "resumed", _) => &["provisioning"],
        _ => &[],
    };
    let rest = match (fleet, run) {
        ("slow", _) | ("resumed", 1) => Rest::Silent,
        _ => Rest::End,
    };
    (
        phases
            .iter()
            .map(|phase| rollout(fleet, 7, phase))
            .collect(),
        rest,
    )
}

/// What comes after the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// The stream ends.
    End,
    /// It stays open, and nothing comes.
    Silent,
}

/// What a coordinator that recovers has found.
pub(super) fn recovery() -> Recovery {
    Recovery {
        environment: "test".to_owned(),
        reason: "its store was adopted".to_owned(),
        plan: "00ff".to_owned(),
        epoch_seen: 4,
        epoch_next: 1_004,
        findings: vec![RecoveryFinding {
            fleet: "web".to_owned(),
            instance: "web-aaaa0001".to_owned(),
            verdict: "adopt".to_owned(),
            found: "serves web@2.0, and has no record".to_owned(),
            then: "it is taken into the fleet as it serves".to_owned(),
            blocks: false,
        }],
        ..Recovery::default()
    }
}

/// An order of hers.
pub(super) fn order(reason: &str) -> Order {
    Order {
        by: "alice".to_owned(),
        reason: reason.to_owned(),
        wall_ms: WALL_MS,
    }
}

/// The only image, at `location`.
pub(super) fn image(location: &str) -> Image {
    Image {
        image: "web@1.0".to_owned(),
        digest: "sha256:00".to_owned(),
        location: location.to_owned(),
        provider: "process".to_owned(),
        added_wall_ms: WALL_MS,
        added_by: "alice".to_owned(),
        instances: 1,
        veto: None,
    }
}

/// What the coordinator answers to who approves their own rollout.
pub(super) fn not_approved() -> Status {
    let refusal = Refusal::NotNow {
        what: "could not approve the rollout of fleet mine".to_owned(),
        why: "you started it".to_owned(),
        hint: "ask somebody else".to_owned(),
        rule: Some(InvariantId::ApprovedByEnough),
    };
    OperatorError::from(refusal).into()
}
