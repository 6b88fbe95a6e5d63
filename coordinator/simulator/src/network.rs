//! The network between machines and coordinator: when a message arrives, how often, or whether.
//!
//! It is worse than TCP on purpose: messages of one session may be lost, overtake each other and
//! come twice. What holds here holds for every order in which two sessions can follow each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_model::InstanceId;

use crate::fault::Fault;

/// Time of a message on a good day, at most, in milliseconds.
const GOOD_MS: u64 = 10;
/// Time of a message on a bad day, at most, in milliseconds.
const BAD_MS: u64 = 800;
/// Time of a message that is overtaken by others, at most, in milliseconds.
const OVERTAKEN_MS: u64 = 4_000;
/// One message of so many is lost.
const LOSS: u32 = 10;
/// One message of so many comes twice.
const REPETITION: u32 = 6;
/// One message of so many is overtaken by others.
const OVERTAKEN: u32 = 8;
/// After so long without an answer both ends give a session up: a keepalive of 2 s and its
/// timeout of 1 s.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(3);

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToAgent,
    ToCoordinator,
}

/// What a cut stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Both,
    Only(Way),
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    faults: BTreeSet<Fault>,
    cut: BTreeMap<InstanceId, Cut>,
}

impl Network {
    pub(crate) fn new(faults: &BTreeSet<Fault>) -> Self {
        Self {
            faults: faults.clone(),
            cut: BTreeMap::new(),
        }
    }

    /// When the copies of a message arrive that is sent now: none, one or two.
    pub(crate) fn arrivals(
        &self,
        instance: &InstanceId,
        way: Way,
        now: Duration,
        random: &mut fastrand::Rng,
    ) -> [Option<Duration>; 2] {
        let stopped = match self.cut.get(instance) {
            Some(Cut::Both) => true,
            Some(Cut::Only(only)) => *only == way,
            None => false,
        };
        if stopped {
            return [None, None];
        }
        if self.faults.contains(&Fault::Loss) && random.u32(..LOSS) == 0 {
            return [None, None];
        }
        let twice = self.faults.contains(&Fault::Repetition) && random.u32(..REPETITION) == 0;
        let first = now + self.latency(random);
        [Some(first), twice.then(|| now + self.latency(random))]
    }

    /// How long one message takes.
    fn latency(&self, random: &mut fastrand::Rng) -> Duration {
        let overtaken = self.faults.contains(&Fault::Reordering) && random.u32(..OVERTAKEN) == 0;
        let most = if overtaken {
            OVERTAKEN_MS
        } else if self.faults.contains(&Fault::Delay) {
            BAD_MS
        } else {
            GOOD_MS
        };
        Duration::from_millis(random.u64(1..=most))
    }

    /// From now on every day is a good day.
    pub(crate) fn calm(&mut self) {
        self.faults.clear();
    }

    /// Cuts a machine off.
    pub(crate) fn cut(&mut self, instance: &InstanceId, cut: Cut) {
        self.cut.insert(instance.clone(), cut);
    }

    /// Ends a cut.
    pub(crate) fn heal(&mut self, instance: &InstanceId) {
        self.cut.remove(instance);
    }

    /// Whether nothing that needs an answer gets through to a machine.
    pub(crate) fn is_cut(&self, instance: &InstanceId) -> bool {
        self.cut.contains_key(instance)
    }
}
