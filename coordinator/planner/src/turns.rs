//! In which order fleets take from what all share, and which fleets others have to wait for.
//!
//! Those that a budget or the room refused something in an earlier pass go first: of these what
//! serves too little, then what repairs or keeps its count, then what a rollout waits for, and within
//! each the one that has waited longest. A fleet of which one instance after the other is given up
//! comes with the last, whatever it lacks. Whoever gets something goes to the end, so that nobody waits for ever.

use std::collections::{BTreeMap, BTreeSet};

use calvin_model::FleetName;

use crate::{pass::Pass, state::FleetState};

/// How much a fleet that waits needs what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It served once, and fewer serve than must.
    TooFewServe,
    /// No rollout of it runs, so what it waits for is a repair or its count; or it owes one that was
    /// lost.
    Repair,
    /// Its rollout waits; or what it makes never becomes healthy.
    Change,
}

/// The indexes of the passes, in their turns.
pub(crate) fn turns(passes: &[Pass<'_>]) -> Vec<usize> {
    let mut waiting: Vec<_> = Vec::new();
    let mut others: Vec<usize> = Vec::new();
    for (index, pass) in passes.iter().enumerate() {
        match pass.state().waiting_since {
            Some(since) => waiting.push((need(pass), since, pass.fleet, index)),
            None => others.push(index),
        }
    }
    waiting.sort();
    let waiting = waiting.into_iter().map(|(_, _, _, index)| index);
    waiting.chain(others).collect()
}

fn need(pass: &Pass<'_>) -> Need {
    let state = pass.state();
    // A fleet whose instances never become healthy would always be first.
    let hopeless = state.given_up_in_a_row > 0;
    if !hopeless && state.serving.is_some() && pass.serving() < state.must_serve() {
        Need::TooFewServe
    } else if !hopeless && (state.running().is_none() || !state.owed.is_empty()) {
        Need::Repair
    } else {
        Need::Change
    }
}

/// The fleets that others come after and that do not serve what they should, with the reason.
pub(crate) fn unready<'a>(
    fleets: &'a BTreeMap<FleetName, FleetState>,
    passes: &[Pass<'a>],
) -> BTreeMap<&'a FleetName, String> {
    let asked: BTreeSet<&FleetName> = fleets.values().flat_map(|one| &one.spec.after).collect();
    let mut unready = BTreeMap::new();
    if asked.is_empty() {
        return unready;
    }
    let passes: BTreeMap<&FleetName, &Pass<'a>> =
        passes.iter().map(|pass| (pass.fleet, pass)).collect();
    for name in asked {
        let why = passes
            .get(name)
            .map_or_else(|| Some("there is no such fleet".to_owned()), |one| why(one));
        if let Some(why) = why {
            unready.insert(name, why);
        }
    }
    unready
}

/// Why a fleet does not serve what it should, if it does not.
fn why(pass: &Pass<'_>) -> Option<String> {
    let state = pass.state();
    if state.deleting {
        return Some("it is being deleted".to_owned());
    }
    if let Some(rollout) = state.running() {
        return Some(format!("{} is in {}", rollout.id, rollout.phase));
    }
    if state.serving.is_none() {
        return Some("nothing of it ever served".to_owned());
    }
    let (serving, least) = (pass.serving(), state.must_serve());
    (serving < least).then(|| format!("{serving} serve, and {least} must"))
}
