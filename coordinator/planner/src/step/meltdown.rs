//! The guard of repairs. When so many of a fleet fail within a window that the cause is probably
//! not theirs, or when the coordinator has reasons to distrust its own eyes, nothing is replaced or
//! removed for that: it is held, and said. What a person orders, what a rollout does and the way
//! back go on.

use std::collections::BTreeSet;

use calvin_model::InstanceId;

use crate::{
    invariant::InvariantId,
    judge::{Distrust, ListTrust, Loss},
    moment::Moment,
    observed::SessionObserved,
    pass::Pass,
    plan::EventKind,
    state::{Life, Purpose},
    sums::melts,
};

/// Why nothing is replaced for loss or ill health now.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) rule: InvariantId,
    pub(crate) fact: String,
}

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    forget(pass);
    forget_the_replaced(pass);
    for (id, at) in news(pass) {
        note(pass, &id, at);
    }
    judge(pass);
    pass.guard = guard(pass);
}

/// Failures that the window has left behind, and a person's word that has ended.
fn forget(pass: &mut Pass<'_>) {
    let (now, window) = (pass.now, pass.state().spec.repair.meltdown.window.0);
    let repairs = &pass.state().repairs;
    let old = |at: &Moment| at.after(window).reached(now);
    if repairs.failures.values().any(old) {
        pass.change().repairs.failures.retain(|_, at| !old(at));
    }
    let ended = pass.state().repairs.guards_off_until;
    if ended.is_some_and(|until| until.reached(now)) {
        pass.change().repairs.guards_off_until = None;
    }
}

/// What failed in places that are no more: of what a rollout replaced, or the fleet has no use for.
/// So that each place of a fleet counts once, and a small one never has more failures than places.
fn forget_the_replaced(pass: &mut Pass<'_>) {
    let state = pass.state();
    if state.running().is_some() || state.repairs.failures.is_empty() {
        return;
    }
    let mended: BTreeSet<&InstanceId> = state
        .instances
        .values()
        .filter_map(|instance| match &instance.purpose {
            Purpose::Repair(old) => Some(old),
            Purpose::Rollout(_) | Purpose::Scale => None,
        })
        .collect();
    let failures = state.repairs.failures.keys();
    let gone: BTreeSet<InstanceId> = failures
        .filter(|id| {
            let stays = state.instances.contains_key(*id) || state.owed.contains_key(*id);
            !stays && !mended.contains(id)
        })
        .cloned()
        .collect();
    if !gone.is_empty() {
        let failures = &mut pass.change().repairs.failures;
        failures.retain(|id, _| !gone.contains(id));
    }
}

/// What has begun to fail since the last look, with the moment. What an earlier run knew to fail,
/// and what this one has not heard of yet, is no news.
fn news(pass: &Pass<'_>) -> Vec<(InstanceId, Moment)> {
    let (state, now) = (pass.state(), pass.now);
    let mut idle = state.not_to_serve();
    // A rollout that runs judges its greens itself, and goes back.
    let running = state.running();
    idle.extend(running.iter().flat_map(|it| it.sets.green.iter().cloned()));
    let silent_after = state.spec.repair.silent_after.0;
    let window = state.spec.repair.meltdown.window.0;
    let mut news = Vec::new();
    for (id, instance) in &state.instances {
        if instance.life != Life::Up || idle.contains(id) || pass.zone_lost(instance) {
            continue;
        }
        let judgement = pass.judged(id);
        let silent = judgement.loss == Loss::Silence && heard_once(pass, id);
        if judgement.failing() && !state.failed.contains(id) {
            news.push((id.clone(), now));
        } else if silent && !state.repairs.failures.contains_key(id) {
            let ago = judgement.silent_for.saturating_sub(silent_after);
            let at = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            let at = Moment {
                ms: now.ms.saturating_sub(at),
            };
            if !at.after(window).reached(now) {
                news.push((id.clone(), at));
            }
        }
    }
    news
}

/// Whether this run saw its session end.
fn heard_once(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let session = pass.seen(id).map(|seen| seen.session);
    match session {
        Some(SessionObserved::Ended(_)) => true,
        Some(SessionObserved::Never | SessionObserved::Alive(_)) | None => false,
    }
}

