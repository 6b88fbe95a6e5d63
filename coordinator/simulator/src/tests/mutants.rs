//! Planners that break a rule on purpose: the simulation must notice each. A check that no mutant
//! can fail proves nothing.

use calvin_engine::{Decide, Planner};
use calvin_model::CatalogueRole;
use calvin_planner::{
    Action, Command, CommandInput, CommandOutcome, DeleteBasis, FleetPlan, FleetState, InvariantId,
    Life, Next, Plan, PlanInput, Refusal,
};

use super::*;

/// Changes what the planner decided for one fleet.
type Mutation = fn(&FleetState, &mut FleetPlan);

#[derive(Debug, Clone, Copy)]
struct Mutant(Mutation);

impl Decide for Mutant {
    fn plan(&self, input: &PlanInput<'_>) -> Plan {
        let mut plan = Planner.plan(input);
        for (name, fleet) in &mut plan.fleets {
            (self.0)(&input.fleets[name], fleet);
        }
        plan
    }

    fn command(
        &self,
        input: &CommandInput<'_>,
        order: &Command,
        who: &str,
    ) -> Result<CommandOutcome, Refusal> {
        Planner.command(input, order, who)
    }
}

fn broken_by(mutation: Mutation) -> Vec<Rule> {
    let mut scenario = GOOD.scenario();
    scenario.limit = Duration::from_secs(120);
    let outcome = Simulation::run_with(&scenario, 1, Mutant(mutation));
    let violations = outcome.violations.iter();
    violations.map(|violation| violation.rule).collect()
}

/// The state that the plan leads to, to be changed.
fn change<'a>(state: &FleetState, plan: &'a mut FleetPlan) -> &'a mut FleetState {
    if let Next::Change(_) = plan.next {
    } else {
        plan.next = Next::Change(Box::new(state.clone()));
    }
    match &mut plan.next {
        Next::Change(next) => next,
        Next::Same | Next::Remove => unreachable!("set above"),
    }
}

#[test]
fn the_planner_itself_breaks_none() {
    assert_eq!(broken_by(|_, _| {}), []);
}

#[test]
fn hiding_every_entry_is_noticed() {
    let broken = broken_by(|state, plan| {
        if state.rollouts > 1 {
            plan.hidden = state.instances.keys().cloned().collect();
        }
    });
    assert!(
        broken.contains(&Rule::LastEntryThatAnswersStays),
        "{broken:?}"
    );
}

#[test]
fn a_machine_that_is_never_deleted_is_noticed() {
    let broken = broken_by(|_, plan| {
        plan.actions.retain(|action| match action {
            Action::DeleteMachine { .. } => false,
            Action::CreateMachine { .. }
            | Action::SetWanted { .. }
            | Action::SetRoles { .. }
            | Action::RevokeIdentity { .. } => true,
        });
    });
    let rule = Rule::Planner(InvariantId::RolloutEndsOrSaysWhatItWaitsFor);
    assert!(broken.contains(&rule), "{broken:?}");
}

#[test]
fn a_record_that_is_forgotten_is_noticed() {
    let broken = broken_by(|state, plan| {
        if state.rollouts > 1 && state.instances.len() > 2 {
            change(state, plan).instances.pop_first();
        }
    });
    assert!(
        broken.contains(&Rule::RecordLeavesOnlyRetired),
        "{broken:?}"
    );
}

#[test]
fn an_intent_that_is_made_twice_is_noticed() {
    let broken = broken_by(|state, plan| {
        let Some((id, record)) = state.instances.first_key_value() else {
            return;
        };
        let number = u64::try_from(state.instances.len()).unwrap();
        let twin = calvin_model::InstanceId::new(&state.spec.name, number);
        if *id != twin {
            let mut record = record.clone();
            record.life = Life::Making;
            change(state, plan).instances.insert(twin, record);
        }
    });
    assert!(broken.contains(&Rule::MachinesBounded), "{broken:?}");
}

#[test]
fn a_blue_that_goes_while_green_soaks_is_noticed() {
    let broken = broken_by(|state, plan| {
        let Some(rollout) = state.running() else {
            return;
        };
        if rollout.phase == Phase::Soaking
            && let Some(blue) = rollout.sets.blue.first()
            && let Some(blue) = change(state, plan).instances.get_mut(blue)
        {
            blue.life = Life::Retiring(DeleteBasis::Replaced);
            blue.catalogue = CatalogueRole::Absent;
        }
    });
    let rule = Rule::Planner(InvariantId::BlueStaysUntilGreenIsProven);
    assert!(broken.contains(&rule), "{broken:?}");
}

#[test]
fn a_generation_that_stands_still_is_noticed() {
    let broken = broken_by(|state, plan| {
        let Next::Change(next) = &mut plan.next else {
            return;
        };
        for (id, record) in &mut next.instances {
            if let Some(before) = state.instances.get(id) {
                record.wanted.generation = before.wanted.generation;
            }
        }
    });
    let rule = Rule::Planner(InvariantId::GenerationNeverGoesBack);
    assert!(broken.contains(&rule), "{broken:?}");
}

#[test]
fn a_green_that_serves_unproven_is_noticed() {
    let broken = broken_by(|state, plan| {
        let Next::Change(next) = &mut plan.next else {
            return;
        };
        for (id, record) in &mut next.instances {
            if state.instances.contains_key(id) && !record.proven {
                record.catalogue = CatalogueRole::Active;
            }
        }
    });
    let rule = Rule::Planner(InvariantId::UnprovenNeverServes);
    assert!(broken.contains(&rule), "{broken:?}");
}

#[test]
fn an_action_without_a_committed_ground_is_refused_and_noticed() {
    let broken = broken_by(|state, plan| {
        for instance in state.instances.keys().cloned() {
            plan.actions.push(Action::DeleteMachine {
                instance,
                provider: state.spec.provider.clone(),
                basis: DeleteBasis::Lost,
            });
        }
    });
    assert!(broken.contains(&Rule::NothingOfOursIsRefused), "{broken:?}");
    // The engine did not let it through.
    assert!(
        !broken.contains(&Rule::OnlyCommittedReachesTheWorld),
        "{broken:?}"
    );
}
