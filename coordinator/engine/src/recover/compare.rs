//! Compares the records with the world: pure, and the same for the same input.

use std::collections::{BTreeMap, BTreeSet};

use calvin_model::{FleetName, ImageRef, InstanceId, Role};
use calvin_planner::{FleetState, Instance, Life, sums::list_is_short};

use super::{
    Difference, Finding, Found, LISTEN, Listed, Verdict, World,
    numbers::{above, believable, highest_epoch},
    settle::{Settled, keep, settle},
};
use crate::ports::AgentHeard;

/// One that was heard longer ago than this is silent: agents that are not let in come again after
/// at most 10 s.
const HEARD_FRESH: std::time::Duration = std::time::Duration::from_secs(45);
/// Instances named in one sentence.
const NAMED: usize = 5;

/// One instance, from all sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) id: &'a InstanceId,
    /// What is on record of it.
    pub(super) record: Option<&'a Instance>,
    /// Its machine, where a list has it.
    pub(super) machine: Option<&'a Found>,
    /// Whether its provider's complete list lacks it.
    pub(super) absent: bool,
    /// What its agent said lately.
    pub(super) heard: Option<&'a AgentHeard>,
}

impl Seen<'_> {
    pub(super) fn role(&self) -> Option<Role> {
        self.heard.and_then(|heard| heard.role)
    }

    /// The image that it was made from, as its tag has it, or else its record.
    pub(super) fn image(&self) -> Option<&ImageRef> {
        let tag = self.machine.and_then(|machine| machine.tag.as_ref());
        let record = self.record.map(|record| &record.build.image);
        tag.map(|tag| &tag.image).or(record)
    }
}

/// Compares.
#[must_use]
pub fn compare(world: &World<'_>) -> Difference {
    let tags = world.machines.values();
    let tags = tags.filter_map(|found| found.tag.as_ref());
    let epoch_seen = highest_epoch(
        world.epoch,
        world.agents.values(),
        tags.map(|tag| tag.epoch),
    );
    let mut difference = Difference {
        epoch_seen,
        epoch_next: above(epoch_seen),
        waits: waits(world),
        ..Difference::default()
    };
    for (fleet, ids) in &by_fleet(world) {
        let seen: Vec<Seen<'_>> = ids.iter().map(|id| look(world, fleet, id)).collect();
        match world.fleets.get(fleet) {
            None => difference.findings.extend(
                seen.iter()
                    .map(|seen| without_record(world, fleet, None, seen)),
            ),
            Some(state) => known_fleet(world, fleet, state, &seen, &mut difference),
        }
    }
    difference.id = id_of(&difference);
    difference
}

/// Which instances belong to which fleet: by the record, else by certificate, else by tag.
fn by_fleet(world: &World<'_>) -> BTreeMap<FleetName, BTreeSet<InstanceId>> {
    let mut fleets: BTreeMap<FleetName, BTreeSet<InstanceId>> = BTreeMap::new();
    let mut recorded = BTreeSet::new();
    for (name, state) in world.fleets {
        recorded.extend(state.instances.keys());
        let ids = fleets.entry(name.clone()).or_default();
        ids.extend(state.instances.keys().cloned());
    }
    let tags = world.machines.iter();
    let tags = tags.filter_map(|(id, found)| Some((id, &found.tag.as_ref()?.fleet)));
    let certificates: BTreeMap<_, _> = world
        .agents
        .iter()
        .map(|(id, heard)| (id, &heard.fleet))
        .collect();
    for (id, fleet) in tags.chain(certificates.iter().map(|(id, fleet)| (*id, *fleet))) {
        let fleet = certificates.get(id).copied().unwrap_or(fleet);
        if !recorded.contains(id) {
            fleets.entry(fleet.clone()).or_default().insert(id.clone());
        }
    }
    fleets
}

fn look<'a>(world: &'a World<'_>, fleet: &FleetName, id: &'a InstanceId) -> Seen<'a> {
    let state = world.fleets.get(fleet);
    let record = state.and_then(|state| state.instances.get(id));
    let machine = world.machines.get(id);
    let listed = |provider: &str| world.providers.get(provider) == Some(&Listed::Completely);
    let absent = machine.is_none() && state.is_some_and(|state| listed(&state.spec.provider));
    let heard = world.agents.get(id);
    Seen {
        id,
        record,
        machine,
        absent,
        heard: heard.filter(|heard| heard.age <= HEARD_FRESH),
    }
}

