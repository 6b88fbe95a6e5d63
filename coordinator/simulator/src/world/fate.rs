//! What goes wrong by chance, looked at once a second.
//!
//! All chances are drawn at each look, whatever faults there are: so a run with fewer faults meets
//! the rest of them at the same times, and the shortest trace of a failure can be looked for.

use std::{collections::BTreeSet, time::Duration};

use calvin_model::{InstanceId, Role};
use calvin_planner::MachineState;

use super::{World, coordinator::WRONG_MS, stores::Copy};
use crate::{
    desk::DeskNumber,
    event::{Event, MachineNumber},
    fault::Fault,
    machine::Flapping,
    network::{Cut, Way},
    scenario::Side,
    store::{Copies, DISK_FULL_MS, STORE_FAILS_MS},
};

/// Time from one look of fate to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an agent that crashed stays away, in milliseconds.
const AGENT_AWAY_MS: (u64, u64) = (200, 3_000);
/// How long an agent stands still, in milliseconds.
const AGENT_HANGS_MS: (u64, u64) = (500, 15_000);
/// How long a cut lasts, in milliseconds: shorter than what makes a machine lost.
const CUT_MS: (u64, u64) = (500, 12_000);
/// How long a provider does nothing, in milliseconds.
const PROVIDER_HANGS_MS: (u64, u64) = (2_000, 20_000);
/// How long lists are short, in milliseconds.
const SHORT_MS: (u64, u64) = (1_000, 15_000);
/// How long a death is not noticed, in milliseconds.
const UNSEEN_MS: (u64, u64) = (15_000, 90_000);
/// How long health flaps, and how long a turn of it takes, in milliseconds.
const FLAPPING_MS: (u64, u64) = (4_000, 20_000);
const TURN_MS: (u64, u64) = (1_000, 8_000);
/// How long names reach nobody, or the catalogue is down, in milliseconds.
const NAMES_MS: (u64, u64) = (1_000, 15_000);
/// How long an old coordinator stands still before it goes on, in milliseconds.
const FROZEN_MS: (u64, u64) = (1_000, 30_000);
/// Most actions that a coordinator hands out before it crashes.
const FUSE: u64 = 6;
/// How long a coordinator runs on a copy of the store, in milliseconds.
const COPY_STAYS_MS: (u64, u64) = (5_000, 60_000);

/// Its chances.
#[derive(Debug)]
pub(super) struct Fate {
    random: fastrand::Rng,
    /// What happens to stores is drawn apart: a run without it meets the rest as it always did.
    of_stores: fastrand::Rng,
    /// The weather of this world: things go wrong so many times more rarely.
    mildness: u32,
    /// What happened so far.
    happened: u64,
    only: Option<BTreeSet<u64>>,
}

impl Fate {
    pub(super) fn new(seed: u64, only: Option<BTreeSet<u64>>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mildness = random.u32(1..=5);
        Self {
            random,
            of_stores: fastrand::Rng::with_seed(!seed),
            mildness,
            happened: 0,
            only,
        }
    }
}

/// Each happens in one second of so many, in the worst weather; those that are no matter of a
/// moment never.
fn rarity(fault: Fault) -> Option<u32> {
    match fault {
        Fault::SlowProvider
        | Fault::FailingProvider
        | Fault::LateProvider
        | Fault::OldList
        | Fault::Loss
        | Fault::Delay
        | Fault::Reordering
        | Fault::Repetition
        | Fault::SlowStart
        | Fault::BadImage
        | Fault::ClockDrift
        | Fault::DoubleCreate => None,
        Fault::Cut
        | Fault::HalfCut
        | Fault::AgentCrash
        | Fault::AgentHang
        | Fault::CoordinatorCrash
        | Fault::CrashPoints
        | Fault::StoreFailure
        | Fault::AgentDiskFull
        | Fault::ClockJump
        | Fault::Operators => Some(12),
        Fault::FlappingHealth
        | Fault::StaleCatalogue
        | Fault::CatalogueDown
        | Fault::OldCoordinator
        | Fault::DiskFull
        | Fault::HungProvider
        | Fault::ShortList => Some(20),
        Fault::MachineDeath | Fault::UnseenDeath | Fault::CopiedStore => Some(30),
        Fault::RestoredBackup => Some(60),
    }
}

