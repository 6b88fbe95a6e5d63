//! Orders about what a person knows and machines cannot say: that a zone is lost or found, and that
//! repairs which are held may go on.

use std::collections::BTreeSet;

use calvin_model::{FleetName, ZoneName, config::nearest};

use super::{CommandOutcome, Desk, Refusal};
/// A person says that a zone is lost.
pub(super) fn lose(
    desk: Desk<'_>,
    zone: &ZoneName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let what = format!("could not take zone {zone} for lost");
    desk.reason(&what, reason, "the next person has to know how it is known")?;
    let known = known(desk);
    if !known.contains(zone) {
        return Err(Refusal::NotNow {
            rule: None,
            what,
            why: "no fleet and no provider has a zone of that name".to_owned(),
            hint: guess(zone, &known),
        });
    }
    let environment = desk.input.environment;
    if let Some(order) = environment.lost_zones.get(zone) {
        let line = format!(
            "zone {zone} counts as lost already, by the word of {}: {}",
            order.by, order.reason
        );
        return Ok(Desk::unchanged(line));
    }
    let mut after = environment.clone();
    after.lost_zones.insert(zone.clone(), desk.order(reason));
    let there = there(desk, zone);
    let line = format!(
        "zone {zone} is lost ({reason}): what is silent of its {there} instances is made elsewhere; \
         nothing there is removed until calvin zone found {zone}"
    );
    Ok(desk.environment(after, line))
}

/// A lost zone is back.
pub(super) fn find(desk: Desk<'_>, zone: &ZoneName) -> Result<CommandOutcome, Refusal> {
    let environment = desk.input.environment;
    if !environment.lost_zones.contains_key(zone) {
        let lost: Vec<String> = environment
            .lost_zones
            .keys()
            .map(ToString::to_string)
            .collect();
        let hint = if lost.is_empty() {
            "no zone is: look with calvin status".to_owned()
        } else {
            format!("those that are: {}", lost.join(", "))
        };
        return Err(Refusal::NotNow {
            rule: None,
            what: format!("could not take zone {zone} for found"),
            why: "it does not count as lost".to_owned(),
            hint,
        });
    }
    let mut after = environment.clone();
    after.lost_zones.remove(zone);
    let line = format!(
        "zone {zone} is found: its {} instances are judged like all others, and what fleets have too \
         many of leaves",
        there(desk, zone)
    );
    Ok(desk.environment(after, line))
}

/// A person answers for the repairs of a fleet that are held.
pub(super) fn resume(
    desk: Desk<'_>,
    name: &FleetName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let before = desk.fleet(name)?;
    let what = format!("could not resume the repairs of fleet {name}");
    desk.reason(&what, reason, "it overrides a guard")?;
    let window = before.spec.repair.meltdown.window;
    let mut after = before.clone();
    // What failed until now is answered for; what fails from now on is counted again, and judged
    // when the word has ended.
    after.repairs.failures.clear();
    after.repairs.melted = None;
    after.repairs.guards_off_until = Some(desk.input.now.after(window.0));
    let line =
        format!("fleet {name} is repaired again; its guards do not hold for {window} ({reason})");
    Ok(desk.changed(name, after, line))
}

/// Every zone that a fleet, a provider or an instance has.
fn known(desk: Desk<'_>) -> BTreeSet<ZoneName> {
    let providers = desk.input.rules.providers.values();
    let mut known: BTreeSet<ZoneName> = providers.flat_map(|it| it.zones.clone()).collect();
    for fleet in desk.input.fleets.values() {
        known.extend(fleet.spec.zones.iter().cloned());
        known.extend(fleet.instances.values().filter_map(|one| one.zone.clone()));
    }
    known
}

/// How many instances there are in a zone.
fn there(desk: Desk<'_>, zone: &ZoneName) -> usize {
    let instances = desk
        .input
        .fleets
        .values()
        .flat_map(|it| it.instances.values());
    instances
        .filter(|one| one.zone.as_ref() == Some(zone))
        .count()
}

/// The zone that was probably meant, or all that there are.
fn guess(zone: &ZoneName, known: &BTreeSet<ZoneName>) -> String {
    let names: Vec<&str> = known.iter().map(ZoneName::as_str).collect();
    match nearest(zone.as_str(), names.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None if names.is_empty() => "no fleet and no provider names any zone".to_owned(),
        None => format!("the zones are: {}", names.join(", ")),
    }
}
