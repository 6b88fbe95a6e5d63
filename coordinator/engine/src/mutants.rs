//! Faults on purpose, in the order of the loop itself: for tests, which must notice them.

use calvin_model::{FleetName, InstanceId, Mutant};
use calvin_planner::{DeleteBasis, FleetState, Plan};

use crate::{
    decide::Decide,
    engine::Engine,
    ports::{Batch, Ports},
    view::Notice,
};

impl<P: Ports, D: Decide> Engine<P, D> {
    /// What a mutant does before a plan is committed.
    pub(crate) fn misbehave(
        &mut self,
        plan: &Plan,
        batch: &mut Batch,
        ghosts: &[InstanceId],
        notices: &mut Vec<Notice>,
    ) {
        if Mutant::ForgetIntent.lives() {
            self.forget_intents(batch);
        }
        if Mutant::ActBeforeCommit.lives() {
            self.apply(batch.clone());
            self.act(plan, ghosts, notices);
        }
        if Mutant::DeleteStrays.lives() {
            self.delete_strays(notices);
        }
    }

    /// Keeps new instances in memory alone.
    fn forget_intents(&mut self, batch: &mut Batch) {
        let intends = |name: &FleetName, state: &FleetState| {
            let known = self.fleets.get(name);
            let mut instances = state.instances.keys();
            instances.any(|id| known.is_none_or(|known| !known.instances.contains_key(id)))
        };
        let (forgotten, kept) = std::mem::take(&mut batch.fleets)
            .into_iter()
            .partition(|(name, state)| state.as_ref().is_some_and(|state| intends(name, state)));
        batch.fleets = kept;
        self.apply(Batch {
            fleets: forgotten,
            ..Batch::default()
        });
    }

    fn delete_strays(&mut self, notices: &[Notice]) {
        for notice in notices {
            if let Notice::Stray {
                provider, instance, ..
            } = notice
                && let Some(provider) = self.ports.provider(provider)
            {
                provider.delete(instance, &DeleteBasis::Ordered);
            }
        }
    }
}
