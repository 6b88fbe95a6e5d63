//! One run of a coordinator, as the world sees it: the engine's ports with all that is in its
//! memory. What outlives it is the world's, or on a disk.

use std::{rc::Rc, time::Duration};

use calvin_engine::ports::{AgentLink, Catalogue, Clock, Images, Ports, Probe, Provider, Store};
use calvin_model::Epoch;
use calvin_planner::EnvironmentRules;

use crate::{
    agents::SimLink,
    catalogue::SimCatalogue,
    fuse::Fuse,
    image::SimImages,
    probe::SimProbe,
    provider::{NAME, SimProvider},
    store::SimStore,
};

/// Wall clock of the world's beginning: November 2023.
const WALL_BEGINNING_MS: u64 = 1_700_000_000_000;

/// A run of a coordinator, counted over the whole simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeskNumber(pub(crate) u64);

/// The clocks of one run.
#[derive(Debug, Default)]
pub(crate) struct SimClock {
    now: Duration,
    /// By how many millionths its monotonic clock is too fast.
    pub(crate) fast_ppm: u32,
    /// By how much its wall clock is ahead, in milliseconds.
    pub(crate) wall_ahead_ms: i64,
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        drifted(self.now, self.fast_ppm)
    }

    fn wall_ms(&self) -> u64 {
        let now = u64::try_from(self.now.as_millis()).unwrap_or(0);
        (WALL_BEGINNING_MS + now).saturating_add_signed(self.wall_ahead_ms)
    }
}

/// What a clock shows that is so much too fast, when the world's shows `now`.
pub(crate) fn drifted(now: Duration, fast_ppm: u32) -> Duration {
    if fast_ppm == 0 {
        return now;
    }
    now + now / 1_000 * fast_ppm / 1_000
}

/// One run of a coordinator.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) clock: SimClock,
    pub(crate) store: SimStore,
    pub(crate) provider: SimProvider,
    pub(crate) link: SimLink,
    pub(crate) catalogue: SimCatalogue,
    pub(crate) probe: SimProbe,
    pub(crate) images: Rc<SimImages>,
    pub(crate) rules: EnvironmentRules,
    pub(crate) fuse: Fuse,
    /// The epoch that it took, once it speaks.
    pub(crate) epoch: Option<Epoch>,
    /// When it looks next.
    pub(crate) due: Duration,
    /// Its process stands still until then.
    pub(crate) frozen_until: Duration,
    /// Fate ends its process.
    pub(crate) killed: bool,
    /// It works on a copy of the store.
    pub(crate) on_copy: bool,
}

impl Desk {
    /// Its parts know the time.
    pub(crate) fn set_now(&mut self, now: Duration) {
        self.clock.now = now;
        self.provider.now = now;
        self.link.now = now;
        self.probe.now = now;
    }

    /// Whether its process has ended.
    pub(crate) fn has_crashed(&self) -> bool {
        self.store.crashed || self.killed || self.fuse.is_burnt()
    }

    /// Whether its process stands still.
    pub(crate) fn is_frozen(&self, now: Duration) -> bool {
        now < self.frozen_until
    }

    /// There is something that it is to look at within `together`.
    pub(crate) fn poke(&mut self, at: Duration) {
        self.due = self.due.min(at).max(self.frozen_until);
    }
}

/// Where an engine finds its desk: only while it works at it. In between it is the world's.
#[derive(Debug, Default)]
pub(crate) struct Dock {
    desk: Option<Box<Desk>>,
}

impl Dock {
    pub(crate) fn new(desk: Box<Desk>) -> Self {
        Self { desk: Some(desk) }
    }

    pub(crate) fn put(&mut self, desk: Box<Desk>) {
        self.desk = Some(desk);
    }

    pub(crate) fn take(&mut self) -> Option<Box<Desk>> {
        self.desk.take()
    }

    /// # Panics
    /// An engine works without its desk: the runner puts it there before each pass and order.
    fn desk(&self) -> &Desk {
        match &self.desk {
            Some(desk) => desk,
            None => unreachable!("an engine works only at its desk"),
        }
    }

    /// # Panics
    /// As `desk`.
    fn desk_mut(&mut self) -> &mut Desk {
        match &mut self.desk {
            Some(desk) => desk,
            None => unreachable!("an engine works only at its desk"),
        }
    }
}

impl Ports for Dock {
    fn clock(&self) -> &dyn Clock {
        &self.desk().clock
    }

    fn rules(&self) -> EnvironmentRules {
        self.desk().rules.clone()
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.desk_mut().store
    }

    fn providers(&self) -> Vec<(&str, &dyn Provider)> {
        vec![(NAME, &self.desk().provider)]
    }

    fn provider(&mut self, name: &str) -> Option<&mut dyn Provider> {
        if name == NAME {
            Some(&mut self.desk_mut().provider)
        } else {
            None
        }
    }

    fn catalogue(&mut self) -> &mut dyn Catalogue {
        &mut self.desk_mut().catalogue
    }

    fn agents(&mut self) -> &mut dyn AgentLink {
        &mut self.desk_mut().link
    }

    fn probe(&mut self) -> &mut dyn Probe {
        &mut self.desk_mut().probe
    }

    fn images(&self) -> &dyn Images {
        &*self.desk().images
    }
}
