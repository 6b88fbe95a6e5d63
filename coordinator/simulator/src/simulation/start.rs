//! How a coordinator's process starts: on the store, or on a copy of it.

use std::{sync::Arc, time::Duration};

use calvin_engine::{Decide, Engine};
use calvin_model::RunId;

use super::{Run, Runner};
use crate::{
    desk::{Desk, DeskNumber, Dock},
    store::Copies,
    world::Copy,
};

/// How long it takes somebody to read why a coordinator did not start.
const READS: Duration = Duration::from_secs(5);

impl<D: Decide + Clone> Runner<'_, D> {
    /// A coordinator's process starts, on what is on the disk.
    pub(super) fn start(&mut self) {
        let opened = self.world.disk.borrow_mut().open(self.copies);
        if let Err(why) = opened {
            self.world
                .note(format_args!("the coordinator does not start: {why}"));
            self.copies = Copies::Adopted;
            self.start_at = Some(self.world.now() + READS);
            return;
        }
        self.copies = Copies::Refused;
        let desk = self.world.new_desk();
        self.start_at_desk(desk);
    }

    /// One starts on a copy of the store, where that is taken.
    pub(super) fn start_on_copy(&mut self, copy: Copy) {
        if let Some(desk) = self.world.desk_on_copy(copy.copies)
            && let Some(number) = self.start_at_desk(desk)
        {
            self.world.end_copy_after(number, copy.stays);
        }
    }

    /// Gives its number, if it comes up: what it had is gone with it otherwise.
    fn start_at_desk(&mut self, desk: Box<Desk>) -> Option<DeskNumber> {
        self.started += 1;
        let number = DeskNumber(self.started);
        let on_copy = desk.on_copy;
        let seed = self.random.u64(..);
        let decide = self.decide.clone();
        let run = run_id(self.started);
        let mut engine = Engine::start_with(Dock::new(desk), decide, run, seed).ok()?;
        let epoch = engine.epoch().clone();
        let desk = engine.ports_mut().take()?;
        self.world.speak(number, desk, &epoch);
        self.runs.push(Run {
            number,
            on_copy,
            engine,
            notices: Arc::default(),
        });
        Some(number)
    }
}

/// # Panics
/// Never: hexadecimal digits are a run id.
fn run_id(number: u64) -> RunId {
    match format!("{number:08x}").parse() {
        Ok(run) => run,
        Err(error) => unreachable!("the simulator's own run id: {error}"),
    }
}
