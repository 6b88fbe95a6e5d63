//! One instance that is to have a machine, or has one: what is wanted of it, and what is there.

use std::{net::IpAddr, time::Instant};

use calvin_engine::ports::CreateOrder;
use calvin_planner::MachineState;
use calvin_proto::machine::ProcessId;

use super::super::{
    directories::Found,
    retry::{Fault, Retry},
};

/// One instance that is to have a machine, or has one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) wish: Wish,
    pub(super) machine: Option<Started>,
    pub(super) fault: Option<Fault>,
    /// A worker is at it.
    pub(super) busy: bool,
}

/// What the engine asked for last.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// Found on disk; nobody has asked for anything in this run.
    Keep,
    Create(CreateOrder),
    Delete,
}

/// A machine that was started once.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Started {
    pub(in super::super) address: IpAddr,
    /// Its first process; `None` when no record of it can be read.
    pub(in super::super) init: Option<ProcessId>,
    /// Whether that process was alive at the last look.
    pub(in super::super) runs: bool,
}

/// What a look found of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Seen {
    /// Its init is alive.
    Runs,
    /// Its init is gone, its directory is there.
    Stands,
    /// Somebody else removed its directory, and nothing of it runs.
    Gone,
}

impl Entry {
    /// One that was found on disk.
    pub(super) fn found(found: Found) -> Self {
        Self {
            wish: Wish::Keep,
            machine: Some(Started {
                address: found.address,
                init: found.init,
                runs: false,
            }),
            fault: None,
            busy: false,
        }
    }

    /// One that is wanted.
    pub(super) fn wanted(order: CreateOrder) -> Self {
        Self {
            wish: Wish::Create(order),
            machine: None,
            fault: None,
            busy: false,
        }
    }

    /// When there is something to do: `Some(None)` is at once.
    pub(super) fn due(&self) -> Option<Option<Instant>> {
        let is_open = match &self.wish {
            Wish::Keep => false,
            Wish::Create(_) => self.machine.is_none(),
            Wish::Delete => true,
        };
        if !is_open || self.busy {
            return None;
        }
        match &self.fault {
            None => Some(None),
            Some(fault) => fault.due().map(Some),
        }
    }

    /// `None` when there is no machine, and will be none.
    pub(super) fn state(&self) -> Option<MachineState> {
        let given_up = |fault: &Fault| fault.retry == Retry::Never;
        match (&self.wish, &self.machine) {
            (Wish::Delete, _) => Some(MachineState::Deleting),
            (Wish::Create(_) | Wish::Keep, Some(machine)) if machine.runs => {
                Some(MachineState::Running)
            }
            (Wish::Create(_) | Wish::Keep, Some(_)) => Some(MachineState::Stopped),
            (Wish::Create(_) | Wish::Keep, None) if self.fault.as_ref().is_some_and(given_up) => {
                None
            }
            (Wish::Create(_) | Wish::Keep, None) => Some(MachineState::Creating),
        }
    }
}
