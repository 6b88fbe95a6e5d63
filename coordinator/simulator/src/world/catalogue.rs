//! Names on their way to the agents, and what must hold of each snapshot.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use calvin_engine::ports::{AgentLink as _, Probe as _};
use calvin_model::{
    CatalogueRole, FleetName, Health, NamesSnapshot, NamesVersion, Role, fleet::FleetKind,
};
use calvin_planner::judge::{FRESH_INTERVALS, PROBE_FRESH};
use calvin_proto::{convert::ToAgent, wire};

use super::World;
use crate::{
    agents::Session,
    check::Rule,
    desk::DeskNumber,
    event::{Event, MachineNumber, SessionNumber},
    network::Way,
};

impl World {
    /// A coordinator has published a snapshot.
    pub(super) fn names_published(&mut self, number: DeskNumber) {
        let snapshot = self
            .desks
            .get(&number)
            .and_then(|desk| desk.catalogue.snapshot.clone());
        let Some(snapshot) = snapshot else {
            return;
        };
        self.check_wire(&snapshot);
        if self.is_newest(number) {
            self.check_publication(number, &snapshot);
        }
        // After a restore the newest may have a smaller number than names that nobody has any more.
        let up = self.machines.iter().filter(|machine| machine.is_up());
        let known = up.filter_map(|machine| machine.names.as_ref().map(|names| names.version));
        let first = self.is_newest(number) && known.max() < Some(snapshot.version);
        if snapshot.version > self.served.version || first {
            self.served = snapshot;
            self.check_who_entered();
        }
        let sessions: Vec<Session> = match self.desks.get(&number) {
            Some(desk) => desk.link.sessions.values().copied().collect(),
            None => return,
        };
        for session in sessions {
            self.send_names(number, session);
        }
    }

    /// It passes the wire unchanged.
    fn check_wire(&mut self, snapshot: &NamesSnapshot) {
        let message = ToAgent::Names(snapshot.clone());
        let arrived = wire::ToAgent::try_from(&message).and_then(ToAgent::try_from);
        match arrived {
            Ok(arrived) if arrived == message => {}
            Ok(arrived) => {
                let text = format!("{arrived:?} arrived for {message:?}");
                self.broken(Rule::NothingOfOursIsRefused, text);
            }
            Err(error) => self.broken(Rule::NothingOfOursIsRefused, error.in_words()),
        }
    }

    /// Sends the newest names of a coordinator.
    pub(super) fn send_names(&mut self, number: DeskNumber, session: Session) {
        let names = self
            .desks
            .get(&number)
            .and_then(|desk| desk.catalogue.snapshot.clone());
        let Some(names) = names else {
            return;
        };
        let from = self.now.max(self.names_stale_until);
        let instance = &self.machines[session.machine.0].instance;
        let arrivals = self
            .network
            .arrivals(instance, Way::ToAgent, from, &mut self.random);
        for at in arrivals.into_iter().flatten() {
            let event = Event::Names(session.machine, session.number, Rc::clone(&names));
            self.queue.put(at, event);
        }
    }

    pub(super) fn names_arrive(
        &mut self,
        number: MachineNumber,
        session: SessionNumber,
        names: Rc<NamesSnapshot>,
    ) {
        let machine = self.machine_mut(number);
        if machine.session.is_none_or(|link| link.number != session) {
            return;
        }
        let newer = machine
            .names
            .as_ref()
            .is_none_or(|stored| stored.version < names.version);
        if newer {
            let version = names.version;
            machine.names = Some(names);
            self.feed(number, calvin_lifecycle::Input::Names(version));
        }
    }

    /// A snapshot that was lost on its way is sent again.
    pub(super) fn send_names_again(&mut self, number: DeskNumber) {
        let Some(desk) = self.desks.get(&number) else {
            return;
        };
        let Some(newest) = desk.catalogue.snapshot.as_ref().map(|names| names.version) else {
            return;
        };
        let stored = &desk.catalogue.stored;
        let behind = stored.iter().filter(|(_, stored)| **stored < Some(newest));
        let behind: Vec<Session> = behind
            .filter_map(|(instance, _)| desk.link.sessions.get(instance).copied())
            .collect();
        for session in behind {
            self.send_names(number, session);
        }
    }

    /// Names reach nobody for so long.
    pub(super) fn names_stale_for(&mut self, time: Duration) {
        self.names_stale_until = self.now + time;
        self.note(format_args!("names reach nobody for {time:?}"));
    }

    /// Nothing can be published for so long.
    pub(super) fn catalogue_down_for(&mut self, time: Duration) {
        self.note(format_args!("the catalogue is down"));
        for desk in self.desks.values_mut() {
            desk.catalogue.down = true;
        }
        self.queue.put(self.now + time, Event::CatalogueWorks);
    }

    pub(super) fn catalogue_works(&mut self) {
        for desk in self.desks.values_mut() {
            desk.catalogue.down = false;
        }
    }

