//! What a fleet's record becomes. Where the world has only what is on record, everything stays and
//! a rollout that runs goes on. Where it has moved on, the record becomes what serves: no rollout
//! runs, nothing that serves leaves, and nothing is removed.

use std::collections::{BTreeMap, BTreeSet};

use calvin_model::{CatalogueRole, FleetName, Generation, InstanceId, Role, Wanted};
use calvin_planner::{Build, FleetState, Instance, Life, Moment, Purpose};

use super::{
    Finding, Verdict, World,
    compare::{LEFT_ALONE, REPAIR, Seen, finding, missing},
    numbers::{above, believable},
};

/// Rollouts that the world may have had since are skipped, so that no id of one means two.
const ROLLOUTS_SKIPPED: u64 = 100;

/// A fleet's record after the approval, and how it comes about.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) state: FleetState,
    pub(super) findings: Vec<Finding>,
}

/// Keeps the record; only its generations go above all that were seen.
pub(super) fn keep(
    state: &FleetState,
    seen: &[Seen<'_>],
    first: BTreeMap<&InstanceId, Finding>,
) -> Settled {
    let mut state = state.clone();
    for seen in seen {
        if let Some(instance) = state.instances.get_mut(seen.id) {
            instance.wanted.generation = next_generation(seen);
        }
    }
    Settled {
        state,
        findings: first.into_values().collect(),
    }
}

/// Makes the record of what serves.
pub(super) fn settle(
    world: &World<'_>,
    name: &FleetName,
    before: &FleetState,
    seen: &[Seen<'_>],
    first: &BTreeMap<&InstanceId, Finding>,
) -> Settled {
    let mut instances = BTreeMap::new();
    let mut findings = Vec::new();
    let mut gone = Vec::new();
    for one in seen {
        let Some(first) = first.get(one.id) else {
            continue;
        };
        match what_of(world, one, first.verdict) {
            Part::Serves(build) => {
                findings.push(first.clone());
                instances.insert(one.id.clone(), serving(world.moment, one, build));
            }
            Part::AsRecorded(instance) => {
                findings.push(first.clone());
                instances.insert(one.id.clone(), instance);
            }
            Part::Gone => gone.push(one),
            Part::LeftAlone => {
                let found = first.found.clone();
                findings.push(finding(name, one, Verdict::Stray, found, LEFT_ALONE));
            }
            Part::Blocked => findings.push(first.clone()),
        }
    }
    let staying = instances.values().filter(|one| !one.leaving()).count();
    let count = usize::try_from(before.spec.count).unwrap_or(usize::MAX);
    // What never served misses nothing: its first rollout is not followed, and would not be repaired.
    let served = before.serving.is_some() || most(before, &instances).is_some();
    for (number, one) in gone.iter().enumerate() {
        let Some(record) = one.record else { continue };
        let found = missing(&record.build.image.tag);
        if served && staying + number < count {
            let then = REPAIR;
            findings.push(finding(name, one, Verdict::Missing, found, then));
            let mut instance = record.clone();
            instance.wanted.generation = next_generation(one);
            instances.insert(one.id.clone(), instance);
        } else {
            let then = if served {
                "its record goes: as many as the fleet is to have were found"
            } else {
                "its record goes: nothing of the fleet serves yet, so nothing is missed"
            };
            findings.push(finding(name, one, Verdict::Forget, found, then));
        }
    }
    let state = with_instances(before, instances);
    let mut all = changes(name, before, &state);
    all.extend(findings);
    Settled {
        state,
        findings: all,
    }
}

/// What becomes of one instance of a fleet that moved on.
enum Part {
    /// It serves, with this.
    Serves(Build),
    /// Its record stays.
    AsRecorded(Instance),
    /// It is not there.
    Gone,
    /// It is there, and does not serve.
    LeftAlone,
    /// A person must look at it; if they leave it, it is left alone.
    Blocked,
}

fn what_of(world: &World<'_>, one: &Seen<'_>, first: Verdict) -> Part {
    if first.blocks() {
        return match one.record {
            Some(record) => Part::AsRecorded(recorded(one, record)),
            None => Part::Blocked,
        };
    }
    let Some(record) = one.record else {
        let image = one.image().and_then(|image| world.images.get(image));
        return match image.filter(|_| first == Verdict::Adopt) {
            Some(known) => Part::Serves(known.build.clone()),
            None => Part::LeftAlone,
        };
    };
    match (one.heard, one.machine) {
        (Some(heard), _) => match heard.role {
            Some(Role::Active) => Part::Serves(record.build.clone()),
            Some(Role::Draining | Role::Retired) if record.leaving() => {
                Part::AsRecorded(recorded(one, record))
            }
            // An agent of an older version does not tell its role.
            None if found_by_clients(record) => Part::AsRecorded(recorded(one, record)),
            Some(Role::Standby | Role::Draining | Role::Retired) | None => Part::LeftAlone,
        },
        // What is left to do of a removal is to say that nothing is left.
        (None, None) if one.absent && record.leaving() => Part::AsRecorded(recorded(one, record)),
        (None, None) if one.absent => Part::Gone,
        (None, Some(_) | None) if found_by_clients(record) => {
            Part::AsRecorded(recorded(one, record))
        }
        (None, Some(_) | None) => Part::LeftAlone,
    }
}

/// On record as one that clients may find and that is to stay.
fn found_by_clients(record: &Instance) -> bool {
    let found = match record.catalogue {
        CatalogueRole::Active | CatalogueRole::Entered => true,
        CatalogueRole::Absent | CatalogueRole::Standby => false,
    };
    found && !record.leaving()
}

fn recorded(one: &Seen<'_>, record: &Instance) -> Instance {
    let mut instance = record.clone();
    instance.wanted.generation = next_generation(one);
    instance
}

fn next_generation(one: &Seen<'_>) -> Generation {
    let given = one.record.map_or(0, |record| record.wanted.generation.0);
    let heard = one.heard.filter(|heard| believable(heard));
    let seen = heard.map_or(0, |heard| heard.generation.0);
    Generation(above(given.max(seen)))
}

/// The record of one that serves. It counts as proven: what serves is repaired as any other, and
/// not given up for having never been healthy.
fn serving(now: Moment, one: &Seen<'_>, build: Build) -> Instance {
    let record = one.record;
    Instance {
        build,
        purpose: record.map_or(Purpose::Scale, |record| record.purpose.clone()),
        life: Life::Up,
        since: record.map_or(now, |record| record.since),
        created: record.map_or(now, |record| record.created),
        wanted: Wanted {
            generation: next_generation(one),
            role: Role::Active,
            drain: None,
        },
        wanted_since: now,
        catalogue: CatalogueRole::Active,
        proven: true,
        ordered: None,
        replace: None,
        zone: record.and_then(|record| record.zone.clone()),
        protected: record.and_then(|record| record.protected.clone()),
        // It was found active: in an exclusive fleet no other may be until it is known to have stopped.
        at_work: true,
    }
}

fn with_instances(before: &FleetState, instances: BTreeMap<InstanceId, Instance>) -> FleetState {
    let mut state = before.clone();
    let serving = most(before, &instances);
    if let Some(serving) = serving
        && before.serving.as_ref() != Some(&serving)
    {
        state.previous.clone_from(&before.serving);
        state.spec.image = serving.image.tag.clone();
        state.serving = Some(serving);
    }
    let staying = instances.values().filter(|one| !one.leaving()).count();
    let staying = u32::try_from(staying).unwrap_or(u32::MAX);
    state.spec.count = before.spec.count.max(staying);
    state.rollout = None;
    state.next = None;
    state.rollouts = before.rollouts.saturating_add(ROLLOUTS_SKIPPED);
    state.holding = BTreeSet::new();
    state.given_up_in_a_row = 0;
    state.owed.clear();
    state.waiting_since = None;
    state.later_count = None;
    state.standing = None;
    state.failed.retain(|id| instances.contains_key(id));
    state.instances = instances;
    state
}

/// What most of them serve; of two that are as many, the one that the record does not name.
fn most(before: &FleetState, instances: &BTreeMap<InstanceId, Instance>) -> Option<Build> {
    let mut counts: Vec<(usize, bool, &Build)> = Vec::new();
    for instance in instances.values() {
        if instance.catalogue != CatalogueRole::Active || instance.leaving() {
            continue;
        }
        let build = &instance.build;
        match counts.iter_mut().find(|(_, _, known)| *known == build) {
            Some((count, _, _)) => *count += 1,
            None => counts.push((1, before.serving.as_ref() != Some(build), build)),
        }
    }
    let most = counts
        .into_iter()
        .max_by_key(|(count, new, _)| (*count, *new));
    most.map(|(_, _, build)| build.clone())
}

/// What changes for the fleet as a whole.
fn changes(name: &FleetName, before: &FleetState, after: &FleetState) -> Vec<Finding> {
    let mut changes = Vec::new();
    let mut change = |found: String, then: String| {
        changes.push(Finding {
            fleet: name.clone(),
            instance: None,
            verdict: Verdict::Change,
            found,
            then,
        });
    };
    if before.serving != after.serving
        && let Some(serving) = &after.serving
    {
        let was = before.serving.as_ref();
        let was = was.map_or("nothing".to_owned(), |was| was.image.tag.to_string());
        let tag = &serving.image.tag;
        change(
            format!("{was} is on record, {tag} serves"),
            format!("{tag} is its image from then on"),
        );
    }
    if let Some(rollout) = before.running() {
        change(
            format!("{} is on record as {}", rollout.id, rollout.phase),
            "the world has moved on, so it is not followed; no rollout runs".to_owned(),
        );
    }
    if let Some(next) = &before.next {
        change(
            format!("a rollout to {} waits on record", next.build.image.tag),
            "it is dropped; order it again if it is wanted".to_owned(),
        );
    }
    if before.spec.count != after.spec.count {
        change(
            format!(
                "{} are there, {} are wanted",
                after.spec.count, before.spec.count
            ),
            format!(
                "{} are wanted, so that none leaves by itself; later: calvin fleet scale {name} {}",
                after.spec.count, before.spec.count
            ),
        );
    }
    changes
}
