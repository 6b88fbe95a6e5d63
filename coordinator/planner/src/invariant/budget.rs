//! Rules about what all fleets share: how many machines are in flight, how many are deleted, and
//! that nothing is made where there is no room for it.

use std::collections::BTreeMap;

use calvin_model::FleetName;

use super::{InvariantId, Violation, view::retires};
use crate::{
    ledger::Counts,
    plan::{DeleteBasis, Next, Plan, PlanInput},
    state::{FleetState, Life},
};

pub(super) fn check(input: &PlanInput<'_>, plan: &Plan, violations: &mut Vec<Violation>) {
    let after: BTreeMap<&FleetName, &FleetState> = input
        .fleets
        .iter()
        .filter_map(|(name, before)| Some((name, after(plan, name, before)?)))
        .collect();
    let news: BTreeMap<&FleetName, u32> = after
        .iter()
        .map(|(name, after)| (*name, intended(input, name, after)))
        .filter(|(_, number)| *number > 0)
        .collect();
    if !news.is_empty() {
        let counts = Counts::of(input, after.iter().map(|(name, state)| (*name, *state)));
        let check = Check {
            input,
            after: &after,
            counts: &counts,
        };
        check.in_flight(&news, violations);
        check.room(&news, violations);
    }
    deletions(input, &after, violations);
}

fn after<'a>(plan: &'a Plan, name: &FleetName, before: &'a FleetState) -> Option<&'a FleetState> {
    match &plan.fleets.get(name)?.next {
        Next::Same => Some(before),
        Next::Change(after) => Some(after),
        Next::Remove => None,
    }
}

/// How many intents a plan adds.
fn intended(input: &PlanInput<'_>, name: &FleetName, after: &FleetState) -> u32 {
    let Some(before) = input.fleets.get(name) else {
        return 0;
    };
    if std::ptr::eq(before, after) {
        return 0;
    }
    let new = after.instances.keys();
    let new = new.filter(|id| !before.instances.contains_key(*id));
    u32::try_from(new.count()).unwrap_or(u32::MAX)
}

/// The intents of a plan, against what all fleets share after it.
#[derive(Debug)]
struct Check<'a> {
    input: &'a PlanInput<'a>,
    after: &'a BTreeMap<&'a FleetName, &'a FleetState>,
    counts: &'a Counts<'a>,
}

impl Check<'_> {
    fn in_flight(&self, news: &BTreeMap<&FleetName, u32>, violations: &mut Vec<Violation>) {
        let everywhere = self.input.rules.budget.in_flight;
        for name in news.keys() {
            let own = self
                .after
                .get(name)
                .and_then(|state| state.spec.budget.in_flight);
            let making = self.counts.making(name);
            let all = self.counts.making_all();
            let too_many = own.is_some_and(|bound| making > bound)
                || everywhere.is_some_and(|bound| all > bound);
            if too_many {
                violations.push(Violation {
                    invariant: InvariantId::BudgetsNeverExceeded,
                    fleet: (*name).clone(),
                    text: format!(
                        "{making} of it and {all} of all fleets are in flight, allowed: {own:?} and {everywhere:?}"
                    ),
                });
            }
        }
    }

    fn room(&self, news: &BTreeMap<&FleetName, u32>, violations: &mut Vec<Violation>) {
        for name in news.keys() {
            let Some(state) = self.after.get(name) else {
                continue;
            };
            let mut broken = |text: String| {
                violations.push(Violation {
                    invariant: InvariantId::NothingMadeWithoutRoom,
                    fleet: (*name).clone(),
                    text,
                });
            };
            let provider = &state.spec.provider;
            let unmade = self.counts.unmade(provider);
            if let Some(free) = self.counts.free(provider).filter(|free| unmade > *free) {
                broken(format!(
                    "{unmade} are to be made by {provider}, which has {free} free"
                ));
            }
            for limit in state.spec.uses.keys() {
                let used = self.counts.used(limit);
                let of = self.input.rules.limits.get(limit);
                if let Some(of) = of.filter(|of| used > u64::from(**of)) {
                    broken(format!("{used} of limit {limit} are used, of {of}"));
                }
            }
        }
    }
}

/// What was deleted before and what a budget holds must fit into it. Deletions that none holds are
/// counted as well, and may come after those that fitted: they use up what is left for later.
fn deletions(
    input: &PlanInput<'_>,
    after: &BTreeMap<&FleetName, &FleetState>,
    violations: &mut Vec<Violation>,
) {
    let everywhere = &input.rules.budget;
    let (mut was_all, mut held_all) = (0_u32, 0_u32);
    let mut last = None;
    let mut broken = |fleet: &FleetName, text: String| {
        violations.push(Violation {
            invariant: InvariantId::BudgetsNeverExceeded,
            fleet: fleet.clone(),
            text,
        });
    };
    for (name, after) in after {
        let Some(before) = input.fleets.get(*name) else {
            continue;
        };
        was_all = was_all.saturating_add(before.deleted_within(input.now, everywhere.window.0.0));
        let held = held(before, after);
        if held == 0 {
            continue;
        }
        held_all = held_all.saturating_add(held);
        last = Some(*name);
        let own = &after.spec.budget;
        let was = before.deleted_within(input.now, own.window.0.0);
        if own.deletions.is_some_and(|bound| was + held > bound) {
            let text = format!(
                "{was} were deleted, {held} more are, of {:?}",
                own.deletions
            );
            broken(name, text);
        }
    }
    if let (Some(bound), Some(last)) = (everywhere.deletions, last)
        && was_all + held_all > bound
    {
        let text = format!("{was_all} were deleted in all fleets, {held_all} more are, of {bound}");
        broken(last, text);
    }
}

/// How many begin to be removed that a budget holds.
fn held(before: &FleetState, after: &FleetState) -> u32 {
    if std::ptr::eq(before, after) || after.deleting {
        return 0;
    }
    let begins = after.instances.iter().filter(|(id, new)| {
        let Some(old) = before.instances.get(*id) else {
            return false;
        };
        retires(old, new) && is_held(&new.life)
    });
    u32::try_from(begins.count()).unwrap_or(u32::MAX)
}

fn is_held(life: &Life) -> bool {
    match life {
        Life::Retiring(
            DeleteBasis::Replaced
            | DeleteBasis::ScaledDown
            | DeleteBasis::Ordered
            | DeleteBasis::Unmanaged
            | DeleteBasis::Unhealthy,
        ) => true,
        Life::Retiring(
            DeleteBasis::RolledBack
            | DeleteBasis::FleetDeleted
            | DeleteBasis::Lost
            | DeleteBasis::ZoneLost
            | DeleteBasis::NeverHealthy,
        )
        | Life::Making
        | Life::Up
        | Life::Draining(_) => false,
    }
}
