//! What clients and a person at a screen would see, noted at regular times.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{CatalogueRole, FleetName};
use calvin_planner::{FleetState, Phase};

use super::World;
use crate::{event::Event, scenario::Scenario};

/// All fleets at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Each fleet.
    pub fleets: BTreeMap<FleetName, FleetSample>,
}

/// One fleet at one time: the truth, whatever anybody says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSample {
    /// The running rollout's phase.
    pub phase: Option<Phase>,
    /// The running rollout's wave, from 0.
    pub wave: u32,
    /// Active entries that answer.
    pub answering: usize,
    /// Active entries that do not.
    pub silent: usize,
    /// Of the active entries, those of the newest rollout's new image.
    pub active_new: usize,
    /// Those of any other.
    pub active_other: usize,
    /// Machines of the newest rollout's new image that work.
    pub new: usize,
    /// Machines of any other image that work.
    pub old: usize,
    /// Records of machines that are being made.
    pub making: usize,
}

/// Notes samples, where somebody wants them.
#[derive(Debug)]
pub(crate) struct Sampler {
    every: Option<Duration>,
    pub(crate) list: Vec<Sample>,
}

impl Sampler {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            every: scenario.sample_every,
            list: Vec::new(),
        }
    }
}

impl World {
    pub(super) fn sample(&mut self) {
        let Some(every) = self.sampler.every else {
            return;
        };
        self.queue.put(self.now + every, Event::Sample);
        let disk = self.disk.borrow();
        let fleets = disk.stored.fleets.iter();
        let fleets = fleets.map(|(name, fleet)| (name.clone(), self.look_at(name, fleet)));
        let sample = Sample {
            at: self.now,
            fleets: fleets.collect(),
        };
        drop(disk);
        self.sampler.list.push(sample);
    }

    fn look_at(&self, name: &FleetName, fleet: &FleetState) -> FleetSample {
        let running = fleet.running();
        let new_image = fleet.rollout.as_ref().map(|rollout| &rollout.to.image);
        let mut sample = FleetSample {
            phase: running.map(|rollout| rollout.phase),
            wave: running.map_or(0, |rollout| rollout.wave),
            answering: 0,
            silent: 0,
            active_new: 0,
            active_other: 0,
            new: 0,
            old: 0,
            making: 0,
        };
        for (id, record) in &fleet.instances {
            match self.running(id) {
                Some(_) if Some(&record.build.image) == new_image => sample.new += 1,
                Some(_) => sample.old += 1,
                None if record.life == calvin_planner::Life::Making => sample.making += 1,
                None => {}
            }
        }
        let entries = self.served.entries.iter();
        for entry in entries.filter(|entry| entry.fleet == *name) {
            if entry.role != CatalogueRole::Active {
                continue;
            }
            let answers = self
                .running_at(&entry.instance, entry.address)
                .is_some_and(|number| self.machine(number).answers(self.now));
            if answers {
                sample.answering += 1;
            } else {
                sample.silent += 1;
            }
            let record = fleet.instances.get(&entry.instance);
            if record.is_some_and(|record| Some(&record.build.image) == new_image) {
                sample.active_new += 1;
            } else {
                sample.active_other += 1;
            }
        }
        sample
    }
}