/// Notes a failure. One in the place of another moves that one's line on, and has it for both.
pub(super) fn note(pass: &mut Pass<'_>, id: &InstanceId, at: Moment) {
    let mut failed = pass.state().repairs.failures.keys();
    let replaces = Purpose::Repair(id.clone());
    if failed.any(|new| {
        pass.instance(new)
            .is_some_and(|one| one.purpose == replaces)
    }) {
        return;
    }
    let place = match pass.instance(id).map(|instance| &instance.purpose) {
        Some(Purpose::Repair(old)) => Some(old.clone()),
        Some(Purpose::Rollout(_) | Purpose::Scale) | None => None,
    };
    let failures = &mut pass.change().repairs.failures;
    if let Some(old) = place {
        failures.remove(&old);
    }
    failures.insert(id.clone(), at);
}

/// Says when too many failed at once, and when that is over.
fn judge(pass: &mut Pass<'_>) {
    let state = pass.state();
    let (policy, count) = (state.spec.repair.meltdown, state.spec.count);
    let repairs = &state.repairs;
    let failed = repairs.failures.len();
    let of = usize::try_from(count).unwrap_or(usize::MAX);
    let too_many = melts(failed, of, policy.count, policy.percent);
    let off = repairs.guards_off(pass.now);
    match repairs.melted {
        None if too_many && !off => {
            let text = format!(
                "meltdown: {failed} of {count} failed within {}: nothing is replaced for that now",
                policy.window
            );
            pass.change().repairs.melted = Some(pass.now);
            pass.event(None, EventKind::Hold, text);
        }
        Some(_) if failed == 0 || off || (!too_many && all_healthy(pass)) => {
            let text = if off {
                "the meltdown is over: a person answers for repairs".to_owned()
            } else {
                format!("the meltdown is over: {failed} of {count} failed lately")
            };
            pass.change().repairs.melted = None;
            pass.event(None, EventKind::Hold, text);
        }
        None | Some(_) => {}
    }
}

fn all_healthy(pass: &Pass<'_>) -> bool {
    let idle = pass.state().not_to_serve();
    let mut instances = pass.state().instances.iter();
    instances.all(|(id, one)| one.leaving() || idle.contains(id) || pass.judged(id).healthy())
}

/// Which guard holds, if one does.
fn guard(pass: &Pass<'_>) -> Option<Guard> {
    let state = pass.state();
    if state.repairs.guards_off(pass.now) {
        return None;
    }
    if let Some(since) = state.repairs.melted {
        let fact = format!(
            "{} of {} failed within {}, held for {:.0} s: the cause is probably elsewhere",
            state.repairs.failures.len(),
            state.spec.count,
            state.spec.repair.meltdown.window,
            pass.now.since(since).as_secs_f64()
        );
        let rule = InvariantId::MeltdownHolds;
        return Some(Guard { rule, fact });
    }
    let distrust = match pass.distrust {
        Distrust::None => None,
        Distrust::SessionsEnded { ended, of } => Some(format!(
            "{ended} of {of} sessions ended within seconds of each other"
        )),
        Distrust::ProbesDisagree { disagree, of } => Some(format!(
            "the coordinator's own probes contradict {disagree} of {of} agents"
        )),
        Distrust::CatalogueDisagrees { disagree, of } => Some(format!(
            "the catalogue's own checks contradict {disagree} of {of} agents"
        )),
    };
    if let Some(what) = distrust {
        let fact = format!("{what}: the coordinator may not see what is there");
        let rule = InvariantId::DistrustHolds;
        return Some(Guard { rule, fact });
    }
    match pass.list {
        ListTrust::Believed => None,
        ListTrust::Doubted { lacks, of } => Some(Guard {
            rule: InvariantId::ShortListNeedsWitnesses,
            fact: format!(
                "{lacks} of {of} machines that are to be there are not in its provider's list"
            ),
        }),
    }
}

impl Pass<'_> {
    /// Whether a guard holds what would be done for loss or ill health; then that is said.
    pub(crate) fn guarded(&mut self, what: String) -> bool {
        let Some(Guard { rule, fact }) = self.guard.clone() else {
            return false;
        };
        self.hold(rule, what, fact);
        true
    }
}
