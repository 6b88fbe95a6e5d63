//! The coordinator's end of the sessions. Every message is converted to the wire and back, as it
//! would be on a real network.

use calvin_model::{Digest, EnvironmentName, InstanceId};
use calvin_proto::{
    convert::{FromAgent, Hello, Order, ToAgent, Welcome},
    wire,
};

use super::World;
use crate::{
    agents::{REPORT_INTERVAL, Session},
    check::Rule,
    event::{Event, MachineNumber, SessionNumber},
    network::KEEPALIVE,
};

/// The version that both sides speak.
const PROTOCOL: u32 = 1;

impl World {
    /// An agent's stream arrives. Gives the session and the first message to it, or nothing when
    /// it is refused or nobody listens.
    pub(super) fn accept(&mut self, number: MachineNumber) -> Option<(SessionNumber, ToAgent)> {
        let now = self.now();
        let instance = self.machine(number).instance.clone();
        if self.network.is_cut(&instance) || self.link.revoked.contains(&instance) {
            return None;
        }
        let epoch = self.speaking.clone()?;
        let admitted = self.link.admitted.get(&instance)?.wanted;
        self.check_hello(number);
        let session = Session {
            number: SessionNumber(self.next_serial()),
            machine: number,
            since: now,
        };
        self.link.sessions.insert(instance.clone(), session);
        self.catalogue.stored.insert(instance, None);
        self.poked = true;
        let welcome = ToAgent::Welcome(Welcome {
            protocol: PROTOCOL,
            capabilities: Vec::new(),
            epoch: epoch.clone(),
            report_interval: REPORT_INTERVAL,
            wall_ms: 0,
        });
        let wanted = admitted;
        self.send_to_agent(session, &ToAgent::Wanted(Order { epoch, wanted }));
        self.send_names(session);
        let welcome = self.over_the_wire(&welcome)?;
        Some((session.number, welcome))
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

    pub(super) fn send_names(&mut self, session: Session) {
        if let Some(names) = self.catalogue.newest() {
            let names = ToAgent::Names(names.clone());
            self.send_to_agent(session, &names);
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
        let now = self.now();
        let instance = &self.machines[session.machine.0].instance;
        let arrivals = self.network.arrivals(instance, now, &mut self.random);
        for at in arrivals.into_iter().flatten() {
            let event = Event::ToAgent(session.machine, session.number, Box::new(message.clone()));
            self.queue.put(at, event);
        }
    }

    pub(super) fn link_hears(&mut self, session: SessionNumber, message: wire::FromAgent) {
        let Some(instance) = self.link.instance_of(session).cloned() else {
            return;
        };
        match FromAgent::try_from(message) {
            Ok(FromAgent::Report(report)) => {
                self.truth.heard.insert(instance.clone(), self.clock.now);
                let names = report.names;
                if self.link.note(&instance, report) {
                    self.poked = true;
                }
                let stored = self.catalogue.stored.entry(instance).or_default();
                *stored = names.max(*stored);
            }
            Ok(FromAgent::Hello(_)) => {}
            Err(error) => {
                let text = format!("from {instance}: {}", error.in_words());
                self.broken(Rule::NothingOfOursIsRefused, text);
            }
        }
    }

    pub(super) fn link_lost(&mut self, session: SessionNumber) {
        if let Some(instance) = self.link.end(session) {
            self.catalogue.stored.remove(&instance);
            self.poked = true;
        }
    }

    /// Both ends of a session find out by themselves that nothing comes any more.
    pub(super) fn lose_session(&mut self, instance: &InstanceId) {
        if let Some(session) = self.link.sessions.get(instance).copied() {
            let at = self.now() + KEEPALIVE;
            self.queue.put(at, Event::LinkLost(session.number));
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
