//! Coordinators: one more starts, ends, or stands still, and what becomes of what a pass of it
//! handed in.

use std::{cell::RefCell, rc::Rc, time::Duration};

use calvin_engine::ports::Catalogue as _;
use calvin_model::Epoch;
use calvin_proto::convert::{Order, ToAgent};

use super::World;
use crate::{
    agents::{Session, SimLink},
    catalogue::SimCatalogue,
    desk::{Desk, DeskNumber, SimClock},
    event::Event,
    fault::Fault,
    network::KEEPALIVE,
    probe::SimProbe,
    provider::{Request, SimProvider},
    store::{Disk, SimStore},
};

/// By how many millionths a clock is too fast at most.
pub(super) const DRIFT_PPM: u32 = 2_000;
/// By how much a wall clock is wrong at most: an hour, in milliseconds.
pub(super) const WRONG_MS: i64 = 3_600_000;

impl World {
    /// What a new run of a coordinator has: nothing but the disk.
    pub(crate) fn new_desk(&mut self) -> Box<Desk> {
        self.desk_at(Rc::clone(&self.disk))
    }

    /// The same, with a disk that nobody else has.
    pub(super) fn new_desk_on(&mut self, copy: Disk) -> Box<Desk> {
        let mut desk = self.desk_at(Rc::new(RefCell::new(copy)));
        desk.on_copy = true;
        desk
    }

    fn desk_at(&mut self, disk: Rc<RefCell<Disk>>) -> Box<Desk> {
        let fuse = self.fuse.of_another_run();
        let mut clock = SimClock::default();
        if self.has(Fault::ClockDrift) {
            clock.fast_ppm = self.random.u32(..DRIFT_PPM);
        }
        if self.has(Fault::ClockJump) {
            clock.wall_ahead_ms = self.random.i64(-WRONG_MS..WRONG_MS);
        }
        let mut catalogue = SimCatalogue::new(fuse.clone());
        catalogue.down = self.desks.values().any(|desk| desk.catalogue.down);
        let mut desk = Desk {
            clock,
            store: SimStore::new(Rc::clone(&disk), self.log.clone()),
            provider: SimProvider::new(fuse.clone()),
            link: SimLink::new(fuse.clone(), disk, self.pace.report),
            catalogue,
            probe: SimProbe::default(),
            images: Rc::clone(&self.images),
            rules: self.rules.clone(),
            fuse,
            epoch: None,
            due: self.now + self.pace.pass,
            frozen_until: Duration::ZERO,
            killed: false,
            on_copy: false,
        };
        desk.set_now(self.now);
        Box::new(desk)
    }

    /// A run of the coordinator speaks from now on.
    pub(crate) fn speak(&mut self, number: DeskNumber, mut desk: Box<Desk>, epoch: &Epoch) {
        desk.epoch = Some(epoch.clone());
        desk.catalogue.speak(epoch);
        let on_copy = desk.on_copy;
        self.desks.insert(number, desk);
        if !on_copy {
            self.begin_to_judge();
        }
    }

    /// A coordinator's process is gone: all that was only in its memory is lost. What it had
    /// asked for before is on its way, unless it never left it.
    pub(crate) fn coordinator_gone(&mut self, number: DeskNumber) {
        if self.has(Fault::CrashPoints) {
            self.lose_requests(number);
        }
        self.take_requests(number);
        self.note(format_args!("coordinator {} is gone", number.0));
        let Some(desk) = self.desks.remove(&number) else {
            return;
        };
        if !desk.on_copy {
            self.end_to_judge(&desk);
        }
        for session in desk.link.sessions.into_values() {
            let at = self.soon(1, 20);
            let event = Event::AgentLost(session.machine, session.number);
            self.queue.put(at, event);
        }
    }

    fn lose_requests(&mut self, number: DeskNumber) {
        let random = &mut self.random;
        if let Some(desk) = self.desks.get_mut(&number) {
            desk.provider.requests.retain(|_| random.bool());
            desk.link.outbox.retain(|_| random.bool());
        }
    }

    /// A coordinator's process stands still.
    pub(super) fn freeze(&mut self, number: DeskNumber, time: Duration) {
        let now = self.now;
        let Some(desk) = self.desks.get_mut(&number) else {
            return;
        };
        desk.frozen_until = now + time;
        desk.due = desk.due.max(desk.frozen_until);
        let sessions: Vec<Session> = desk.link.sessions.values().copied().collect();
        self.note(format_args!("coordinator {} hangs for {time:?}", number.0));
        if time <= KEEPALIVE {
            return;
        }
        for session in sessions {
            let event = Event::AgentLost(session.machine, session.number);
            self.queue.put(now + KEEPALIVE, event);
            let event = Event::LinkLost(number, session.number);
            self.queue.put(now + time, event);
        }
    }

    /// Takes what a pass handed in.
    pub(crate) fn take_requests(&mut self, number: DeskNumber) {
        self.check_listener(number);
        let Some(desk) = self.desks.get_mut(&number) else {
            return;
        };
        let requests = std::mem::take(&mut desk.provider.requests);
        let closing = std::mem::take(&mut desk.link.closing);
        let outbox = std::mem::take(&mut desk.link.outbox);
        let fresh = std::mem::take(&mut desk.catalogue.fresh);
        for request in requests {
            match request {
                Request::Create(order) => self.create(number, &order),
                Request::Delete(instance, basis) => self.delete(number, &instance, &basis),
            }
        }
        for session in closing {
            if let Some(machine) = self.link_lost(number, session) {
                let at = self.soon(1, 10);
                self.queue.put(at, Event::AgentLost(machine, session));
            }
        }
        if fresh {
            self.names_published(number);
        }
        for (instance, wanted) in outbox {
            let Some(desk) = self.desks.get(&number) else {
                return;
            };
            let session = desk.link.sessions.get(&instance).copied();
            if let (Some(session), Some(epoch)) = (session, desk.epoch.clone()) {
                self.send_to_agent(session, &ToAgent::Wanted(Order { epoch, wanted }));
            }
        }
    }

    /// Whether a coordinator is the one that spoke last.
    pub(super) fn is_newest(&self, number: DeskNumber) -> bool {
        let epoch = self.desks.get(&number).and_then(|desk| desk.epoch.as_ref());
        epoch.is_some() && epoch == self.disk.borrow().stored.epoch.as_ref()
    }

    pub(super) fn probe_targets(&mut self) {
        let now = self.now;
        self.queue.put(now + self.pace.look, Event::Probe);
        let numbers: Vec<DeskNumber> = self.desks.keys().copied().collect();
        for number in numbers {
            // It comes back below: nothing that is asked of the world here looks for it.
            let Some(mut desk) = self.desks.remove(&number) else {
                continue;
            };
            if desk.epoch.is_some() && !desk.is_frozen(now) {
                let mut news = false;
                let targets = std::mem::take(&mut desk.probe.targets);
                for (instance, services) in &targets {
                    let at = services.first().map(|service| service.address.ip());
                    let machine = at.and_then(|at| self.running_at(instance, at));
                    let reached = machine.is_some_and(|machine| {
                        !self.network.is_cut(instance) && self.machine(machine).answers(now)
                    });
                    news |= desk.probe.note(instance, reached);
                }
                desk.probe.targets = targets;
                if news {
                    desk.poke(now + super::TOGETHER);
                }
            }
            self.desks.insert(number, desk);
        }
    }
}
