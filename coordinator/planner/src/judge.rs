//! What one instance is judged to be, from what its sources say. Pure, and blind to the rollout:
//! the same observations give the same judgement in every phase.
//!
//! Unknown is a judgement of its own. It stops every count and never ends anything; only sources
//! that fail for different reasons can together say that an instance is lost.

#[cfg(test)]
mod tests;

use std::time::Duration;

use calvin_model::{Health, Mutant};

use crate::{
    moment::Moment,
    observed::{InstanceObserved, MachineState, Observed, SessionObserved},
    plan::DeleteBasis,
    report::InstanceClass,
    state::{Instance, Life},
    sums::witnesses_needed,
};

/// An observation that is older than this many report intervals is unknown.
pub const FRESH_INTERVALS: u32 = 3;
/// A probe's result counts for at least this long, however often agents report: the coordinator
/// probes every second or two, and two probes may be lost.
pub const PROBE_FRESH: Duration = Duration::from_secs(6);
/// A provider's complete list counts for this long: three lists of a slow provider, which is asked
/// every 10 s.
pub const PROVIDER_FRESH: Duration = Duration::from_secs(30);
/// What gossip says counts for this long: three times the ten seconds for which a catalogue may be
/// unconfirmed before it holds all decisions.
pub const GOSSIP_FRESH: Duration = Duration::from_secs(30);

/// Within this time an agent whose session ended comes back, if it can: it tries again at least
/// every 10 s, and a try that hangs ends after less than 5. Meanwhile its machine resolves names as
/// it heard them last.
pub const RETURNS_WITHIN: Duration = Duration::from_secs(15);

/// How many instances, over all fleets, answer on the coordinator's path to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answering {
    /// Instances that were up.
    pub all: usize,
    /// Of these, those whose session lives.
    pub alive: usize,
    /// Of the others, those that are likely to come back, and serve older names until then.
    pub returning: usize,
    /// Whether the fleet's provider lists what is there.
    pub list: ListTrust,
    /// Whether the coordinator has reasons to distrust its own eyes.
    pub distrust: Distrust,
}

/// Whether a provider's list is believed where it lacks a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListTrust {
    /// It is.
    #[default]
    Believed,
    /// It lacks most of the machines that were up, all at once. Rather than that they all went, the
    /// list is short: a provider that answers for another account, or before it has read its disk.
    Doubted {
        /// How many it lacks.
        lacks: usize,
        /// Of how many.
        of: usize,
    },
}

/// Whether the coordinator has reasons to distrust its own eyes, over all fleets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distrust {
    /// It has none.
    #[default]
    None,
    /// Most sessions ended within seconds of each other, and have not come back: rather the
    /// coordinator's network than the machines.
    SessionsEnded {
        /// How many ended together.
        ended: usize,
        /// Of how many that were heard in this run.
        of: usize,
    },
    /// Most agents say one thing and the coordinator's own probes another.
    ProbesDisagree {
        /// How many disagree in the same way.
        disagree: usize,
        /// Of how many that are fresh from both.
        of: usize,
    },
    /// Most agents say one thing and the catalogue's own checks another: it is stale, or it is not read
    /// from where clients read it.
    CatalogueDisagrees {
        /// How many disagree in the same way.
        disagree: usize,
        /// Of how many that are fresh from both.
        of: usize,
    },
}

/// On what an instance counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It does not.
    None,
    /// Its path is silent, and its provider says that it is gone, or gossip that it is not alive.
    TwoSources,
    /// Only silence, for longer than `silent_after`, while most others answer.
    Silence,
    /// Only silence, for longer than `silent_after`, but most others are silent too.
    SilenceWithoutWitnesses,
}

/// What an instance is judged to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// In one word. `Leaving` is not a judgement: it is what the planner decided.
    pub class: InstanceClass,
    /// How long it has been healthy without a break, by its agent's own clock; only when that is
    /// fresh and said of the newest role.
    pub healthy_for: Option<Duration>,
    /// How long it has been unhealthy, by its agent's own clock; only when that is fresh.
    pub unhealthy_for: Option<Duration>,
    /// Its agent has applied the newest wanted state.
    pub in_role: bool,
    /// Whether it counts as lost.
    pub loss: Loss,
    /// Its agent's session lives.
    pub connected: bool,
    /// How long its session has been gone, as far as this run has looked; zero while it lives.
    pub silent_for: Duration,
    /// Age of the newest word of any source that the judgement rests on.
    pub age: Duration,
}

