//! Epochs and generations: which were seen, which may be believed, and which are taken next.

use std::collections::BTreeMap;

use calvin_model::{Epoch, FleetName, Generation, InstanceId};
use calvin_planner::FleetState;

use crate::ports::AgentHeard;

/// What is taken lies so far above all that was seen: an agent that was not heard may have been
/// told more, and a coordinator that counts a start each minute needs 16 hours for it.
pub const MARGIN: u64 = 1_000;
/// A number above this is none that a coordinator of ours ever took: a start or a wanted state each
/// millisecond would take nine thousand years to count so far. It is not believed, so that no
/// machine can use the numbers up for all others.
pub const BELIEVABLE_MAX: u64 = 1 << 48;

/// The number after `seen`, with the margin.
pub(super) fn above(seen: u64) -> u64 {
    seen.min(BELIEVABLE_MAX).saturating_add(MARGIN)
}

/// Whether what an agent says of numbers can be true.
pub(super) fn believable(heard: &AgentHeard) -> bool {
    let epoch = heard.epoch.as_ref().map_or(0, |epoch| epoch.number);
    epoch <= BELIEVABLE_MAX && heard.generation.0 <= BELIEVABLE_MAX
}

/// The highest epoch of these agents and tags that can be true, and ours.
pub(super) fn highest_epoch<'a>(
    ours: &Epoch,
    agents: impl Iterator<Item = &'a AgentHeard>,
    tags: impl Iterator<Item = u64>,
) -> u64 {
    let heard = agents
        .filter(|heard| believable(heard))
        .filter_map(|heard| heard.epoch.as_ref())
        .map(|epoch| epoch.number);
    let tags = tags.filter(|epoch| *epoch <= BELIEVABLE_MAX);
    heard.chain(tags).chain([ours.number]).max().unwrap_or(0)
}

/// How one agent shows that `ours` is behind the world, if it does.
pub(super) fn behind(
    instance: &InstanceId,
    heard: &AgentHeard,
    ours: &Epoch,
    fleets: &BTreeMap<FleetName, FleetState>,
) -> Option<String> {
    if !believable(heard) {
        return None;
    }
    if let Some(seen) = &heard.epoch
        && seen.admit(ours).is_err()
    {
        return Some(format!(
            "instance {instance} has listened to epoch {seen}, which this coordinator, in epoch {}, never spoke",
            ours.number
        ));
    }
    let mut fleets = fleets.values();
    let record = fleets.find_map(|fleet| fleet.instances.get(instance))?;
    let Generation(given) = record.wanted.generation;
    let Generation(seen) = heard.generation;
    (seen > given).then(|| {
        format!(
            "instance {instance} was told generation {seen}, and this coordinator gave it {given} at most"
        )
    })
}
