//! What the phases ask of their greens.

use calvin_model::{DrainReason, InstanceId, image::Work};

use crate::{
    judge::{Judgement, Loss},
    observed::{FaultKind, ProviderFault},
    pass::Pass,
    plan::{DeleteBasis, EventKind},
    report::InstanceClass,
    step::{repair::second, veto::blame},
    transition::Cause,
};

/// The greens of the wave, but for those that were lost with their zone.
pub(crate) fn green(pass: &Pass<'_>) -> Vec<InstanceId> {
    let Some(rollout) = pass.running() else {
        return Vec::new();
    };
    let greens = rollout.sets.green.iter();
    greens.filter(|id| !pass.left_behind(id)).cloned().collect()
}

/// The blues of the wave of which a record is left, but for those that were lost with their zone.
pub(crate) fn blue(pass: &Pass<'_>) -> Vec<InstanceId> {
    let Some(rollout) = pass.running() else {
        return Vec::new();
    };
    let left = |id: &&InstanceId| pass.instance(id).is_some() && !pass.left_behind(id);
    rollout.sets.blue.iter().filter(left).cloned().collect()
}

/// A green that is given up, and why.
#[derive(Debug)]
struct Failure {
    green: InstanceId,
    basis: DeleteBasis,
    why: String,
}

/// Gives failed greens up and makes them again, as long as the fleet allows that. Says whether the
/// phase may go on as it is.
pub(crate) fn give_up_failed(pass: &mut Pass<'_>) -> Progress {
    let failures: Vec<Failure> = green(pass)
        .iter()
        .filter_map(|id| failure(pass, id))
        .collect();
    let Some(first) = failures.first() else {
        return Progress::GoesOn;
    };
    let why = format!("{}: {}", first.green, first.why);
    // It may vote, healthy or not.
    let kept = failures.iter().find(|failure| {
        let stays = pass
            .instance(&failure.green)
            .is_some_and(|one| !one.leaving());
        stays && pass.must_stay(&failure.green, &failure.why)
    });
    if kept.is_some() {
        return Progress::Ended;
    }
    let allowed = pass.state().spec.replace.max_instance_failures;
    let mut failed = 0;
    for failure in &failures {
        failed = count_failure(pass, failure);
    }
    if failed > allowed {
        // They leave with the others, or are kept with them, to be looked at.
        pass.go_back(&format!(
            "{why}; failed greens: {failed}, allowed: {allowed}"
        ));
        return Progress::Ended;
    }
    for failure in &failures {
        replace(pass, failure);
    }
    pass.go(Cause::GreenReplaced, &why);
    Progress::Ended
}

/// Gives the rollout up if more greens failed than the fleet allows, without making any again: for
/// one that is held.
pub(crate) fn give_up_if_too_many(pass: &mut Pass<'_>) -> Progress {
    let greens = green(pass);
    let failures: Vec<Failure> = greens.iter().filter_map(|id| failure(pass, id)).collect();
    let found = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    let before = pass.running().map_or(0, |rollout| rollout.failures);
    let allowed = pass.state().spec.replace.max_instance_failures;
    let failed = before.saturating_add(found);
    let Some(first) = failures.first().filter(|_| failed > allowed) else {
        return Progress::GoesOn;
    };
    let why = format!("{}: {}", first.green, first.why);
    for failure in &failures {
        count_failure(pass, failure);
    }
    pass.go_back(&format!(
        "{why}; failed greens: {failed}, allowed: {allowed}"
    ));
    Progress::Ended
}

/// Whether a phase may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing has happened.
    GoesOn,
    /// The phase has ended, or begins again.
    Ended,
}

fn failure(pass: &Pass<'_>, id: &InstanceId) -> Option<Failure> {
    let fail = |basis: DeleteBasis, why: String| {
        Some(Failure {
            green: id.clone(),
            basis,
            why,
        })
    };
    let Some(instance) = pass.instance(id) else {
        return fail(DeleteBasis::NeverHealthy, "its record is gone".to_owned());
    };
    if instance.leaving() {
        return fail(DeleteBasis::NeverHealthy, "it was ordered away".to_owned());
    }
    if pass.judged(id).loss == Loss::TwoSources {
        let text = format!("lost: its path is silent, and {}", second(pass, id));
        return fail(DeleteBasis::Lost, text);
    }
    if instance.proven {
        return None;
    }
    let fault = pass.seen(id).and_then(|seen| seen.fault.as_ref());
    if let Some(fault) = fault.filter(|fault| fault.permanent) {
        let text = format!("cannot be made: {}", fault.message);
        return fail(DeleteBasis::NeverHealthy, text);
    }
    let deadline = pass.state().spec.replace.healthy_deadline;
    if instance.created.after(deadline.0).reached(pass.counted()) {
        let text = format!(
            "not healthy within healthy_deadline {deadline}: {}",
            why_not_healthy(pass, id)
        );
        return fail(DeleteBasis::NeverHealthy, text);
    }
    None
}

