//! The coordinator's end of the sessions. Every message is converted to the wire and back, as it
//! would be on a real network.

use calvin_model::{Digest, EnvironmentName, Epoch, Generation, InstanceId};
use calvin_proto::{
    convert::{FromAgent, Hello, Order, ToAgent, Welcome},
    wire,
};

use super::{TOGETHER, World};
use crate::{
    agents::Session,
    check::Rule,
    desk::{Desk, DeskNumber},
    event::{Event, MachineNumber, SessionNumber},
    machine::Link,
    network::{KEEPALIVE, Way},
};

/// The version that both sides speak.
const PROTOCOL: u32 = 1;

impl World {
    /// An agent's stream arrives. Gives the session and the first message to it, or nothing when
    /// it is refused or nobody listens.
    pub(super) fn accept(&mut self, number: MachineNumber) -> Option<(Link, ToAgent)> {
        let now = self.now;
        let instance = self.machine(number).instance.clone();
        if self.network.is_cut(&instance) {
            return None;
        }
        let disk = self.disk.borrow();
        let key = disk.keys.get(&instance).copied();
        let refused = disk.revoked.contains(&instance) || key.is_some_and(|key| key != number);
        drop(disk);
        let mut desks = self.desks.values();
        if refused && !desks.any(|desk| desk.link.only_listens()) {
            return None;
        }
        let desk = self.listening()?;
        if self.desks.get(&desk)?.link.only_listens() {
            // Who has no certificate yet has nothing to show.
            if self.machine(number).enrolled {
                self.hear(desk, number);
            }
            return None;
        }
        if refused {
            return None;
        }
        let epoch = self.desks.get(&desk)?.epoch.clone()?;
        let wanted = self.desks.get(&desk)?.link.admitted.get(&instance)?.wanted;
        self.check_hello(number);
        if self.has_heard_more(number, &epoch, wanted.generation) {
            self.hear(desk, number);
            return None;
        }
        self.spend_token(number);
        let session = Session {
            number: SessionNumber(self.next_serial()),
            machine: number,
            from: self.machine(number).address,
            since: now,
        };
        let at_desk = self.desks.get_mut(&desk)?;
        at_desk.link.begin(&instance, session);
        at_desk.catalogue.stored.insert(instance, None);
        self.poke(desk);
        let welcome = ToAgent::Welcome(Welcome {
            protocol: PROTOCOL,
            capabilities: Vec::new(),
            epoch: epoch.clone(),
            report_interval: self.pace.report,
            wall_ms: 0,
        });
        self.send_to_agent(session, &ToAgent::Wanted(Order { epoch, wanted }));
        self.send_names(desk, session);
        let welcome = self.over_the_wire(&welcome)?;
        let number = session.number;
        Some((Link { desk, number }, welcome))
    }

    /// Whether an agent has heard more than a coordinator of this epoch ever said.
    fn has_heard_more(&self, number: MachineNumber, ours: &Epoch, given: Generation) -> bool {
        let agent = self.machine(number).agent.as_ref();
        agent.is_some_and(|agent| {
            let (epoch, generation) = agent.seen();
            epoch.is_some_and(|seen| seen.admit(ours).is_err()) || generation > given
        })
    }

