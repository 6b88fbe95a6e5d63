//! What a kind of fleet asks of its image, and that an existing fleet does not become another kind.

use calvin_model::{FleetSpec, fleet::FleetKind, image::Work};

use super::Refusal;
use crate::{
    invariant::InvariantId,
    state::{Build, FleetState},
};

/// Refuses an image that a kind of fleet cannot be made of.
pub(super) fn fits(what: &str, spec: &FleetSpec, build: &Build) -> Result<(), Refusal> {
    let refuse = |rule: InvariantId, why: String, hint: &str| {
        Err(Refusal::NotNow {
            rule: Some(rule),
            what: what.to_owned(),
            why,
            hint: hint.to_owned(),
        })
    };
    match (spec.kind, build.work) {
        (FleetKind::Exclusive, Work::Boot) => refuse(
            InvariantId::ExclusiveNeverTwice,
            format!(
                "kind = \"exclusive\" needs an image whose workload has work = \"on_active\": that of {} has work = \"boot\" and would run beside the active one",
                build.image
            ),
            "set work = \"on_active\" in image.toml, or leave kind out of the fleet's file",
        ),
        (FleetKind::Quorum, _) if !build.quorum => refuse(
            InvariantId::QuorumOneAtATime,
            format!(
                "kind = \"quorum\" needs an image with a [quorum] section: {} has none, so nobody could say how many voters there are",
                build.image
            ),
            "add [quorum] with a command to image.toml, or leave kind out of the fleet's file",
        ),
        (FleetKind::Service, _)
        | (FleetKind::Exclusive, Work::OnActive)
        | (FleetKind::Quorum, _) => Ok(()),
    }
}

/// Refuses to make another kind of a fleet that is there: what runs was made under other rules.
pub(super) fn stays(what: &str, before: &FleetState, spec: &FleetSpec) -> Result<(), Refusal> {
    if before.spec.kind == spec.kind || before.instances.is_empty() {
        return Ok(());
    }
    Err(Refusal::NotNow {
        rule: None,
        what: what.to_owned(),
        why: format!(
            "it is of kind \"{}\", and its instances do not become those of kind \"{}\"",
            before.spec.kind, spec.kind
        ),
        hint: "apply it under another name, then delete this one".to_owned(),
    })
}
