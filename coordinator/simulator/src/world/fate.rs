//! What goes wrong by chance, looked at once a second.

use std::time::Duration;

use calvin_model::{InstanceId, Role};

use super::World;
use crate::{
    event::{Event, MachineNumber},
    scenario::{Fault, Side},
};

/// Time from one look of fate to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// Each fault of this kind happens in one second of so many.
const RARITY: u32 = 12;
/// How long an agent that crashed stays away, in milliseconds.
const AGENT_AWAY_MS: (u64, u64) = (200, 3_000);
/// How long a cut lasts, in milliseconds: shorter than what makes a machine lost.
const CUT_MS: (u64, u64) = (500, 12_000);
/// How long the store fails, in milliseconds.
const STORE_FAILS_MS: (u64, u64) = (200, 6_000);

impl World {
    pub(super) fn fate(&mut self) {
        let now = self.now();
        if now >= self.faults_until {
            self.faults.clear();
            self.network.calm();
            return;
        }
        self.queue.put(now + INTERVAL, Event::Fate);
        if self.happens(Fault::AgentCrash)
            && let Some(number) = self.any_machine()
        {
            let instance = self.machine(number).instance.clone();
            self.note(format_args!("the agent of {instance} crashes"));
            self.stop_agent(number);
            let at = self.soon(AGENT_AWAY_MS.0, AGENT_AWAY_MS.1);
            self.queue.put(at, Event::AgentStarts(number));
        }
        if self.happens(Fault::Cut)
            && let Some(number) = self.any_machine()
        {
            let instance = self.machine(number).instance.clone();
            self.note(format_args!("{instance} is cut off"));
            self.network.cut(&instance);
            self.lose_session(&instance);
            let at = self.soon(CUT_MS.0, CUT_MS.1);
            self.queue.put(at, Event::Heal(instance));
        }
        if self.happens(Fault::CoordinatorCrash) {
            self.killed = true;
            self.poked = true;
        }
        if self.happens(Fault::StoreFailure) && self.store.failing.is_none() {
            let side = if self.random.bool() {
                Side::Before
            } else {
                Side::After
            };
            self.note(format_args!("the store fails"));
            self.store.failing = Some(side);
            let at = self.soon(STORE_FAILS_MS.0, STORE_FAILS_MS.1);
            self.queue.put(at, Event::StoreWorks);
        }
    }

    fn happens(&mut self, fault: Fault) -> bool {
        self.has(fault) && self.random.u32(..RARITY) == 0
    }

    fn any_machine(&mut self) -> Option<MachineNumber> {
        let count = self.by_instance.len();
        if count == 0 {
            return None;
        }
        let place = self.random.usize(..count);
        self.by_instance.values().nth(place).copied()
    }

    /// The machine of an active instance is lost with all on it. Gives the instance.
    pub(crate) fn kill_machine(&mut self) -> Option<InstanceId> {
        let active = |number: &&MachineNumber| self.machine(**number).role() == Some(Role::Active);
        let number = self.by_instance.values().find(active).copied()?;
        let instance = self.machine(number).instance.clone();
        self.note(format_args!("the machine of {instance} is lost"));
        self.machine_gone(number);
        Some(instance)
    }

    /// Every agent is gone for so long.
    pub(crate) fn agents_away(&mut self, away: Duration) {
        let until = self.now() + away;
        self.note(format_args!("every agent is gone for {away:?}"));
        let numbers: Vec<MachineNumber> = self.by_instance.values().copied().collect();
        for number in numbers {
            self.machine_mut(number).away_until = until;
            self.stop_agent(number);
            self.queue.put(until, Event::AgentStarts(number));
        }
    }
}