    /// How many active entries answer, by fleet: what clients would see.
    pub(super) fn answering(&self, names: &NamesSnapshot) -> BTreeMap<FleetName, usize> {
        let mut answering = BTreeMap::new();
        for entry in &names.entries {
            let active = match entry.role {
                CatalogueRole::Active => true,
                CatalogueRole::Absent | CatalogueRole::Standby | CatalogueRole::Entered => false,
            };
            let answers = self
                .running_at(&entry.instance, entry.address)
                .is_some_and(|number| self.machine(number).answers(self.now));
            if active && answers {
                *answering.entry(entry.fleet.clone()).or_default() += 1;
            }
        }
        answering
    }

    /// Whether clients find one as active that does not answer.
    pub(crate) fn is_any_found_silent(&self) -> bool {
        let active = self.served.entries.iter();
        let mut active = active.filter(|entry| entry.role == CatalogueRole::Active);
        active.any(|entry| {
            let there = self.running_at(&entry.instance, entry.address);
            !there.is_some_and(|number| self.machine(number).answers(self.now))
        })
    }

    /// A change of the names never takes away a fleet's last entry that answers, other than for
    /// one whose agent says at this moment that it is healthy: what broke since its last check
    /// nobody can know.
    fn check_publication(&mut self, number: DeskNumber, snapshot: &NamesSnapshot) {
        let after = self.answering(snapshot);
        if self.log.keeps_trace() {
            let active: Vec<&str> = snapshot
                .entries
                .iter()
                .filter(|entry| entry.role == CatalogueRole::Active)
                .map(|entry| entry.instance.as_str())
                .collect();
            let version = snapshot.version;
            let answer: usize = after.values().sum();
            self.note(format_args!(
                "names {version}: active {active:?}, {answer} answer"
            ));
        }
        for fleet in self.answering(&self.served).into_keys() {
            if after.contains_key(&fleet) {
                continue;
            }
            let disk = self.disk.borrow();
            let state = disk.stored.fleets.get(&fleet);
            let deleting = state.is_none_or(|state| state.deleting);
            drop(disk);
            let unknown = self.is_switch_unknown(&fleet, snapshot.version);
            if !deleting && !unknown && !self.is_any_said_to_be_healthy(number, snapshot, &fleet) {
                let version = snapshot.version;
                let text = format!("names {version}: none of the active of {fleet} answers");
                self.broken(Rule::LastEntryThatAnswersStays, text);
            }
        }
        let disk = &mut *self.disk.borrow_mut();
        for fleet in after.keys() {
            if let Some(state) = disk.stored.fleets.get(fleet) {
                disk.recovered
                    .retain(|id| !state.instances.contains_key(id));
            }
        }
    }

    /// Whether all that clients still find of a fleet is what a recovered store and the agents say was
    /// never active: the switch came between the backup and the end of who had ordered it, and no agent
    /// had heard of it yet. Where the backup is of a rollout under way, what is published first after the
    /// approval is what the rollout had come to then. Of an exclusive fleet whoever recovers waits in any case until it knows that
    /// nobody else is at work.
    fn is_switch_unknown(&self, fleet: &FleetName, version: NamesVersion) -> bool {
        let disk = self.disk.borrow();
        let state = disk.stored.fleets.get(fleet);
        let exclusive = state.is_some_and(|it| it.spec.kind == FleetKind::Exclusive);
        let under_way = version.number == 1 && state.is_some_and(|it| it.running().is_some());
        let entries = self.served.entries.iter();
        let mut active = entries
            .filter(|entry| entry.role == CatalogueRole::Active && entry.fleet == *fleet)
            .map(|entry| &entry.instance);
        active.all(|id| {
            let role = self.running(id).and_then(|it| self.machine(it).role());
            let recovered = disk.recovered.contains(id) || disk.lost_track.contains(id);
            recovered && (exclusive || under_way || role != Some(Role::Active))
        })
    }

    /// Whether the agent of an instance that clients find as active has freshly said that it is
    /// healthy, or the coordinator's own probe has just reached it.
    fn is_any_said_to_be_healthy(
        &self,
        number: DeskNumber,
        snapshot: &NamesSnapshot,
        fleet: &FleetName,
    ) -> bool {
        let Some(desk) = self.desks.get(&number) else {
            return false;
        };
        let seen = desk.link.observe();
        let fresh = desk.link.report_interval() * FRESH_INTERVALS;
        let probed = desk.probe.results();
        let active = snapshot.entries.iter();
        let mut active =
            active.filter(|entry| entry.role == CatalogueRole::Active && entry.fleet == *fleet);
        active.any(|entry| {
            let agent = seen.get(&entry.instance);
            let agent = agent.and_then(|seen| seen.agent.as_ref());
            let probe = probed.get(&entry.instance);
            agent.is_some_and(|said| said.age <= fresh && said.report.health == Health::Healthy)
                || probe.is_some_and(|probe| probe.age <= PROBE_FRESH && probe.passing)
        })
    }
}