impl World {
    /// What happened by chance so far.
    pub(crate) fn happened(&self) -> u64 {
        self.fate.happened
    }

    pub(super) fn fate(&mut self) {
        if self.now >= self.faults_until {
            self.calm();
            return;
        }
        self.queue.put(self.now + INTERVAL, Event::Fate);
        self.back_up();
        for fault in Fault::ALL {
            if let Some(random) = self.happens(fault) {
                self.befall(fault, random);
            }
        }
    }

    /// From now on nothing goes wrong by chance.
    fn calm(&mut self) {
        self.note(format_args!("from now on nothing goes wrong by chance"));
        self.faults.clear();
        self.network.calm();
        self.presses.clear();
    }

    fn happens(&mut self, fault: Fault) -> Option<fastrand::Rng> {
        let rarity = rarity(fault)?;
        let fate = &mut self.fate;
        let random = if matches!(fault, Fault::CopiedStore | Fault::RestoredBackup) {
            &mut fate.of_stores
        } else {
            &mut fate.random
        };
        let roll = random.u32(..rarity * fate.mildness);
        let seed = random.u64(..);
        if roll > 0 || !self.faults.contains(&fault) {
            return None;
        }
        fate.happened += 1;
        let number = fate.happened;
        if fate
            .only
            .as_ref()
            .is_some_and(|only| !only.contains(&number))
        {
            return None;
        }
        self.note(format_args!("fate {number}: {fault}"));
        Some(fastrand::Rng::with_seed(seed))
    }

    fn befall(&mut self, fault: Fault, mut random: fastrand::Rng) {
        let mut time = |(least, most): (u64, u64)| Duration::from_millis(random.u64(least..=most));
        match fault {
            Fault::SlowProvider
            | Fault::FailingProvider
            | Fault::LateProvider
            | Fault::OldList
            | Fault::Loss
            | Fault::Delay
            | Fault::Reordering
            | Fault::Repetition
            | Fault::SlowStart
            | Fault::BadImage
            | Fault::ClockDrift
            | Fault::DoubleCreate => {}
            Fault::CopiedStore => {
                let stays = time(COPY_STAYS_MS);
                let copies = if random.bool() {
                    Copies::Adopted
                } else {
                    Copies::Refused
                };
                self.copy = Some(Copy { copies, stays });
            }
            Fault::RestoredBackup => self.begin_to_restore(&mut random),
            Fault::HungProvider => self.provider_hangs(time(PROVIDER_HANGS_MS)),
            Fault::ShortList => self.cloud.short_until = self.now + time(SHORT_MS),
            Fault::StaleCatalogue => self.names_stale_for(time(NAMES_MS)),
            Fault::CatalogueDown => self.catalogue_down_for(time(NAMES_MS)),
            Fault::StoreFailure => {
                let time = time(STORE_FAILS_MS);
                let side = if random.bool() {
                    Side::Before
                } else {
                    Side::After
                };
                self.store_fails(side, time);
            }
            Fault::DiskFull => self.store_fails(Side::Before, time(DISK_FULL_MS)),
            Fault::CoordinatorCrash => self.kill_coordinator(),
            Fault::CrashPoints => self.set_crash_point(&mut random),
            Fault::OldCoordinator => {
                self.another = true;
                let time = time(FROZEN_MS);
                let newest = self.newest_desk();
                if let Some(desk) = newest.filter(|_| random.bool()) {
                    self.freeze(desk, time);
                }
            }
            Fault::Operators => self.presses.push(random),
            Fault::ClockJump => self.clocks_jump(&mut random),
            Fault::Cut
            | Fault::HalfCut
            | Fault::AgentCrash
            | Fault::AgentHang
            | Fault::AgentDiskFull
            | Fault::FlappingHealth
            | Fault::MachineDeath
            | Fault::UnseenDeath => {
                if let Some(number) = self.any_machine(&mut random) {
                    self.befall_machine(fault, number, random);
                }
            }
        }
    }

