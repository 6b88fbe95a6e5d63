//! `/metrics`: the newest picture of the engine as numbers, in the OpenMetrics text format, made
//! anew for each question. Rules and phases are always there, also with zero, so that an alert on
//! them never lacks its series; nothing is told of single instances, of which there may be 10,000.

use std::{collections::BTreeMap, fmt, sync::atomic::AtomicU64};

use calvin_engine::View;
use calvin_model::{CatalogueRole, ConsulReport};
use calvin_planner::{InstanceClass, InvariantId, Phase, SessionObserved};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::api::operator::class;

/// What `encode` writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a pass over nothing to one that is far too long, in seconds: with 10,000 instances one is
/// to take 0.1 at most.
const PASS_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Pairs of names and values.
type Labels = Vec<(&'static str, String)>;

/// Where the engine's thread writes down how long its passes take.
pub(super) fn pass_times() -> Histogram {
    Histogram::new(PASS_BUCKETS)
}

/// Every number, as text.
pub(super) fn text(view: &View, pass_times: &Histogram) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("calvin");
    whole(&mut registry, view);
    consul(&mut registry, view);
    fleets(&mut registry, view);
    rules(&mut registry, view);
    registry.register(
        "pass_seconds",
        "How long passes of the engine took in this run; their count is how many there were",
        pass_times.clone(),
    );
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn whole(registry: &mut Registry, view: &View) {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("build", "The coordinator's version", Info::new(version));
    let mut one = |name: &str, help: &str, value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let deciding = i64::from(view.held.is_none());
    one("deciding", "1 while it decides, 0 while it holds", deciding);
    one(
        "epoch",
        "Number of this run",
        whole_number(view.epoch.number),
    );
    let up = whole_number(view.up.as_secs());
    one("up_seconds", "How long this run has lasted", up);
    let notices = whole_number(view.notices.len());
    one("notices", "Things that a person should look at", notices);
    let alive = |session: &SessionObserved| matches!(session, SessionObserved::Alive(_));
    let instances = &view.observed.instances;
    let sessions = instances.values().filter(|one| alive(&one.session)).count();
    one(
        "sessions",
        "Agents that are connected",
        whole_number(sessions),
    );
    let faults = instances.values().filter(|one| one.fault.is_some()).count();
    one(
        "provider_faults",
        "Instances of which a provider could not do something, last",
        whole_number(faults),
    );
    let frozen = view.environment.freeze.as_ref();
    let frozen = frozen.is_some_and(|freeze| freeze.holds(view.wall_ms));
    one("frozen", "1 while everything is frozen", i64::from(frozen));
    let lost = whole_number(view.environment.lost_zones.len());
    one("zones_lost", "Zones that somebody says are lost", lost);
    let vetoed = whole_number(view.environment.vetoes.len());
    one("images_vetoed", "Images that nothing is made from", vetoed);
}

/// How many are registered with Consul, of those that join it, and what a catalogue cannot do.
fn consul(registry: &mut Registry, view: &View) {
    let seen = view.observed.instances.values();
    let reports = seen.filter_map(|one| one.agent.as_ref()?.report.consul.as_ref());
    let mut counts = BTreeMap::from([("yes", 0), ("absent", 0), ("no", 0)]);
    for report in reports {
        *counts.entry(registered(report)).or_default() += 1;
    }
    registry.register(
        "consul_registered",
        "Instances that join Consul, by whether they are registered there",
        gauges("registered", counts.into_iter()),
    );
    let mut one = |name: &str, help: &str, number: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(whole_number(number));
        registry.register(name, help, gauge);
    };
    let faults = "Things that the catalogue cannot do now";
    one("catalogue_faults", faults, view.catalogue.faults.len());
    let debts = "Instances that are gone whose access to the catalogue is not taken back yet";
    one("catalogue_debts", debts, view.catalogue.debts.len());
}

fn registered(report: &ConsulReport) -> &'static str {
    match report.registered.filter(|_| report.fault.is_none()) {
        Some(CatalogueRole::Standby | CatalogueRole::Entered | CatalogueRole::Active) => "yes",
        Some(CatalogueRole::Absent) => "absent",
        None => "no",
    }
}

fn fleets(registry: &mut Registry, view: &View) {
    let serving = Family::<Labels, Gauge>::default();
    let wanted = Family::<Labels, Gauge>::default();
    let mut phases: BTreeMap<Phase, i64> = Phase::ALL.map(|phase| (phase, 0)).into();
    let mut classes: BTreeMap<&str, i64> = InstanceClass::ALL.map(|one| (class(one), 0)).into();
    for (name, state) in view.fleets.iter() {
        let labels = || vec![("fleet", name.to_string())];
        let report = view.reports.get(name);
        let serves = report.map_or(0, |report| report.serving);
        serving.get_or_create(&labels()).set(i64::from(serves));
        let count = i64::from(state.spec.count);
        wanted.get_or_create(&labels()).set(count);
        if let Some(rollout) = &state.rollout {
            *phases.entry(rollout.phase).or_default() += 1;
        }
        for one in report.iter().flat_map(|report| report.instances.values()) {
            *classes.entry(class(one.class)).or_default() += 1;
        }
    }
    registry.register("fleet_serving", "Instances that serve", serving);
    registry.register("fleet_wanted", "Instances that should", wanted);
    let by_phase = phases
        .iter()
        .map(|(phase, number)| (phase.as_str(), *number));
    registry.register(
        "rollouts",
        "Newest rollouts of fleets, by the phase that they are in or ended in",
        gauges("phase", by_phase),
    );
    let by_class = classes.iter().map(|(class, number)| (*class, *number));
    registry.register(
        "instances",
        "Instances, as they are judged",
        gauges("class", by_class),
    );
}

fn rules(registry: &mut Registry, view: &View) {
    let mut holds: BTreeMap<String, i64> = BTreeMap::new();
    let breaches = Family::<Labels, Counter<u64, AtomicU64>>::default();
    for rule in InvariantId::ALL {
        holds.insert(rule.to_string(), 0);
        let number = view.breaches_by_rule.get(&rule).copied().unwrap_or(0);
        let labels = vec![("rule", rule.to_string())];
        breaches.get_or_create(&labels).inc_by(number);
    }
    for blocked in view.reports.values().flat_map(|report| &report.blocked) {
        *holds.entry(blocked.rule.clone()).or_default() += 1;
    }
    let by_rule = holds.iter().map(|(rule, number)| (rule.as_str(), *number));
    registry.register(
        "holds",
        "Things that a rule holds back now, over all fleets",
        gauges("rule", by_rule),
    );
    registry.register(
        "breaches",
        "Plans of this run that broke a rule: each is a fault of the coordinator, to be reported",
        breaches,
    );
}

fn gauges<'a>(
    label: &'static str,
    numbers: impl Iterator<Item = (&'a str, i64)>,
) -> Family<Labels, Gauge> {
    let family = Family::<Labels, Gauge>::default();
    for (value, number) in numbers {
        let labels = vec![(label, value.to_owned())];
        family.get_or_create(&labels).set(number);
    }
    family
}

fn whole_number<N: TryInto<i64>>(number: N) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
