//! Whether a fleet's file fits the environment: its zones, what it uses, what it comes after. Each
//! refusal names both keys that contradict.

use std::collections::{BTreeMap, BTreeSet};

use calvin_model::{FleetName, FleetSpec};

use super::{Desk, Refusal};
use crate::{invariant::InvariantId, state::FleetState};

/// Refuses what could never be made where it is to be made.
pub(super) fn check(desk: Desk<'_>, spec: &FleetSpec) -> Result<(), Refusal> {
    let room = Some(InvariantId::NothingMadeWithoutRoom);
    let found = zones(desk, spec).map(|found| (None, found));
    let found = found
        .or_else(|| uses(desk, spec).map(|found| (room, found)))
        .or_else(|| after(desk.input.fleets, spec).map(|found| (None, found)));
    let Some((rule, (why, hint))) = found else {
        return Ok(());
    };
    Err(Refusal::NotNow {
        rule,
        what: format!("could not apply fleet {}", spec.name),
        why,
        hint,
    })
}

/// Why not, and what to do instead.
type Contradiction = (String, String);

fn zones(desk: Desk<'_>, spec: &FleetSpec) -> Option<Contradiction> {
    let provider = &spec.provider;
    let rules = desk.input.rules.providers.get(provider);
    let known = rules.map_or(&[][..], |rules| &rules.zones);
    let unknown = spec.zones.iter().find(|zone| !known.contains(zone))?;
    let listed = list(known);
    let why = if known.is_empty() {
        format!(
            "zones: {unknown} is no zone of provider {provider}, whose zones in calvin.toml are none"
        )
    } else {
        format!(
            "zones: {unknown} is no zone of provider {provider}, whose zones in calvin.toml are {listed}"
        )
    };
    let hint = format!("name zones of provider.{provider}.zones, or leave zones out");
    Some((why, hint))
}

fn uses(desk: Desk<'_>, spec: &FleetSpec) -> Option<Contradiction> {
    let limits = &desk.input.rules.limits;
    for (name, each) in &spec.uses {
        let Some(of) = limits.get(name) else {
            let known: Vec<_> = limits.keys().collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                list(&known)
            };
            let why =
                format!("uses: {name} is not among the limits of calvin.toml, which are {known}");
            let hint = "declare it under limits in calvin.toml, or correct uses".to_owned();
            return Some((why, hint));
        };
        if each > of {
            let why = format!(
                "uses: each instance takes {each} of {name}, and limits in calvin.toml has {of}: none could ever be made"
            );
            return Some((why, "correct uses, or the limit".to_owned()));
        }
    }
    None
}

/// Fleets that are not there, and fleets that come after each other.
fn after(fleets: &BTreeMap<FleetName, FleetState>, spec: &FleetSpec) -> Option<Contradiction> {
    let unknown = spec.after.iter().find(|name| !fleets.contains_key(*name));
    if let Some(unknown) = unknown {
        let known: Vec<_> = fleets.keys().filter(|name| **name != spec.name).collect();
        let why = if known.is_empty() {
            format!("after: there is no fleet {unknown}, nor any other")
        } else {
            format!(
                "after: there is no fleet {unknown}; there are {}",
                list(&known)
            )
        };
        return Some((why, format!("apply fleet {unknown} first")));
    }
    let cycle = way_back(fleets, spec)?;
    let why = format!(
        "after: these fleets would wait for each other: {}",
        cycle
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" after ")
    );
    Some((why, "take one of them out of after".to_owned()))
}

/// The fleets on a way from this one over what it comes after back to itself, if there is one.
fn way_back(fleets: &BTreeMap<FleetName, FleetState>, spec: &FleetSpec) -> Option<Vec<FleetName>> {
    let mut seen: BTreeSet<&FleetName> = BTreeSet::new();
    let mut ways: Vec<Vec<&FleetName>> = spec.after.iter().map(|first| vec![first]).collect();
    while let Some(way) = ways.pop() {
        let last = *way.last()?;
        if *last == spec.name {
            let whole = std::iter::once(&spec.name).chain(way);
            return Some(whole.cloned().collect());
        }
        if !seen.insert(last) {
            continue;
        }
        let next = fleets.get(last).map_or(&[][..], |state| &state.spec.after);
        for name in next {
            let mut longer = way.clone();
            longer.push(name);
            ways.push(longer);
        }
    }
    None
}

fn list<T: ToString>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}
