//! What runs beside the workload under a name. Each is driven as the workload is, with its output in
//! a bounded file of its own.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use calvin_model::image::StopSignal;
use calvin_proto::machine::{MachineFiles, ProcessId};

use super::{
    console::{BoundedLog, Tap},
    workload::Workload,
};
use crate::workload::{End, UnitName, UnitState, WorkloadSpec};

/// Units of one machine: one for each server that a machine joins, and some to spare.
const UNITS_MAX: usize = 8;
/// Each of the two files of a unit: a day of what a Consul client writes in trouble.
const LOG_FILE_BYTES: u64 = 1024 * 1024;

/// All units of the machine.
#[derive(Debug)]
pub(super) struct Units {
    files: MachineFiles,
    units: BTreeMap<UnitName, Unit>,
}

#[derive(Debug)]
struct Unit {
    process: Workload,
    output: Tap,
}

impl Units {
    /// None yet.
    pub(super) fn new(files: MachineFiles) -> Self {
        Self {
            files,
            units: BTreeMap::new(),
        }
    }

    /// Wants one to run. Returns why not.
    pub(super) fn start(
        &mut self,
        name: UnitName,
        spec: WorkloadSpec,
        now: Instant,
    ) -> Option<String> {
        if let Some(unit) = self.units.get_mut(&name) {
            return unit.process.start(spec, now);
        }
        if self.units.len() >= UNITS_MAX {
            return Some(format!("there are {UNITS_MAX} units already"));
        }
        let path = self.files.unit_log(name.as_str());
        match Tap::new(BoundedLog::open(&path, LOG_FILE_BYTES)) {
            Ok(output) => {
                let process = Workload::new();
                let unit = self.units.entry(name).or_insert(Unit { process, output });
                unit.process.start(spec, now)
            }
            Err(error) => Some(format!("could not make a pipe for {name}: {error}")),
        }
    }

    /// Wants one not to run. One that never did does not.
    pub(super) fn stop(
        &mut self,
        name: &UnitName,
        signal: StopSignal,
        timeout: Duration,
        now: Instant,
    ) {
        if let Some(unit) = self.units.get_mut(name) {
            unit.process.stop(signal, timeout, now);
        }
    }

    /// Stops all, each as its own spec says.
    pub(super) fn stop_as_specified(&mut self, now: Instant) {
        for unit in self.units.values_mut() {
            unit.process.stop_as_specified(now);
        }
    }

    /// Whoever stops the machine does not want to wait for them.
    pub(super) fn kill(&mut self, now: Instant) {
        for unit in self.units.values_mut() {
            unit.process.stop(StopSignal::Term, Duration::ZERO, now);
        }
    }

    /// Whether the one of this name has a process.
    pub(super) fn runs(&self, name: &UnitName) -> bool {
        let unit = self.units.get(name);
        unit.is_some_and(|unit| unit.process.process().is_some())
    }

    /// Whether none of them has a process.
    pub(super) fn are_stopped(&self) -> bool {
        let mut units = self.units.values();
        units.all(|unit| unit.process.process().is_none())
    }

    /// Starts and kills what is due. Returns what to write down; `None` where nothing changed.
    pub(super) fn tick(&mut self, now: Instant, random: f64) -> Option<Vec<String>> {
        let mut changed = None;
        for (name, Unit { process, output }) in &mut self.units {
            let had_fault = process.fault.clone();
            if !process.tick(now, random, || output.writer()) {
                continue;
            }
            let notes: &mut Vec<String> = changed.get_or_insert_default();
            if let Some(fault) = process.fault.as_ref().filter(|_| had_fault.is_none()) {
                notes.push(format!("unit {name}: {fault}"));
            }
        }
        changed
    }

    /// The process of this number has ended, and is not reaped yet. Returns what to write down, if
    /// it was one of a unit.
    pub(super) fn ended(
        &mut self,
        pid: i32,
        end: End,
        now: Instant,
        random: f64,
    ) -> Option<String> {
        let is = |unit: &Unit| unit.process.process().is_some_and(|own| own.pid == pid);
        let (name, unit) = self.units.iter_mut().find(|(_, unit)| is(unit))?;
        unit.process.ended(end, now, random);
        Some(format!("unit {name}, pid {pid}, ended with {end}"))
    }

    /// Copies what they have written.
    pub(super) fn drain(&mut self) {
        for unit in self.units.values_mut() {
            unit.output.drain();
        }
    }

    /// What to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.units.values().map(|unit| unit.output.as_fd())
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.units.values().filter_map(|unit| unit.process.due());
        due.min()
    }

    /// Their processes, for the machine's record.
    pub(super) fn processes(&self) -> BTreeMap<String, ProcessId> {
        let process = |(name, unit): (&UnitName, &Unit)| {
            let process = unit.process.process()?;
            Some((name.as_str().to_owned(), process))
        };
        self.units.iter().filter_map(process).collect()
    }

    /// How they are.
    pub(super) fn states(&self, now: Instant) -> BTreeMap<UnitName, UnitState> {
        let ms = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let state = |process: &Workload| UnitState {
            state: process.state(),
            pid: process.process().map(|process| process.pid),
            starts: process.starts,
            last_end: process.last_end,
            fault: process.fault.clone(),
            restart_in_ms: process.restart_in(now).map(ms),
        };
        let units = self.units.iter();
        units
            .map(|(name, unit)| (name.clone(), state(&unit.process)))
            .collect()
    }
}