fn known_fleet(
    world: &World<'_>,
    name: &FleetName,
    state: &FleetState,
    seen: &[Seen<'_>],
    difference: &mut Difference,
) {
    let moved_on = |seen: &Seen<'_>| match (seen.record, seen.heard) {
        (Some(record), Some(heard)) => {
            believable(heard) && heard.generation > record.wanted.generation
        }
        (Some(_), None) | (None, Some(_) | None) => false,
    };
    let first: BTreeMap<&InstanceId, Finding> = seen
        .iter()
        .map(|seen| (seen.id, first_look(world, name, state, seen)))
        .collect();
    let adopts = first
        .values()
        .any(|finding| finding.verdict == Verdict::Adopt);
    let Settled {
        state: after,
        findings,
    } = if adopts || seen.iter().any(moved_on) || most_are_gone(state, seen) {
        settle(world, name, state, seen, &first)
    } else {
        keep(state, seen, first)
    };
    let shown = seen.iter().filter(|seen| seen.heard.is_some());
    let kept = shown.filter(|seen| after.instances.contains_key(seen.id));
    difference
        .identities
        .extend(kept.map(|seen| seen.id.clone()));
    difference.findings.extend(findings);
    difference.fleets.insert(name.clone(), after);
}

/// Whether a rollout is on record most of whose machines are not there: it cannot go on, nor back, as
/// a list that lacks most of them is no word against any. A person has looked at this one.
fn most_are_gone(state: &FleetState, seen: &[Seen<'_>]) -> bool {
    let up = |seen: &&Seen<'_>| seen.record.is_some_and(|record| record.life == Life::Up);
    let of = seen.iter().filter(up).count();
    let gone = seen.iter().filter(up);
    let gone = gone.filter(|seen| seen.absent && seen.heard.is_none());
    state.running().is_some() && list_is_short(gone.count(), of)
}

/// What is to be said of an instance by itself, whatever becomes of its fleet.
fn first_look(world: &World<'_>, name: &FleetName, state: &FleetState, seen: &Seen<'_>) -> Finding {
    let Some(record) = seen.record else {
        return without_record(world, name, Some(state), seen);
    };
    let line = |verdict, found: String, then: &str| finding(name, seen, verdict, found, then);
    if let Some(conflict) = conflict(world, name, seen) {
        return line(Verdict::Conflict, conflict, LOOK_AT_IT);
    }
    let image = &record.build.image.tag;
    match (seen.heard, seen.machine) {
        (Some(heard), _) => {
            let role = role_words(heard.role);
            line(
                Verdict::Keep,
                format!("{role} with {image}, says its agent"),
                "it stays",
            )
        }
        (None, None) if seen.absent => line(Verdict::Missing, missing(image), REPAIR),
        (None, Some(_) | None) => line(
            Verdict::Keep,
            format!("on record with {image}; its agent was not heard"),
            "it stays as it is on record",
        ),
    }
}

/// What is to be said of an instance without a record. `state` is that of its fleet.
fn without_record(
    world: &World<'_>,
    name: &FleetName,
    state: Option<&FleetState>,
    seen: &Seen<'_>,
) -> Finding {
    let line = |verdict, found: String, then: &str| finding(name, seen, verdict, found, then);
    let serves = seen.role() == Some(Role::Active);
    if !serves {
        let found = match seen.heard {
            Some(heard) => format!("{}, and has no record", role_words(heard.role)),
            None => "a machine without a record, whose agent was not heard".to_owned(),
        };
        return line(Verdict::Stray, found, LEFT_ALONE);
    }
    if let Some(conflict) = conflict(world, name, seen) {
        return line(Verdict::Conflict, conflict, LOOK_AT_IT);
    }
    let Some(image) = seen.image() else {
        let found = "serves, and no machine with its tag is listed".to_owned();
        return line(Verdict::Conflict, found, LOOK_AT_IT);
    };
    let Some(state) = state else {
        let found = format!("serves {} in a fleet that has no record here", image.tag);
        let then = "it blocks the plan: apply the fleet's file (calvin fleet apply FILE), which makes nothing before the approval";
        return line(Verdict::UnknownFleet, found, then);
    };
    if state.deleting {
        let found = format!("serves {}, and its fleet is being deleted", image.tag);
        return line(Verdict::Stray, found, LEFT_ALONE);
    }
    if !world.images.contains_key(image) {
        let found = format!("serves {image}, which is not recorded here");
        let then = "it blocks the plan: calvin image add DIRECTORY";
        return line(Verdict::UnknownImage, found, then);
    }
    line(
        Verdict::Adopt,
        format!("serves {}, and has no record", image.tag),
        "it is taken into the fleet as it serves",
    )
}

/// What cannot be true together.
fn conflict(world: &World<'_>, fleet: &FleetName, seen: &Seen<'_>) -> Option<String> {
    let tag = seen.machine.and_then(|machine| machine.tag.as_ref());
    if let Some(tag) = tag.filter(|tag| tag.fleet != *fleet) {
        return Some(format!("the tag of its machine says fleet {}", tag.fleet));
    }
    if let (Some(tag), Some(record)) = (tag, seen.record)
        && tag.image != record.build.image
    {
        return Some(format!(
            "its machine was made from {}, on record is {}",
            tag.image, record.build.image
        ));
    }
    let heard = seen.heard?;
    if heard.fleet != *fleet {
        return Some(format!("its certificate says fleet {}", heard.fleet));
    }
    if !believable(heard) {
        let epoch = heard.epoch.as_ref().map_or(0, |epoch| epoch.number);
        return Some(format!(
            "its agent claims epoch {epoch} and generation {}, which no coordinator ever counted to",
            heard.generation
        ));
    }
    let known = world.images.get(seen.image()?)?;
    if let Some(manifest) = &known.manifest
        && *manifest != heard.manifest
    {
        return Some(format!(
            "its agent shows another image.toml than {} was recorded with",
            known.build.image.tag
        ));
    }
    if known.build_id != heard.build {
        let shown = heard.build.as_deref().unwrap_or("none");
        return Some(format!("its agent shows the build id {shown}"));
    }
    None
}

pub(super) fn finding(
    fleet: &FleetName,
    seen: &Seen<'_>,
    verdict: Verdict,
    found: String,
    then: &str,
) -> Finding {
    Finding {
        fleet: fleet.clone(),
        instance: Some(seen.id.clone()),
        verdict,
        found,
        then: then.to_owned(),
    }
}

pub(super) const LEFT_ALONE: &str =
    "it is left alone, outside of fleets and names: delete its machine by hand if it is not needed";
pub(super) const REPAIR: &str = "it stays on record, and the ordinary repair judges it";
const LOOK_AT_IT: &str = "it blocks the plan: look at the machine, and end it if it is not yours";

pub(super) fn missing(image: &impl std::fmt::Display) -> String {
    format!("on record with {image}, but not in its provider's list, and its agent is silent")
}

pub(super) fn role_words(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Active) => "serves",
        Some(Role::Standby) => "is on standby",
        Some(Role::Draining) => "drains",
        Some(Role::Retired) => "is retired",
        None => "is there, in no role that its agent tells",
    }
}

