//! Why the agent does not do what a coordinator said.

use calvin_model::{Epoch, EpochRefusal, Generation};

/// Why something that a coordinator said changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The coordinator was replaced since, or works on a copy of the store.
    #[error("{0}")]
    Epoch(EpochRefusal),
    /// Within a session, another coordinator's word.
    #[error("a wanted state of epoch {spoken} came over a session of epoch {session}")]
    OtherSpeaker {
        /// Whose word it was.
        spoken: Epoch,
        /// Whose session it is.
        session: Epoch,
    },
    /// Outside of any session.
    #[error("a wanted state came without a session")]
    NoSession,
    /// A newer wanted state was seen already.
    #[error("generation {given} is older than generation {seen}, which was seen already")]
    OlderGeneration {
        /// What was said.
        given: Generation,
        /// The newest seen.
        seen: Generation,
    },
    /// One number, two meanings.
    #[error("generation {generation} was given before with another content")]
    OtherContent {
        /// The number.
        generation: Generation,
    },
    /// Zero means that none was seen.
    #[error("generation 0 is none")]
    NoGeneration,
    /// Draining needs a reason and a deadline; the other roles have neither.
    #[error("generation {generation} has a drain order without draining, or drains without one")]
    DrainOrder {
        /// Which one.
        generation: Generation,
    },
}
