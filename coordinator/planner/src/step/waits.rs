//! What each instance waits for, since when and until when, and on what that rests. Decides
//! nothing: it says again, of one instance, what the steps before it went by.

use std::{collections::BTreeSet, time::Duration};

use calvin_model::{HumanDuration, InstanceId, fleet::OnDrainTimeout};

use super::repair::healthy_by;
use crate::{
    observed::{InstanceObserved, MachineState, SessionObserved},
    pass::Pass,
    report::{InstanceClass, RestsOn, Waiting},
    state::{Instance, Life},
};

/// The observations that a judgement of this class rests on.
pub(super) fn rests_on(seen: Option<&InstanceObserved>, class: InstanceClass) -> RestsOn {
    let Some(seen) = seen else {
        return RestsOn::default();
    };
    let agent = seen.agent.as_ref().map(|agent| agent.age);
    let list = seen.machine.map(|machine| machine.age);
    let probe = seen.probe.map(|probe| probe.age);
    match class {
        // A fresh report says all: nothing else is asked.
        InstanceClass::Healthy | InstanceClass::Unhealthy => RestsOn {
            agent,
            ..RestsOn::default()
        },
        InstanceClass::Starting | InstanceClass::Leaving => RestsOn {
            agent,
            list,
            probe: None,
        },
        InstanceClass::Unknown | InstanceClass::Unmanaged | InstanceClass::Lost => {
            RestsOn { agent, list, probe }
        }
    }
}

/// How long it has been so already, as far as can be told.
pub(super) fn since(
    pass: &Pass<'_>,
    instance: &Instance,
    seen: Option<&InstanceObserved>,
    class: InstanceClass,
) -> Duration {
    let report = seen.and_then(|seen| seen.agent.as_ref());
    match class {
        InstanceClass::Healthy | InstanceClass::Unhealthy => report.map_or(Duration::ZERO, |one| {
            one.report.health_for.saturating_add(one.age)
        }),
        InstanceClass::Starting => pass.now.since(instance.created),
        InstanceClass::Leaving => pass.now.since(instance.since),
        InstanceClass::Unknown | InstanceClass::Unmanaged | InstanceClass::Lost => {
            match seen.map(|seen| seen.session) {
                Some(SessionObserved::Ended(ago)) => ago,
                Some(SessionObserved::Alive(_) | SessionObserved::Never) | None => {
                    report.map_or(Duration::ZERO, |one| one.age)
                }
            }
        }
    }
}

/// What it waits for; a healthy one that stays waits for nothing.
pub(super) fn waits(
    pass: &Pass<'_>,
    id: &InstanceId,
    class: InstanceClass,
    idle: &BTreeSet<InstanceId>,
) -> Option<Waiting> {
    let instance = pass.instance(id)?;
    let state = pass.state();
    let (what, since, until) = match (&instance.life, class) {
        (Life::Retiring(basis), _) => {
            let what = format!("its machine to be gone ({basis})");
            (what, pass.now.since(instance.since), None)
        }
        (Life::Draining(_), _) => {
            let timeout = state.spec.drain.timeout.0;
            let then = match state.spec.drain.on_timeout {
                OnDrainTimeout::Force => "it is removed all the same",
                OnDrainTimeout::Hold => "a person is waited for",
                OnDrainTimeout::Back => "the rollout goes back, if it still can",
            };
            let left = instance.since.after(timeout).since(pass.now);
            let what = "its connections to end".to_owned();
            let since = pass.now.since(instance.since);
            (what, since, Some((left, then.to_owned())))
        }
        (Life::Making | Life::Up, InstanceClass::Starting) => {
            let what = first_word(pass.seen(id)).to_owned();
            let since = pass.now.since(instance.created);
            (what, since, given_up(pass, id, instance))
        }
        (Life::Making | Life::Up, InstanceClass::Unhealthy) => {
            let since = since(pass, instance, pass.seen(id), class);
            if instance.proven && instance.replace.is_some() {
                ("another to serve in its place".to_owned(), since, None)
            } else {
                let until = given_up(pass, id, instance);
                let until = until
                    .or_else(|| repaired(pass, instance, since).filter(|_| !idle.contains(id)));
                ("to be healthy".to_owned(), since, until)
            }
        }
        (Life::Making | Life::Up, InstanceClass::Unknown) => {
            let since = since(pass, instance, pass.seen(id), class);
            let silent = state.spec.repair.silent_after;
            let what = "a word from its agent, or one of its provider against it";
            (
                what.to_owned(),
                since,
                later(silent, since, "it may count as lost"),
            )
        }
        (Life::Making | Life::Up, InstanceClass::Unmanaged) => {
            let since = since(pass, instance, pass.seen(id), class);
            let after = state.spec.repair.unmanaged_after;
            let what = "its agent to come back; what it serves answers".to_owned();
            (
                what,
                since,
                later(after, since, "it is replaced, when its turn comes"),
            )
        }
        (Life::Making | Life::Up, InstanceClass::Lost) => {
            let since = since(pass, instance, pass.seen(id), class);
            ("another to take its place".to_owned(), since, None)
        }
        (Life::Making | Life::Up, InstanceClass::Healthy) => {
            let left = pass.backs_off(id)?;
            let since = pass.judged(id).healthy_for.unwrap_or_default();
            let what = "to stay healthy: it failed more than once lately".to_owned();
            (
                what,
                since,
                Some((left, "clients find it again".to_owned())),
            )
        }
        (Life::Making | Life::Up, InstanceClass::Leaving) => return None,
    };
    Some(Waiting { what, since, until })
}

/// What one that was never heard waits for, by what its provider says of its machine.
fn first_word(seen: Option<&InstanceObserved>) -> &'static str {
    match seen.and_then(|seen| seen.machine).map(|one| one.state) {
        None | Some(MachineState::Absent) => "its provider to make its machine",
        Some(MachineState::Creating) => "its provider to finish its machine",
        Some(MachineState::Running | MachineState::Stopped | MachineState::Deleting) => {
            "the first report of its agent"
        }
    }
}

/// When one that was never healthy is given up, and what becomes of it. A machine that its provider
/// finishes after that belongs to nobody: it is shown, and kept.
fn given_up(pass: &Pass<'_>, id: &InstanceId, instance: &Instance) -> Option<(Duration, String)> {
    if instance.proven {
        return None;
    }
    let state = pass.state();
    let green = state
        .running()
        .is_some_and(|rollout| rollout.sets.green.contains(id));
    if green {
        let deadline = state.spec.replace.healthy_deadline.0;
        let left = instance.created.after(deadline).left(pass.counted());
        let then = "it is given up, and made again or the rollout goes back";
        return Some((left, then.to_owned()));
    }
    let left = healthy_by(pass, instance).left(pass.now);
    Some((left, "it is given up and made again".to_owned()))
}

/// When one that serves, or is to, is replaced for its health. While a rollout runs its sets are the
/// rollout's to judge, and what a person protects stays.
fn repaired(pass: &Pass<'_>, instance: &Instance, since: Duration) -> Option<(Duration, String)> {
    let state = pass.state();
    if instance.protected.is_some() {
        return None;
    }
    let then = match state.running() {
        None => "it is replaced, when its turn comes",
        Some(_) => "it is replaced, when the rollout has ended",
    };
    later(state.spec.repair.repair_after, since, then)
}

/// The rest of a time that has begun `since` ago; none once it is over, because other things than
/// time are waited for then.
fn later(after: HumanDuration, since: Duration, then: &str) -> Option<(Duration, String)> {
    let left = after.0.checked_sub(since)?;
    (!left.is_zero()).then(|| (left, then.to_owned()))
}
