//! What people ordered that holds until it is ended, and the zones that it may be about.

use calvin_proto::wire;
use serde::Serialize;

use super::{each, fleet::StatusView};

/// `Order`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OrderView {
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) wall_ms: u64,
}

/// `FreezeState`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FreezeView {
    pub(crate) scope: String,
    pub(crate) until_wall_ms: Option<u64>,
    pub(crate) order: Option<OrderView>,
}

/// `PauseState`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PauseView {
    pub(crate) order: Option<OrderView>,
    pub(crate) left_ms: u64,
}

/// `GateState`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GateView {
    pub(crate) gate: String,
    pub(crate) needed: u32,
    pub(crate) approved: Vec<OrderView>,
    pub(crate) approver: String,
    pub(crate) left_ms: u64,
}

/// `WindowState`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WindowView {
    pub(crate) open: bool,
    pub(crate) changes_ms: Option<u64>,
}

/// `LostZone`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LostZoneView {
    pub(crate) zone: String,
    pub(crate) order: Option<OrderView>,
}

/// Every freeze that holds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FreezesView {
    pub(crate) environment: String,
    pub(crate) wall_ms: u64,
    pub(crate) freezes: Vec<OneFreezeView>,
}

/// A freeze of one fleet, or of the environment as a whole.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OneFreezeView {
    pub(crate) fleet: Option<String>,
    pub(crate) freeze: FreezeView,
}

/// `Zone`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ZoneView {
    pub(crate) name: String,
    pub(crate) providers: Vec<String>,
    pub(crate) fleets: Vec<String>,
    pub(crate) instances: u32,
    pub(crate) healthy: u32,
    pub(crate) lost: Option<OrderView>,
}

impl From<wire::Order> for OrderView {
    fn from(order: wire::Order) -> Self {
        Self {
            by: order.by,
            reason: order.reason,
            wall_ms: order.wall_ms,
        }
    }
}

impl From<wire::FreezeState> for FreezeView {
    fn from(freeze: wire::FreezeState) -> Self {
        Self {
            scope: freeze.scope,
            until_wall_ms: freeze.until_wall_ms,
            order: freeze.order.map(Into::into),
        }
    }
}

impl From<wire::PauseState> for PauseView {
    fn from(pause: wire::PauseState) -> Self {
        Self {
            order: pause.order.map(Into::into),
            left_ms: pause.left_ms,
        }
    }
}

impl From<wire::GateState> for GateView {
    fn from(gate: wire::GateState) -> Self {
        Self {
            gate: gate.gate,
            needed: gate.needed,
            approved: each(gate.approved),
            approver: gate.approver,
            left_ms: gate.left_ms,
        }
    }
}

impl From<wire::WindowState> for WindowView {
    fn from(window: wire::WindowState) -> Self {
        Self {
            open: window.open,
            changes_ms: window.changes_ms,
        }
    }
}

impl From<wire::LostZone> for LostZoneView {
    fn from(lost: wire::LostZone) -> Self {
        Self {
            zone: lost.zone,
            order: lost.order.map(Into::into),
        }
    }
}

impl FreezesView {
    /// Those of a status.
    pub(crate) fn of(status: &StatusView) -> Self {
        let whole = status.freeze.iter().map(|freeze| OneFreezeView {
            fleet: None,
            freeze: freeze.clone(),
        });
        let fleets = status.fleets.iter().filter_map(|fleet| {
            Some(OneFreezeView {
                fleet: Some(fleet.name.clone()),
                freeze: fleet.freeze.clone()?,
            })
        });
        Self {
            environment: status.environment.clone(),
            wall_ms: status.wall_ms,
            freezes: whole.chain(fleets).collect(),
        }
    }
}

impl From<wire::Zone> for ZoneView {
    fn from(zone: wire::Zone) -> Self {
        Self {
            name: zone.name,
            providers: zone.providers,
            fleets: zone.fleets,
            instances: zone.instances,
            healthy: zone.healthy,
            lost: zone.lost.map(Into::into),
        }
    }
}
