//! Zones: those that providers have, that fleets name, that instances are in, and that are lost.

use std::collections::{BTreeMap, BTreeSet};

use calvin_engine::View;
use calvin_model::ZoneName;
use calvin_planner::{Freeze, InstanceClass, Order};
use calvin_proto::wire;

use super::{OperatorParts, answer::count};

/// What is known of one zone.
#[derive(Debug, Clone, Default)]
pub(super) struct ZonePicture {
    providers: BTreeSet<String>,
    fleets: BTreeSet<String>,
    instances: usize,
    healthy: usize,
    lost: Option<Order>,
}

impl OperatorParts {
    /// Every zone that anything names.
    pub(super) fn zones(&self) -> BTreeMap<ZoneName, ZonePicture> {
        zones(&self.desk.view())
    }

    pub(super) fn list_zones(&self) -> wire::ListZonesReply {
        let zones = self.zones().into_iter().map(|(name, zone)| wire::Zone {
            name: name.to_string(),
            providers: zone.providers.into_iter().collect(),
            fleets: zone.fleets.into_iter().collect(),
            instances: count(zone.instances),
            healthy: count(zone.healthy),
            lost: zone.lost.as_ref().map(order),
        });
        wire::ListZonesReply {
            zones: zones.collect(),
        }
    }
}

fn zones(view: &View) -> BTreeMap<ZoneName, ZonePicture> {
    let mut zones: BTreeMap<ZoneName, ZonePicture> = BTreeMap::new();
    for (provider, rules) in &view.rules.providers {
        for zone in &rules.zones {
            let picture = zones.entry(zone.clone()).or_default();
            picture.providers.insert(provider.clone());
        }
    }
    for (name, state) in view.fleets.iter() {
        for zone in &state.spec.zones {
            let picture = zones.entry(zone.clone()).or_default();
            picture.fleets.insert(name.to_string());
        }
        let report = view.reports.get(name);
        for (id, instance) in &state.instances {
            let Some(zone) = &instance.zone else { continue };
            let picture = zones.entry(zone.clone()).or_default();
            let judged = report.and_then(|report| report.instances.get(id));
            picture.instances += 1;
            picture.healthy +=
                usize::from(judged.is_some_and(|one| one.class == InstanceClass::Healthy));
        }
    }
    for (zone, order) in &view.environment.lost_zones {
        zones.entry(zone.clone()).or_default().lost = Some(order.clone());
    }
    zones
}

/// An order, as the wire has it.
pub(super) fn order(order: &Order) -> wire::Order {
    wire::Order {
        by: order.by.clone(),
        reason: order.reason.clone(),
        wall_ms: order.wall_ms,
    }
}

/// A freeze while it holds, as the wire has it.
pub(super) fn freeze(freeze: Option<&Freeze>, wall_ms: u64) -> Option<wire::FreezeState> {
    let freeze = freeze.filter(|one| one.holds(wall_ms))?;
    Some(wire::FreezeState {
        scope: freeze.scope.to_string(),
        until_wall_ms: freeze.until_wall_ms,
        order: Some(order(&freeze.order)),
    })
}

/// The zones that somebody says are lost.
pub(super) fn lost_zones(view: &View) -> Vec<wire::LostZone> {
    let lost = view.environment.lost_zones.iter();
    lost.map(|(zone, by)| wire::LostZone {
        zone: zone.to_string(),
        order: Some(order(by)),
    })
    .collect()
}
