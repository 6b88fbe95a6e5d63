//! What a coordinator says, and whether it counts.

use calvin_model::{Epoch, Mutant, Role, Wanted};

use crate::{
    lifecycle::{Lifecycle, Session},
    output::Output,
    refusal::Refusal,
};

impl Lifecycle {
    /// A coordinator is listened to if no newer one was. Its epoch is committed first: after a
    /// crash the agent must still refuse whom this one replaced.
    pub(crate) fn session_up(&mut self, session: Session, outputs: &mut Vec<Output>) {
        self.session_changed = self.now;
        if let Some(seen) = &self.newest_record().epoch
            && let Err(refusal) = seen.admit(&session.epoch)
        {
            let refusal = Refusal::Epoch(refusal);
            self.refused = Some(refusal.to_string());
            self.session = None;
            outputs.push(Output::EndSession(refusal));
            return;
        }
        if self.newest_record().epoch.as_ref() != Some(&session.epoch) {
            let epoch = session.epoch.clone();
            self.persist(outputs, |record| record.epoch = Some(epoch));
        }
        self.session = Some(session);
        self.reporting.forget_sent();
    }

    pub(crate) fn session_down(&mut self) {
        if self.session.take().is_some() {
            self.session_changed = self.now;
        }
    }

    pub(crate) fn wanted(&mut self, epoch: &Epoch, wanted: Wanted, outputs: &mut Vec<Output>) {
        match self.admit(epoch, &wanted) {
            Err(refusal) => {
                self.refused = Some(refusal.to_string());
                outputs.push(Output::Refused(refusal));
            }
            Ok(Told::Known) => {}
            Ok(Told::New) => self.persist(outputs, |record| record.wanted = Some(wanted)),
        }
    }

    fn admit(&self, epoch: &Epoch, wanted: &Wanted) -> Result<Told, Refusal> {
        let session = self.session.as_ref().ok_or(Refusal::NoSession)?;
        if *epoch != session.epoch {
            return Err(Refusal::OtherSpeaker {
                spoken: epoch.clone(),
                session: session.epoch.clone(),
            });
        }
        let generation = wanted.generation;
        if generation.0 == 0 {
            return Err(Refusal::NoGeneration);
        }
        if wanted.drain.is_some() != (wanted.role == Role::Draining) {
            return Err(Refusal::DrainOrder { generation });
        }
        let Some(seen) = self.newest_record().wanted else {
            return Ok(Told::New);
        };
        if generation < seen.generation && Mutant::TakeOlderGeneration.lives() {
            return Ok(Told::New);
        }
        if generation < seen.generation {
            return Err(Refusal::OlderGeneration {
                given: generation,
                seen: seen.generation,
            });
        }
        if generation > seen.generation {
            return Ok(Told::New);
        }
        if *wanted == seen {
            Ok(Told::Known)
        } else {
            Err(Refusal::OtherContent { generation })
        }
    }

    /// The session's coordinator may hear from us: that we listen to it is on disk.
    pub(crate) fn heard_session(&self) -> Option<&Session> {
        self.session
            .as_ref()
            .filter(|session| self.record.epoch.as_ref() == Some(&session.epoch))
    }
}

/// Whether an admitted wanted state says anything new.
enum Told {
    New,
    Known,
}
