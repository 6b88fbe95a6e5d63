//! What the coordinator wants of an instance.

use calvin_model::{DrainOrder, DrainReason, Epoch, Generation, Role, Wanted};

use super::{ConvertError, duration, known, milliseconds, parse, stream::Order};
use crate::wire;

fn role(field: &'static str, value: i32) -> Result<Role, ConvertError> {
    known(field, value, |role: wire::Role| match role {
        wire::Role::Unspecified => None,
        wire::Role::Standby => Some(Role::Standby),
        wire::Role::Active => Some(Role::Active),
        wire::Role::Draining => Some(Role::Draining),
        wire::Role::Retired => Some(Role::Retired),
    })
}

/// A role that need not be there.
pub(super) fn maybe_role(field: &'static str, value: i32) -> Result<Option<Role>, ConvertError> {
    match wire::Role::try_from(value) {
        Ok(wire::Role::Unspecified) => Ok(None),
        Ok(_) | Err(_) => role(field, value).map(Some),
    }
}

pub(super) fn wire_role(role: Role) -> wire::Role {
    match role {
        Role::Standby => wire::Role::Standby,
        Role::Active => wire::Role::Active,
        Role::Draining => wire::Role::Draining,
        Role::Retired => wire::Role::Retired,
    }
}

fn reason(value: i32) -> Result<DrainReason, ConvertError> {
    let field = "wanted.drain.reason";
    known(field, value, |reason: wire::DrainReason| match reason {
        wire::DrainReason::Unspecified => None,
        wire::DrainReason::Replaced => Some(DrainReason::Replaced),
        wire::DrainReason::RolledBack => Some(DrainReason::RolledBack),
        wire::DrainReason::ScaledDown => Some(DrainReason::ScaledDown),
        wire::DrainReason::FleetDeleted => Some(DrainReason::FleetDeleted),
        wire::DrainReason::Repaired => Some(DrainReason::Repaired),
    })
}

fn wire_reason(reason: DrainReason) -> wire::DrainReason {
    match reason {
        DrainReason::Replaced => wire::DrainReason::Replaced,
        DrainReason::RolledBack => wire::DrainReason::RolledBack,
        DrainReason::ScaledDown => wire::DrainReason::ScaledDown,
        DrainReason::FleetDeleted => wire::DrainReason::FleetDeleted,
        DrainReason::Repaired => wire::DrainReason::Repaired,
    }
}

impl TryFrom<wire::Epoch> for Epoch {
    type Error = ConvertError;

    fn try_from(epoch: wire::Epoch) -> Result<Self, ConvertError> {
        Ok(Self {
            number: epoch.number,
            run: parse("epoch.run", &epoch.run)?,
        })
    }
}

impl From<&Epoch> for wire::Epoch {
    fn from(epoch: &Epoch) -> Self {
        Self {
            number: epoch.number,
            run: epoch.run.as_str().to_owned(),
        }
    }
}

impl TryFrom<wire::Wanted> for Order {
    type Error = ConvertError;

    fn try_from(wanted: wire::Wanted) -> Result<Self, ConvertError> {
        let field = "wanted.epoch";
        let epoch = wanted.epoch.ok_or(ConvertError::Missing { field })?;
        let role = role("wanted.role", wanted.role)?;
        let drain = wanted.drain.map(drain_order).transpose()?;
        let field = "wanted.drain";
        match (role, &drain) {
            (Role::Draining, None) => return Err(ConvertError::Missing { field }),
            (Role::Standby | Role::Active | Role::Retired, Some(_)) => {
                let problem = "given to an instance that is not to drain";
                return Err(ConvertError::Contradiction { field, problem });
            }
            (Role::Draining, Some(_)) | (Role::Standby | Role::Active | Role::Retired, None) => {}
        }
        Ok(Self {
            epoch: epoch.try_into()?,
            wanted: Wanted {
                generation: Generation(wanted.generation),
                role,
                drain,
            },
        })
    }
}

fn drain_order(order: wire::DrainOrder) -> Result<DrainOrder, ConvertError> {
    Ok(DrainOrder {
        reason: reason(order.reason)?,
        timeout: duration("wanted.drain.timeout_ms", order.timeout_ms)?,
    })
}

impl From<&Order> for wire::Wanted {
    fn from(order: &Order) -> Self {
        Self {
            generation: order.wanted.generation.0,
            epoch: Some((&order.epoch).into()),
            role: wire_role(order.wanted.role).into(),
            drain: order.wanted.drain.map(|drain| wire::DrainOrder {
                reason: wire_reason(drain.reason).into(),
                timeout_ms: milliseconds(drain.timeout),
            }),
        }
    }
}