    /// A coordinator that takes streams now: any, if there are several.
    fn listening(&mut self) -> Option<DeskNumber> {
        let now = self.now;
        let listens = |desk: &Desk| desk.epoch.is_some() && !desk.is_frozen(now);
        let numbers: Vec<DeskNumber> = self
            .desks
            .iter()
            .filter(|(_, desk)| listens(desk))
            .map(|(number, _)| *number)
            .collect();
        match numbers.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => several.get(self.random.usize(..several.len())).copied(),
        }
    }

    /// By how much a coordinator's wall clock is ahead, in milliseconds.
    pub(super) fn wall_ahead(&self, desk: DeskNumber) -> i64 {
        self.desks
            .get(&desk)
            .map_or(0, |desk| desk.clock.wall_ahead_ms)
    }

    /// What an agent says first passes the wire unchanged.
    fn check_hello(&mut self, number: MachineNumber) {
        let machine = self.machine(number);
        let Some(agent) = &machine.agent else {
            return;
        };
        let (epoch, generation) = agent.seen();
        let hello = FromAgent::Hello(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL..=PROTOCOL,
            capabilities: Vec::new(),
            boot: machine.boot.clone(),
            build: None,
            manifest: Digest::from_sha256([0; 32]),
            epoch_seen: epoch.cloned(),
            generation_seen: generation,
            environment: environment(),
            instance: machine.instance.clone(),
            wall_ms: 0,
            role_applied: agent.role(),
            health: agent.report_now().health,
        });
        match FromAgent::try_from(wire::FromAgent::from(&hello)) {
            Ok(arrived) if arrived == hello => {}
            Ok(arrived) => {
                let text = format!("{arrived:?} arrived for {hello:?}");
                self.broken(Rule::NothingOfOursIsRefused, text);
            }
            Err(error) => {
                self.broken(Rule::NothingOfOursIsRefused, error.in_words());
            }
        }
    }

    fn over_the_wire(&mut self, message: &ToAgent) -> Option<ToAgent> {
        let arrived = wire::ToAgent::try_from(message).and_then(ToAgent::try_from);
        match arrived {
            Ok(message) => Some(message),
            Err(error) => {
                self.broken(Rule::NothingOfOursIsRefused, error.in_words());
                None
            }
        }
    }

    pub(super) fn send_to_agent(&mut self, session: Session, message: &ToAgent) {
        let message = match wire::ToAgent::try_from(message) {
            Ok(message) => message,
            Err(error) => {
                self.broken(Rule::NothingOfOursIsRefused, error.in_words());
                return;
            }
        };
        let now = self.now;
        let instance = &self.machines[session.machine.0].instance;
        let way = Way::ToAgent;
        let arrivals = self.network.arrivals(instance, way, now, &mut self.random);
        for at in arrivals.into_iter().flatten() {
            let event = Event::ToAgent(session.machine, session.number, Box::new(message.clone()));
            self.queue.put(at, event);
        }
    }

    pub(super) fn link_hears(
        &mut self,
        number: DeskNumber,
        session: SessionNumber,
        message: Box<wire::FromAgent>,
    ) {
        let now = self.now;
        let Some(desk) = self.desks.get_mut(&number) else {
            return;
        };
        if desk.is_frozen(now) {
            // It lies there until somebody reads it.
            let event = Event::FromAgent(number, session, message);
            self.queue.put(desk.frozen_until, event);
            return;
        }
        let Some(instance) = desk.link.instance_of(session).cloned() else {
            return;
        };
        match FromAgent::try_from(*message) {
            Ok(FromAgent::Report(report)) => {
                self.truth.heard.insert((number, instance.clone()), now);
                let names = report.names;
                let stored = desk.catalogue.stored.entry(instance.clone()).or_default();
                *stored = names.max(*stored);
                if desk.link.note(&instance, report) {
                    desk.poke(now + TOGETHER);
                }
            }
            Ok(FromAgent::Hello(_)) => {}
            Err(error) => {
                let text = format!("from {instance}: {}", error.in_words());
                self.broken(Rule::NothingOfOursIsRefused, text);
            }
        }
    }

    /// A session ends at the coordinator's side. Gives its machine, if it was live.
    pub(super) fn link_lost(
        &mut self,
        number: DeskNumber,
        session: SessionNumber,
    ) -> Option<MachineNumber> {
        let now = self.now;
        let desk = self.desks.get_mut(&number)?;
        if desk.is_frozen(now) {
            let event = Event::LinkLost(number, session);
            self.queue.put(desk.frozen_until, event);
            return None;
        }
        let (instance, machine) = desk.link.end(session)?;
        desk.catalogue.stored.remove(&instance);
        desk.poke(now + TOGETHER);
        Some(machine)
    }

    /// Both ends of a session find out by themselves that nothing comes any more.
    pub(super) fn lose_session(&mut self, number: DeskNumber, instance: &InstanceId) {
        let desk = self.desks.get(&number);
        let session = desk.and_then(|desk| desk.link.sessions.get(instance));
        if let Some(session) = session.copied() {
            let at = self.now + KEEPALIVE;
            self.queue.put(at, Event::LinkLost(number, session.number));
            let event = Event::AgentLost(session.machine, session.number);
            self.queue.put(at, event);
        }
    }
}

fn environment() -> EnvironmentName {
    match "sim".parse() {
        Ok(name) => name,
        Err(error) => unreachable!("the simulator's own environment: {error}"),
    }
}