impl Judgement {
    /// Of an instance of which nothing was ever seen.
    pub const NOTHING: Self = Self {
        class: InstanceClass::Starting,
        healthy_for: None,
        unhealthy_for: None,
        in_role: false,
        loss: Loss::None,
        connected: false,
        silent_for: Duration::ZERO,
        age: Duration::ZERO,
    };

    /// Freshly healthy.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.class == InstanceClass::Healthy
    }

    /// Freshly healthy in the newest role.
    #[must_use]
    pub fn healthy_in_role(&self) -> bool {
        self.healthy_for.is_some()
    }

    /// Answers clients, as far as can be seen: healthy, or only its agent is gone.
    #[must_use]
    pub fn serves(&self) -> bool {
        match self.class {
            InstanceClass::Healthy | InstanceClass::Unmanaged => true,
            InstanceClass::Starting
            | InstanceClass::Unhealthy
            | InstanceClass::Unknown
            | InstanceClass::Lost
            | InstanceClass::Leaving => false,
        }
    }

    /// Is known not to answer clients: freshly unhealthy or lost. Unknown is not.
    #[must_use]
    pub fn failing(&self) -> bool {
        match self.class {
            InstanceClass::Unhealthy | InstanceClass::Lost => true,
            InstanceClass::Healthy
            | InstanceClass::Unmanaged
            | InstanceClass::Starting
            | InstanceClass::Unknown
            | InstanceClass::Leaving => false,
        }
    }
}

/// Whether an instance that is up has no session, and is likely to come back to one.
#[must_use]
pub fn returns(seen: &InstanceObserved, watching_for: Duration) -> bool {
    let silent_for = match seen.session {
        SessionObserved::Alive(_) => return false,
        SessionObserved::Ended(ago) => ago.min(watching_for),
        SessionObserved::Never => watching_for,
    };
    let runs = seen.machine.is_none_or(|machine| match machine.state {
        MachineState::Creating | MachineState::Running => true,
        MachineState::Stopped | MachineState::Deleting | MachineState::Absent => false,
    });
    runs && silent_for < RETURNS_WITHIN
}

/// Judges one instance, at this moment on the decision clock.
#[must_use]
pub fn judge(
    instance: &Instance,
    silent_after: Duration,
    seen: Option<&InstanceObserved>,
    observed: &Observed,
    answering: Answering,
    now: Moment,
) -> Judgement {
    let stale_after = observed.report_interval * FRESH_INTERVALS;
    let nothing = InstanceObserved::default();
    let seen = seen.unwrap_or(&nothing);
    let (connected, silent_for) = match seen.session {
        SessionObserved::Alive(_) => (true, Duration::ZERO),
        // While the coordinator itself stood still, nobody could have spoken to it.
        SessionObserved::Ended(ago) => (false, ago.min(observed.watching_for)),
        SessionObserved::Never => (false, observed.watching_for),
    };
    let up = instance.life != Life::Making;
    let gone = silent_for > stale_after;
    let probe = probe(seen, stale_after);
    let loss = if up && gone {
        // Before its record nobody had asked for its machine, so an older list rightly has none.
        let recorded_for = now.since(instance.created);
        let machine = seen.machine.filter(|machine| {
            let speaks = machine.state != MachineState::Absent || machine.age < recorded_for;
            speaks && machine.age <= PROVIDER_FRESH
        });
        let gossip = seen.gossip.filter(|gossip| gossip.age <= GOSSIP_FRESH);
        let said = Said {
            machine: machine.map(|machine| machine.state),
            alive: gossip.map(|gossip| gossip.alive),
            probe,
        };
        loss(instance, said, silent_for, silent_after, answering, now)
    } else {
        Loss::None
    };
    let mut judgement = Judgement {
        class: InstanceClass::Unknown,
        loss,
        connected,
        silent_for,
        ..Judgement::NOTHING
    };
    if let Some(agent) = &seen.agent {
        judgement.in_role = agent.report.generation_applied >= instance.wanted.generation;
        judgement.age = agent.age;
    }
    judgement.class = match (&seen.agent, loss) {
        (_, Loss::TwoSources) => InstanceClass::Lost,
        (Some(agent), _) if agent.age <= stale_after || Mutant::CountUnknownAsHealthy.lives() => {
            match agent.report.health {
                Health::Healthy => InstanceClass::Healthy,
                Health::Unhealthy => InstanceClass::Unhealthy,
                Health::Unknown => InstanceClass::Unknown,
            }
        }
        (_, _) if up && gone && probe == Some(true) => InstanceClass::Unmanaged,
        (None, _) if !up => InstanceClass::Starting,
        (_, _) => InstanceClass::Unknown,
    };
    if judgement.class == InstanceClass::Healthy
        && judgement.in_role
        && let Some(agent) = &seen.agent
    {
        judgement.healthy_for = Some(agent.report.health_for + agent.age);
    }
    if judgement.class == InstanceClass::Unhealthy
        && let Some(agent) = &seen.agent
    {
        judgement.unhealthy_for = Some(agent.report.health_for + agent.age);
    }
    judgement
}

