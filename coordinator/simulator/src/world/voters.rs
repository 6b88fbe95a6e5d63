//! Members of a quorum: who votes, who leads, and what each knows of it. They talk to each other
//! whatever the way to the coordinator is like.

use std::time::Duration;

use calvin_lifecycle::{Input, QuorumOutcome};
use calvin_model::{QuorumReport, WorkloadState};
use calvin_planner::sums::majority;

use super::World;
use crate::{event::MachineNumber, machine::Machine};

/// How long a member takes to have all that the others have agreed on; it votes from then on.
const CATCHES_UP: Duration = Duration::from_secs(3);

/// Whether a member has all that the others have.
fn caught_up(machine: &Machine, now: Duration) -> bool {
    let running = machine.workload == WorkloadState::Running;
    running && now >= machine.running_since + CATCHES_UP
}

impl World {
    /// Whether too few of a quorum's members would be left, if this one died: then nobody could change
    /// who votes, and no coordinator could help.
    pub(super) fn would_lose_quorum(&self, number: MachineNumber) -> bool {
        let dying = self.machine(number);
        if dying.spec.quorum_stale_after.is_none() {
            return false;
        }
        let members = self.by_instance.values().filter(|other| {
            let one = self.machine(**other);
            one.tag.fleet == dying.tag.fleet && one.joined
        });
        let members: Vec<&MachineNumber> = members.collect();
        let left = members.iter().filter(|other| {
            let one = self.machine(***other);
            ***other != number && !one.dead && caught_up(one, self.now)
        });
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        u32::try_from(left.count()).unwrap_or(u32::MAX) < majority(count)
    }

    /// A member's agent runs the command that says what it knows of its voters.
    pub(super) fn ask_for_voters(&mut self, number: MachineNumber) {
        let now = self.now;
        let machine = self.machine(number);
        if machine.spec.quorum_stale_after.is_none() {
            return;
        }
        if !machine.answers(now) {
            let trouble = "its server does not answer".to_owned();
            self.feed(number, Input::Quorum(QuorumOutcome::Failed(trouble)));
            return;
        }
        if caught_up(machine, now) {
            self.machine_mut(number).joined = true;
        }
        let machine = self.machine(number);
        let fleet = &machine.tag.fleet;
        let members = self.machines.iter().enumerate();
        let voters: Vec<usize> = members
            .filter(|(_, one)| one.tag.fleet == *fleet && one.answers(now) && caught_up(one, now))
            .map(|(place, _)| place)
            .collect();
        // One that died is a member until its machine is gone.
        let members = self.by_instance.values().filter(|number| {
            let one = self.machine(**number);
            one.tag.fleet == *fleet && one.joined
        });
        let number_of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let alive = number_of(voters.len());
        let needed = majority(number_of(members.count()).max(alive));
        let first = voters.first() == Some(&number.0);
        let report = QuorumReport {
            voters: alive,
            needed,
            // Without enough of them nobody is elected.
            leader: first && alive >= needed,
            caught_up: caught_up(machine, now),
            age: Duration::ZERO,
        };
        self.feed(number, Input::Quorum(QuorumOutcome::Said(report)));
    }
}
