//! The one table of how a rollout's phase may change. Every pair of phase and cause is named, so
//! that a new phase or a new cause does not compile until somebody has thought about each.

mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::phase::Phase;

/// What changes a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A rollout starts.
    Started,
    /// The wave may have nothing on top: what it replaces leaves first.
    NeedsRoom,
    /// What the wave replaces is gone: its greens can be made.
    RoomMade,
    /// Every green of the wave is healthy.
    AllHealthy,
    /// A green failed and another is made.
    GreenReplaced,
    /// A green was not healthy while a person was waited for.
    Flapped,
    /// Every green was healthy for `min_healthy` without a break.
    Soaked,
    /// A person is to decide whether it goes on.
    NeedsApproval,
    /// Enough persons have approved.
    Approved,
    /// Never two may be active: blue's work is stopped before green's begins.
    StopFirst,
    /// Blue's work is known to have stopped.
    Stopped,
    /// Green is active, blue stands by, and that was read back.
    Switched,
    /// Green is active, read back, and there was nothing to replace: the last wave.
    SwitchedOnly,
    /// The wave is complete and another follows.
    NextWave,
    /// Nobody uses blue's addresses any more, or they had their time.
    Settled,
    /// Green has proved itself under traffic.
    Baked,
    /// Blue has finished what it had.
    Drained,
    /// Nothing of blue is left: the last wave.
    Retired,
    /// Something is wrong, or an operator wants the old image.
    GoBack,
    /// Blue serves and nothing of green is left.
    Restored,
    /// Something is wrong, and there is nothing to go back to.
    GivenUp,
    /// The fleet is being deleted.
    FleetDeleted,
}

/// A change of phase that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no rollout goes on from {} because {cause}", from.map_or("idle", Phase::as_str))]
pub struct IllegalTransition {
    /// The phase; `None` is a fleet that never had a rollout.
    pub from: Option<Phase>,
    /// What was to change it.
    pub cause: Cause,
}

impl Cause {
    /// All causes, in the order of a rollout.
    pub const ALL: [Self; 22] = [
        Self::Started,
        Self::NeedsRoom,
        Self::RoomMade,
        Self::AllHealthy,
        Self::GreenReplaced,
        Self::Flapped,
        Self::Soaked,
        Self::NeedsApproval,
        Self::Approved,
        Self::StopFirst,
        Self::Stopped,
        Self::Switched,
        Self::SwitchedOnly,
        Self::NextWave,
        Self::Settled,
        Self::Baked,
        Self::Drained,
        Self::Retired,
        Self::GoBack,
        Self::Restored,
        Self::GivenUp,
        Self::FleetDeleted,
    ];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Started => "a rollout starts",
            Self::NeedsRoom => "room is made first",
            Self::RoomMade => "room is made",
            Self::AllHealthy => "every green is healthy",
            Self::GreenReplaced => "a green is replaced",
            Self::Flapped => "a green flapped",
            Self::Soaked => "every green soaked",
            Self::NeedsApproval => "a person is to approve",
            Self::Approved => "it is approved",
            Self::StopFirst => "blue's work is stopped first",
            Self::Stopped => "blue's work has stopped",
            Self::Switched => "the switch was read back",
            Self::SwitchedOnly => "the last greens are active and nothing was replaced",
            Self::NextWave => "the next wave begins",
            Self::Settled => "clients have settled",
            Self::Baked => "green baked",
            Self::Drained => "blue is drained",
            Self::Retired => "blue is gone",
            Self::GoBack => "it goes back",
            Self::Restored => "blue is restored",
            Self::GivenUp => "it is given up",
            Self::FleetDeleted => "the fleet is deleted",
        })
    }
}

/// The phase after `from`, because of `cause`.
///
/// # Errors
/// Every pair that is not a row of the table.
pub fn transition(from: Option<Phase>, cause: Cause) -> Result<Phase, IllegalTransition> {
    table::row(from, cause).ok_or(IllegalTransition { from, cause })
}

/// What a pause does to a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhilePaused {
    /// It does not happen: the rollout would go on.
    Held,
    /// It happens all the same: the rollout goes back or ends.
    Happens,
}

/// Whether a cause changes the phase of a rollout that is paused.
#[must_use]
pub fn while_paused(cause: Cause) -> WhilePaused {
    match cause {
        Cause::NeedsRoom
        | Cause::RoomMade
        | Cause::AllHealthy
        | Cause::GreenReplaced
        | Cause::Soaked
        | Cause::NeedsApproval
        | Cause::Approved
        | Cause::StopFirst
        | Cause::Switched
        | Cause::SwitchedOnly
        | Cause::NextWave
        | Cause::Settled
        | Cause::Baked
        | Cause::Drained => WhilePaused::Held,
        // What is not started cannot be paused; what flapped goes back to its soak; blue whose work
        // has stopped must not stay so while green's has not begun; and where nothing of the last
        // blue is left, there is nothing to hold.
        Cause::Started
        | Cause::Flapped
        | Cause::Stopped
        | Cause::Retired
        | Cause::GoBack
        | Cause::Restored
        | Cause::GivenUp
        | Cause::FleetDeleted => WhilePaused::Happens,
    }
}

/// The table as a Mermaid state diagram, for the documentation.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for from in std::iter::once(None).chain(Phase::ALL.map(Some)) {
        for cause in Cause::ALL {
            if let Ok(to) = transition(from, cause) {
                let from = from.map_or("[*]", Phase::as_str);
                let paused = match while_paused(cause) {
                    WhilePaused::Held => ", not while paused",
                    WhilePaused::Happens => "",
                };
                text.push_str(&format!("    {from} --> {to}: {cause}{paused}\n"));
            }
        }
    }
    text
}