    fn befall_machine(&mut self, fault: Fault, number: MachineNumber, mut random: fastrand::Rng) {
        let now = self.now;
        let time = |random: &mut fastrand::Rng, (least, most): (u64, u64)| {
            Duration::from_millis(random.u64(least..=most))
        };
        let instance = self.machine(number).instance.clone();
        self.note(format_args!("{fault} at {instance}"));
        match fault {
            Fault::Cut => self.cut_off(&instance, Cut::Both, time(&mut random, CUT_MS)),
            Fault::HalfCut => {
                let way = if random.bool() {
                    Way::ToAgent
                } else {
                    Way::ToCoordinator
                };
                self.cut_off(&instance, Cut::Only(way), time(&mut random, CUT_MS));
            }
            Fault::AgentCrash => {
                self.stop_agent(number);
                let at = now + time(&mut random, AGENT_AWAY_MS);
                self.queue.put(at, Event::AgentStarts(number));
            }
            Fault::AgentHang => self.agent_hangs(number, time(&mut random, AGENT_HANGS_MS)),
            Fault::AgentDiskFull => {
                self.machine_mut(number).full_until = now + time(&mut random, DISK_FULL_MS);
            }
            Fault::FlappingHealth => {
                self.machine_mut(number).flapping = Some(Flapping {
                    from: now,
                    until: now + time(&mut random, FLAPPING_MS),
                    turn: time(&mut random, TURN_MS),
                });
            }
            Fault::MachineDeath | Fault::UnseenDeath if self.would_lose_quorum(number) => {}
            Fault::MachineDeath => {
                self.machine_dies(number);
                if random.bool() {
                    self.machine_gone(number);
                } else {
                    self.machine_mut(number).state = MachineState::Stopped;
                }
            }
            Fault::UnseenDeath => {
                self.machine_dies(number);
                let at = now + time(&mut random, UNSEEN_MS);
                self.queue.put(at, Event::DeathNoticed(number));
            }
            Fault::SlowProvider
            | Fault::FailingProvider
            | Fault::HungProvider
            | Fault::LateProvider
            | Fault::OldList
            | Fault::ShortList
            | Fault::Loss
            | Fault::Delay
            | Fault::Reordering
            | Fault::Repetition
            | Fault::SlowStart
            | Fault::BadImage
            | Fault::StaleCatalogue
            | Fault::CatalogueDown
            | Fault::CoordinatorCrash
            | Fault::CrashPoints
            | Fault::OldCoordinator
            | Fault::StoreFailure
            | Fault::DiskFull
            | Fault::ClockJump
            | Fault::ClockDrift
            | Fault::Operators
            | Fault::DoubleCreate
            | Fault::CopiedStore
            | Fault::RestoredBackup => {}
        }
    }

    fn cut_off(&mut self, instance: &InstanceId, cut: Cut, time: Duration) {
        self.network.cut(instance, cut);
        self.lose_sessions(instance);
        self.queue
            .put(self.now + time, Event::Heal(instance.clone()));
    }

    fn store_fails(&mut self, side: Side, time: Duration) {
        let disk = &mut *self.disk.borrow_mut();
        if disk.failing.is_none() {
            disk.failing = Some(side);
            self.queue.put(self.now + time, Event::StoreWorks);
        }
    }

    fn kill_coordinator(&mut self) {
        if let Some(desk) = self.newest_desk() {
            self.kill(desk);
        }
    }

    fn set_crash_point(&mut self, random: &mut fastrand::Rng) {
        match random.u8(..3) {
            0 => self.disk.borrow_mut().crash_next = Some(Side::Before),
            1 => self.disk.borrow_mut().crash_next = Some(Side::After),
            _ => self.fuse.burn_after(random.u64(..FUSE)),
        }
    }

    fn clocks_jump(&mut self, random: &mut fastrand::Rng) {
        let ahead = random.i64(-WRONG_MS..WRONG_MS);
        match self.any_machine(random) {
            Some(number) if random.bool() => self.machine_mut(number).wall_ahead_ms = ahead,
            Some(_) | None => {
                for desk in self.desks.values_mut() {
                    desk.clock.wall_ahead_ms = ahead;
                }
            }
        }
    }

    fn any_machine(&self, random: &mut fastrand::Rng) -> Option<MachineNumber> {
        let count = self.by_instance.len();
        if count == 0 {
            return None;
        }
        let place = random.usize(..count);
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

    /// Every coordinator that runs loses the sessions of an instance, and so does its agent: both
    /// ends find out by themselves that nothing comes any more.
    pub(super) fn lose_sessions(&mut self, instance: &InstanceId) {
        let numbers: Vec<DeskNumber> = self.desks.keys().copied().collect();
        for number in numbers {
            self.lose_session(number, instance);
        }
    }
}
