//! What persons hold: freezes, closed windows, protected instances and vetoed images, as the steps
//! ask for them.

use calvin_model::{FleetName, InstanceId, fleet::Gate, image::ImageTag};

use super::Pass;
use crate::{
    environment::{Freeze, FreezeScope, Order},
    invariant::InvariantId,
    moment::Moment,
    people::Aim,
    plan::PlanInput,
    state::{Build, FleetState, Rollout},
};

/// Why something does not begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldBy {
    /// The rule.
    pub(crate) rule: InvariantId,
    /// Who, until when and why.
    pub(crate) fact: String,
    /// When it ends by itself, if that is known.
    pub(crate) ends: Option<Moment>,
}

/// The strongest freeze that holds the fleet's rollout now. One that cannot wait passes all of them.
pub(crate) fn freeze_of<'a>(input: &PlanInput<'a>, state: &'a FleetState) -> Option<&'a Freeze> {
    let emergency = |rollout: &Rollout| rollout.emergency.is_some();
    if state.running().is_some_and(emergency) {
        return None;
    }
    freeze_of_all(input, state)
}

/// The strongest freeze that holds a fleet now, whatever its rollout may pass: repairs, the count
/// and what else is no part of that rollout wait for its end.
pub(crate) fn freeze_of_all<'a>(
    input: &PlanInput<'a>,
    state: &'a FleetState,
) -> Option<&'a Freeze> {
    let freezes = [state.freeze.as_ref(), input.environment.freeze.as_ref()];
    let holding = freezes.into_iter().flatten();
    holding
        .filter(|freeze| freeze.holds(input.wall_ms))
        .max_by_key(|freeze| (freeze.scope, freeze.until_wall_ms.unwrap_or(u64::MAX)))
}

/// Whether a fleet's windows are closed now, or not known to be open.
pub(crate) fn window_closed(input: &PlanInput<'_>, fleet: &FleetName, state: &FleetState) -> bool {
    let seen = input.observed.windows.get(fleet);
    !state.spec.replace.windows.is_empty() && !seen.is_some_and(|window| window.open)
}