/// Counts a failed green. Returns how many have failed.
fn count_failure(pass: &mut Pass<'_>, failure: &Failure) -> u32 {
    let text = format!("{} failed: {}", failure.green, failure.why);
    pass.event(Some(&failure.green), EventKind::InstanceFailed, text);
    if failure.basis == DeleteBasis::NeverHealthy {
        blame(pass, &failure.green);
    }
    let Some(rollout) = &mut pass.change().rollout else {
        return u32::MAX;
    };
    rollout.failures = rollout.failures.saturating_add(1);
    rollout.failures
}

/// Removes a failed green; another is made in its place, as soon as the budgets allow it. In a lost zone
/// it leaves when that is found, and is no part of the wave any more.
fn replace(pass: &mut Pass<'_>, failure: &Failure) {
    if pass.left_alone(&failure.green) {
        pass.leave(&failure.green, DrainReason::RolledBack, &failure.why);
    } else {
        pass.retire(&failure.green, failure.basis.clone(), &failure.why);
    }
    if let Some(rollout) = &mut pass.change().rollout {
        rollout.sets.green.retain(|id| *id != failure.green);
        rollout.sets.to_make = rollout.sets.to_make.saturating_add(1);
    }
}

/// What its provider could not do for a machine that is not there, and when it tries again.
fn not_there(fault: &ProviderFault) -> String {
    let kind = match fault.kind {
        FaultKind::Other | FaultKind::Image => "",
        FaultKind::Quota => "no room for it: ",
    };
    let known = format!("its machine is not there: {kind}{}", fault.message);
    if fault.permanent {
        return known;
    }
    let again = fault.retry_in.as_secs_f64();
    format!("{known} (try {}, again in {again:.0} s)", fault.tries)
}

/// Why an instance is not healthy, as far as is known: one clause for people.
pub(crate) fn why_not_healthy(pass: &Pass<'_>, id: &InstanceId) -> String {
    let judgement = pass.judged(id);
    let seen = pass.seen(id);
    // An agent that is not let in tells nothing by itself.
    let alarm = seen.and_then(|seen| seen.alarm.as_ref());
    match judgement.class {
        InstanceClass::Healthy if !judgement.in_role => {
            "it has not applied its newest role".to_owned()
        }
        InstanceClass::Healthy => "it is healthy".to_owned(),
        InstanceClass::Unhealthy => {
            let failing = seen.and_then(|seen| seen.agent.as_ref());
            let first = failing.and_then(|agent| agent.report.failing.first());
            first.map_or_else(|| "its checks fail".to_owned(), Clone::clone)
        }
        InstanceClass::Starting => {
            let fault = seen.and_then(|seen| seen.fault.as_ref());
            match (alarm, fault) {
                (Some(alarm), _) => alarm.clone(),
                (None, Some(fault)) => not_there(fault),
                (None, None) => "its agent has not reported yet".to_owned(),
            }
        }
        InstanceClass::Unknown => {
            let known = format!(
                "nothing fresh is known of it (last word {:.0} s ago)",
                judgement.age.as_secs_f64()
            );
            alarm.map_or(known.clone(), |alarm| format!("{known}; {alarm}"))
        }
        InstanceClass::Unmanaged => "its agent is gone; its workload answers".to_owned(),
        InstanceClass::Lost => "it is lost".to_owned(),
        InstanceClass::Leaving => "it leaves".to_owned(),
    }
}

/// The first green that shows that the image does not do what it should, and how. A workload that
/// only begins its work has until its deadline.
pub(crate) fn broken(pass: &Pass<'_>) -> Option<String> {
    green(pass).iter().find_map(|id| {
        let judgement = pass.judged(id);
        let gone = pass.instance(id).is_none_or(|green| green.leaving());
        if gone {
            return Some(format!("{id} was ordered away"));
        }
        (judgement.failing() && !begins(pass, id, judgement))
            .then(|| format!("{id}: {}", why_not_healthy(pass, id)))
    })
}

/// Whether a workload that runs only while active was told to, and may still take its time.
fn begins(pass: &Pass<'_>, id: &InstanceId, judgement: Judgement) -> bool {
    if judgement.class == InstanceClass::Lost {
        return false;
    }
    let deadline = pass.state().spec.replace.healthy_deadline.0;
    pass.instance(id).is_some_and(|green| {
        green.build.work == Work::OnActive
            && green.catalogue < calvin_model::CatalogueRole::Entered
            && !green.wanted_since.after(deadline).reached(pass.now)
    })
}
