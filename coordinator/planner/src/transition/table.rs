//! The rows of the table, one function for each phase. Every cause is named in each: there is no
//! catch-all arm that a new one could slip through.

use super::Cause as C;
use crate::phase::Phase::{self, *};

/// The phase after `from`, if the table has such a row.
pub(super) fn row(from: Option<Phase>, cause: C) -> Option<Phase> {
    match from {
        None => from_idle(cause),
        Some(Provisioning) => from_provisioning(cause),
        Some(MakingRoom) => from_making_room(cause),
        Some(Soaking) => from_soaking(cause),
        Some(AwaitingSwitch) => from_awaiting_switch(cause),
        Some(Switching) => from_switching(cause),
        Some(Stopping) => from_stopping(cause),
        Some(Settling) => from_settling(cause),
        Some(Baking) => from_baking(cause),
        Some(AwaitingRetire) => from_awaiting_retire(cause),
        Some(Draining) => from_draining(cause),
        Some(Retiring) => from_retiring(cause),
        Some(RollingBack) => from_rolling_back(cause),
        Some(Done) => from_done(cause),
        Some(RolledBack) => from_rolled_back(cause),
        Some(Failed) => from_failed(cause),
    }
}

fn from_idle(cause: C) -> Option<Phase> {
    match cause {
        C::Started => Some(Provisioning),
        C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::GoBack
        | C::Restored
        | C::GivenUp
        | C::FleetDeleted => None,
    }
}

fn from_provisioning(cause: C) -> Option<Phase> {
    match cause {
        C::NeedsRoom => Some(MakingRoom),
        C::AllHealthy => Some(Soaking),
        C::GreenReplaced => Some(Provisioning),
        C::GoBack => Some(RollingBack),
        C::GivenUp | C::FleetDeleted => Some(Failed),
        C::Started
        | C::RoomMade
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored => None,
    }
}

fn from_making_room(cause: C) -> Option<Phase> {
    match cause {
        C::RoomMade => Some(Provisioning),
        C::GoBack => Some(RollingBack),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_soaking(cause: C) -> Option<Phase> {
    match cause {
        C::GreenReplaced => Some(Provisioning),
        C::Soaked => Some(Switching),
        C::NeedsApproval => Some(AwaitingSwitch),
        C::GoBack => Some(RollingBack),
        C::GivenUp | C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::Flapped
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored => None,
    }
}

fn from_awaiting_switch(cause: C) -> Option<Phase> {
    match cause {
        C::GreenReplaced => Some(Provisioning),
        C::Flapped => Some(Soaking),
        C::Approved => Some(Switching),
        C::GoBack => Some(RollingBack),
        C::GivenUp | C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::Soaked
        | C::NeedsApproval
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored => None,
    }
}

fn from_switching(cause: C) -> Option<Phase> {
    match cause {
        C::StopFirst => Some(Stopping),
        C::Switched => Some(Settling),
        C::SwitchedOnly => Some(Done),
        C::NextWave => Some(Provisioning),
        C::GoBack => Some(RollingBack),
        C::GivenUp | C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::Stopped
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored => None,
    }
}

fn from_stopping(cause: C) -> Option<Phase> {
    match cause {
        C::Stopped => Some(Switching),
        C::GoBack => Some(RollingBack),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_settling(cause: C) -> Option<Phase> {
    match cause {
        C::Settled => Some(Baking),
        C::GoBack => Some(RollingBack),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_baking(cause: C) -> Option<Phase> {
    match cause {
        C::Baked => Some(Draining),
        C::NeedsApproval => Some(AwaitingRetire),
        C::GoBack => Some(RollingBack),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Drained
        | C::Retired
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_awaiting_retire(cause: C) -> Option<Phase> {
    match cause {
        C::Approved => Some(Draining),
        C::GoBack => Some(RollingBack),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_draining(cause: C) -> Option<Phase> {
    match cause {
        C::Drained => Some(Retiring),
        C::GoBack => Some(RollingBack),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Retired
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_retiring(cause: C) -> Option<Phase> {
    match cause {
        C::NextWave => Some(Provisioning),
        C::Retired => Some(Done),
        C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::Settled
        | C::Baked
        | C::Drained
        | C::GoBack
        | C::Restored
        | C::GivenUp => None,
    }
}

fn from_rolling_back(cause: C) -> Option<Phase> {
    match cause {
        C::Restored => Some(RolledBack),
        C::GivenUp | C::FleetDeleted => Some(Failed),
        C::Started
        | C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::GoBack => None,
    }
}

fn from_done(cause: C) -> Option<Phase> {
    match cause {
        C::Started => Some(Provisioning),
        C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::GoBack
        | C::Restored
        | C::GivenUp
        | C::FleetDeleted => None,
    }
}

fn from_rolled_back(cause: C) -> Option<Phase> {
    match cause {
        C::Started => Some(Provisioning),
        C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::GoBack
        | C::Restored
        | C::GivenUp
        | C::FleetDeleted => None,
    }
}

fn from_failed(cause: C) -> Option<Phase> {
    match cause {
        C::Started => Some(Provisioning),
        C::NeedsRoom
        | C::RoomMade
        | C::AllHealthy
        | C::GreenReplaced
        | C::Flapped
        | C::Soaked
        | C::NeedsApproval
        | C::Approved
        | C::StopFirst
        | C::Stopped
        | C::Switched
        | C::SwitchedOnly
        | C::NextWave
        | C::Settled
        | C::Baked
        | C::Drained
        | C::Retired
        | C::GoBack
        | C::Restored
        | C::GivenUp
        | C::FleetDeleted => None,
    }
}
