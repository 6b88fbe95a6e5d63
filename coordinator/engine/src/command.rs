//! Takes operators' orders: decided, committed, and in effect only then.

use calvin_planner::{Command, CommandInput, CommandOutcome, Refusal};

use crate::{
    decide::Decide,
    engine::{Engine, NotCommitted},
    ports::{Batch, HistoryLine, Ports, StoreError},
    recover::{RecoveryRefusal, taken_while_recovering},
};

/// Why an order was not taken. Nothing of it is in effect.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It does not fit the state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine decides nothing now.
    #[error(
        "the order is not taken, the coordinator holds: {reason}; give it again when calvin status shows no hold any more"
    )]
    Held {
        /// Why, with every cause.
        reason: String,
    },
    /// The coordinator recovers, and this must wait until a person has approved what was found.
    #[error(
        "the order is not taken, the coordinator recovers: {reason}; calvin recover show says what was found and how to go on"
    )]
    Recovering {
        /// Why it recovers.
        reason: String,
    },
    /// An approval is not taken.
    #[error(transparent)]
    Recovery(#[from] RecoveryRefusal),
    /// It could not be made durable. Where the store cannot tell whether it wrote, the engine
    /// reads it again before it goes on: look at the state before ordering the same again.
    #[error(
        "could not commit the order (look with calvin status whether it is in effect before it is given again)"
    )]
    NotCommitted(#[source] StoreError),
}

impl<P: Ports, D: Decide> Engine<P, D> {
    /// Takes an order of `who`, as the audit names operators. When it returns, the order is
    /// durable and in the view; the next pass acts on it.
    ///
    /// # Errors
    /// The order is not in effect.
    pub fn command(&mut self, order: &Command, who: &str) -> Result<CommandOutcome, CommandError> {
        let now = self.ports.clock().monotonic();
        if !self.ready(now) {
            self.clock.stand_still(now);
            self.publish_again(now);
            return Err(CommandError::Held {
                reason: self
                    .hold
                    .shown()
                    .map(|held| held.reason.clone())
                    .unwrap_or_default(),
            });
        }
        if let Some(recovery) = &self.recovery
            && !taken_while_recovering(order)
        {
            return Err(CommandError::Recovering {
                reason: recovery.reason().to_owned(),
            });
        }
        let moment = self.moment(now);
        let wall_ms = self.ports.clock().wall_ms();
        let input = CommandInput {
            now: moment,
            wall_ms,
            environment: &self.environment,
            rules: &self.rules,
            fleets: &self.fleets,
            windows: &self.observed.windows,
            gone: &self.gone,
        };
        let outcome = self.decide.command(&input, order, who)?;
        let unchanged = outcome.changes.is_empty() && outcome.environment.is_none();
        if unchanged && outcome.events.is_empty() {
            return Ok(outcome);
        }
        let changes = outcome.changes.iter();
        let events = outcome.events.iter();
        let batch = Batch {
            moment,
            environment: outcome.environment.clone(),
            fleets: changes
                .map(|(name, fleet)| (name.clone(), Some(fleet.clone())))
                .collect(),
            history: events
                .map(|event| HistoryLine {
                    wall_ms,
                    who: who.to_owned(),
                    event: event.clone(),
                })
                .collect(),
            ..Batch::default()
        };
        let committed = self.commit(batch);
        self.publish_again(now);
        match committed {
            Ok(()) => {
                tracing::info!(%who, lines = ?outcome.lines, "order taken");
                Ok(outcome)
            }
            Err(NotCommitted(error)) => Err(CommandError::NotCommitted(error)),
        }
    }
}