/// Whether a person ordered an instance replaced when it was silent already: who says so then has looked
/// at it. An order from before is about one that lived.
pub(crate) fn ordered_in_silence(instance: &Instance, silent_for: Duration, now: Moment) -> bool {
    let ordered = instance.replace == Some(DeleteBasis::Ordered);
    let since = instance.ordered.map(|at| now.since(at));
    ordered && since.is_some_and(|since| since <= silent_for)
}

/// What the coordinator's own probe says, while that is fresh.
fn probe(seen: &InstanceObserved, stale_after: Duration) -> Option<bool> {
    let probe = seen.probe?;
    (probe.age <= stale_after.max(PROBE_FRESH)).then_some(probe.passing)
}

/// What every source but the agent says of an instance, as far as that is fresh.
struct Said {
    machine: Option<MachineState>,
    /// By gossip.
    alive: Option<bool>,
    probe: Option<bool>,
}

/// Whether an instance that was up, and whose session has been gone for a while, is lost.
fn loss(
    instance: &Instance,
    said: Said,
    silent_for: Duration,
    silent_after: Duration,
    answering: Answering,
    now: Moment,
) -> Loss {
    let Said {
        machine,
        alive,
        probe,
    } = said;
    if probe == Some(true) {
        return Loss::None;
    }
    // A person's order is no word that the work of an exclusive fleet has stopped.
    let ordered = !instance.at_work && ordered_in_silence(instance, silent_for, now);
    let not_reached = !instance.build.services || probe == Some(false);
    let (gone_by_provider, path_down) = match (machine, answering.list) {
        // A machine that is not there has no address to probe, so its missing probe says no less
        // than a failing one would.
        (Some(MachineState::Absent), ListTrust::Believed) => (true, true),
        (Some(MachineState::Absent), ListTrust::Doubted { .. }) => (false, not_reached || ordered),
        (Some(MachineState::Stopped), _) => (true, not_reached),
        (
            Some(MachineState::Creating | MachineState::Running | MachineState::Deleting) | None,
            _,
        ) => (Mutant::CountOneSourceTwice.lives(), not_reached),
    };
    if !path_down {
        return Loss::None;
    }
    if gone_by_provider || alive == Some(false) {
        return Loss::TwoSources;
    }
    if silent_for <= silent_after {
        return Loss::None;
    }
    // A person who says that it is to be replaced is the second source for so long a silence.
    if ordered && machine == Some(MachineState::Absent) {
        return Loss::TwoSources;
    }
    // The instance itself is one of `all` and none of `alive`.
    let witnessed = answering.alive >= witnesses_needed(answering.all.saturating_sub(1));
    if witnessed || Mutant::NeedNoWitnesses.lives() {
        Loss::Silence
    } else {
        Loss::SilenceWithoutWitnesses
    }
}