/// What an approval waits for.
fn waits(world: &World<'_>) -> Vec<String> {
    let mut waits = Vec::new();
    for (name, listed) in &world.providers {
        match listed {
            Listed::Completely => {}
            Listed::NotYet => waits.push(format!("provider {name} has not listed its machines")),
        }
    }
    let silent: Vec<&str> = world
        .machines
        .iter()
        .filter(|(id, found)| {
            found.state == calvin_planner::MachineState::Running && !world.agents.contains_key(*id)
        })
        .map(|(id, _)| id.as_str())
        .collect();
    if !silent.is_empty() && world.listening_for < LISTEN {
        let named = silent[..silent.len().min(NAMED)].join(", ");
        let rest = match silent.len().saturating_sub(NAMED) {
            0 => String::new(),
            rest => format!(" and {rest} more"),
        };
        waits.push(format!(
            "{} machines run whose agents were not heard yet ({named}{rest}); they are waited for until {} s after the start",
            silent.len(),
            LISTEN.as_secs()
        ));
    }
    waits
}

/// FNV-1a (as the planner's own plan ids) over every line and number that is approved.
fn id_of(difference: &Difference) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    add(&difference.epoch_next.to_string());
    for finding in &difference.findings {
        add(&finding.to_string());
    }
    for (name, fleet) in &difference.fleets {
        add(name.as_str());
        for (id, instance) in &fleet.instances {
            add(&format!("{id} {}", instance.wanted.generation));
        }
    }
    format!("{hash:016x}")
}