impl Pass<'_> {
    /// The moment up to which deadlines of the rollout have run: now, unless they stand still.
    pub(crate) fn counted(&self) -> Moment {
        self.state()
            .standing
            .map_or(self.now, |standing| standing.since)
    }

    /// How much is frozen of the fleet's rollout now, or of the fleet where none runs.
    pub(crate) fn frozen(&self) -> Option<FreezeScope> {
        freeze_of(&self.input, self.state()).map(|freeze| freeze.scope)
    }

    /// Whether the rollout may make and remove nothing at all now. Says so, if it is.
    pub(crate) fn holds_all(&mut self, what: &str) -> bool {
        let Some(held) = self.frozen_by(FreezeScope::All) else {
            return false;
        };
        self.say_held(what, &held);
        true
    }

    /// The same for what is no part of the rollout: what that may pass holds this all the same.
    pub(crate) fn holds_others(&mut self, what: &str) -> bool {
        let Some(held) = self.frozen_beside(FreezeScope::All) else {
            return false;
        };
        self.say_held(what, &held);
        true
    }

    /// Of these, the ones that no freeze of everything holds. Says so, if it holds some.
    pub(crate) fn not_frozen<T>(
        &mut self,
        all: Vec<(InstanceId, T)>,
        what: &str,
    ) -> Vec<(InstanceId, T)> {
        let state = self.state();
        let (own, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(id, _)| state.of_emergency(id));
        if others.is_empty() || self.holds_others(what) {
            return own;
        }
        own.into_iter().chain(others).collect()
    }

    /// The freeze that holds as much as `scope`, at least, of what is no part of the rollout.
    pub(crate) fn frozen_beside(&self, scope: FreezeScope) -> Option<HeldBy> {
        let freeze = freeze_of_all(&self.input, self.state())?;
        (freeze.scope >= scope).then(|| self.frozen_fact(freeze))
    }

    /// The freeze that holds as much as `scope`, at least, of the rollout.
    pub(crate) fn frozen_by(&self, scope: FreezeScope) -> Option<HeldBy> {
        let freeze = freeze_of(&self.input, self.state())?;
        (freeze.scope >= scope).then(|| self.frozen_fact(freeze))
    }

    fn frozen_fact(&self, freeze: &Freeze) -> HeldBy {
        let until = freeze.until_wall_ms;
        let left = until.map(|until| until.saturating_sub(self.input.wall_ms));
        HeldBy {
            rule: InvariantId::FrozenStartsNothing,
            fact: freeze.told(),
            ends: left.map(|left| self.now.after(std::time::Duration::from_millis(left))),
        }
    }

    /// Why a rollout, a wave or a switch does not begin now, if something holds it.
    pub(crate) fn held(&self, aim: Aim, emergency: Option<&Order>) -> Option<HeldBy> {
        if emergency.is_some() {
            return None;
        }
        let scope = match aim {
            Aim::Forward => FreezeScope::New,
            Aim::Back => FreezeScope::All,
        };
        if let Some(held) = self.frozen_by(scope) {
            return Some(held);
        }
        let closed = window_closed(&self.input, self.fleet, self.state());
        if aim == Aim::Back || !closed {
            return None;
        }
        let windows = &self.state().spec.replace.windows;
        let windows: Vec<String> = windows.iter().map(ToString::to_string).collect();
        let seen = self.observed.windows.get(self.fleet);
        let opens = seen.and_then(|window| window.changes_in);
        let mut fact = format!("its windows are closed: {}", windows.join(", "));
        if opens.is_none() {
            fact.push_str("; when one opens is not known");
        }
        Some(HeldBy {
            rule: InvariantId::ClosedWindowStartsNothing,
            fact,
            ends: opens.map(|opens| self.now.after(opens)),
        })
    }

    /// The same for the running rollout's next wave or switch.
    pub(crate) fn running_held(&self) -> Option<HeldBy> {
        let rollout = self.running()?;
        self.held(rollout.aim, rollout.emergency.as_ref())
    }

    /// Says what is held, and until when.
    pub(crate) fn say_held(&mut self, what: &str, held: &HeldBy) {
        self.hold(held.rule, what.to_owned(), held.fact.clone());
        if let Some(ends) = held.ends {
            let wait = format!("{what}: {}", held.fact);
            let since = self.state().standing.map_or(self.now, |it| it.since);
            let since = self.now.since(since);
            self.wait(wait, since, Some((ends, "it goes on")));
        }
    }

    /// How many more persons must approve the running rollout at a gate.
    pub(crate) fn approvals_missing(&self, gate: Gate) -> u32 {
        self.running()
            .map_or(0, |rollout| rollout.gates.missing(gate, &rollout.approvals))
    }

    /// Who vetoed an image.
    pub(crate) fn vetoed(&self, image: &ImageTag) -> Option<&Order> {
        self.input.environment.vetoes.get(image)
    }

    /// What may be made where `build` is wanted: itself, or else what served last and is not
    /// vetoed. Says so where nothing may.
    pub(crate) fn may_make(&mut self, build: &Build) -> Option<Build> {
        let Some(veto) = self.vetoed(&build.image.tag) else {
            return Some(build.clone());
        };
        let fact = format!("vetoed by {}: {}", veto.by, veto.reason);
        let instead = self.last_good().cloned();
        let what = match &instead {
            Some(instead) => format!(
                "{} is made instead of {}",
                instead.image.tag, build.image.tag
            ),
            None => format!("nothing is made from {}", build.image.tag),
        };
        self.hold(InvariantId::VetoedIsNeverMade, what, fact);
        instead
    }

    /// What served last, or serves, and is not vetoed.
    fn last_good(&self) -> Option<&Build> {
        let state = self.state();
        let from = state.running().and_then(|rollout| rollout.from.as_ref());
        let candidates = [from, state.serving.as_ref(), state.previous.as_ref()];
        let mut candidates = candidates.into_iter().flatten();
        candidates.find(|build| self.vetoed(&build.image.tag).is_none())
    }

    /// Who protects an instance.
    pub(crate) fn protected(&self, id: &InstanceId) -> Option<&Order> {
        self.instance(id)?.protected.as_ref()
    }

    /// Says that an instance is not touched, if it is protected.
    pub(crate) fn keeps_hands_off(&mut self, id: &InstanceId, what: &str) -> bool {
        let Some(order) = self.protected(id) else {
            return false;
        };
        let fact = format!("protected by {}: {}", order.by, order.reason);
        let what = format!("{id} {what}");
        self.hold(InvariantId::ProtectedNeverTouched, what, fact);
        true
    }
}
