//! Takes out of the catalogue what is left of who is gone: entries that no agent takes out, and nodes.
//! Each only if it is as it was read, and only with the lock.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use calvin_consul::{
    Consistency, Error,
    health::{CheckStatus, SERF_HEALTH},
    txn::{Op, Outcome},
};
use calvin_engine::View;
use calvin_model::InstanceId;
use tokio::time::Instant;

use super::Switcher;
use crate::catalogue::consul::{decide::Leftover, ghosts::People};

/// A machine without a record that lives is looked at again after this.
const STRAY_AGAIN: Duration = Duration::from_secs(10);

impl Switcher {
    /// Cleans up, as far as the lock allows it.
    pub(super) async fn clean(
        &mut self,
        view: &Arc<View>,
        known: &BTreeSet<InstanceId>,
        mut leftovers: Vec<Leftover>,
    ) -> Result<(), Error> {
        let people = People {
            environment: &self.environment,
            known,
            ever: &self.ever,
        };
        let asked = self.shared.state().ghosts.clone();
        if !asked.is_empty() {
            leftovers.extend(people.entries(&self.books, &asked));
        }
        let gone: Vec<(String, u64, InstanceId)> = people
            .nodes(&self.nodes)
            .into_iter()
            .map(|(node, id)| (node.name.clone(), node.modify_index, id))
            .collect();
        // One that stays holds up no other.
        let mut cleaned = Ok(());
        for leftover in leftovers {
            let taken = self.take_out(leftover).await;
            cleaned = cleaned.and(taken);
        }
        self.forget_asked(known, &asked);
        // Nobody decides: then nobody has just found out that somebody is gone.
        if view.held.is_none() {
            for (node, index, id) in gone {
                let taken = self.take_out_node(node, index, &id).await;
                cleaned = cleaned.and(taken);
            }
        }
        cleaned
    }

    /// Forgets what was asked for and is done.
    fn forget_asked(&self, known: &BTreeSet<InstanceId>, asked: &BTreeSet<InstanceId>) {
        if asked.is_empty() {
            return;
        }
        let ours = self.books.ours(&self.environment);
        let left: BTreeSet<InstanceId> = ours.map(|one| one.instance).collect();
        let mut state = self.shared.state();
        state
            .ghosts
            .retain(|id| !asked.contains(id) || (left.contains(id) && !known.contains(id)));
    }

    async fn take_out(&mut self, gone: Leftover) -> Result<(), Error> {
        let Some(guard) = self.shared.guard() else {
            return Ok(());
        };
        let delete = Op::ServiceDeleteCas {
            node: gone.node.clone(),
            id: gone.id.clone(),
            service: gone.service.clone(),
            index: gone.index,
        };
        match self.client.transaction(&[guard, delete]).await? {
            Outcome::Done(_) => {
                tracing::info!(
                    node = gone.node,
                    id = gone.id,
                    "took an entry of an instance that is gone out of Consul"
                );
                self.books.took_out(&gone);
                self.tell_history(&gone);
            }
            // Somebody changed it, or took it out: the next answer says which.
            Outcome::RolledBack(why) => {
                tracing::debug!(
                    node = gone.node,
                    id = gone.id,
                    ?why,
                    "an entry was not taken out"
                );
            }
        }
        Ok(())
    }

    fn tell_history(&self, gone: &Leftover) {
        // Only ours are taken out, and their ids end with the instance's.
        let Some((_, instance)) = gone.id.rsplit_once(':') else {
            return;
        };
        let Ok(instance) = instance.parse::<InstanceId>() else {
            return;
        };
        let text = format!(
            "what {instance} had left in Consul was taken out: {} on node {}",
            gone.id, gone.node
        );
        self.shared.did(self.ever.fleet(&instance), instance, text);
    }

    async fn take_out_node(
        &mut self,
        node: String,
        index: u64,
        id: &InstanceId,
    ) -> Result<(), Error> {
        if !self.ever.contains(id) && self.is_stray(&node).await? {
            return Ok(());
        }
        let Some(guard) = self.shared.guard() else {
            return Ok(());
        };
        let delete = Op::NodeDeleteCas {
            node: node.clone(),
            index,
        };
        match self.client.transaction(&[guard, delete]).await? {
            Outcome::Done(_) => {
                tracing::info!(
                    node,
                    "took the node of an instance that is gone out of Consul"
                );
                self.nodes.retain(|one| one.name != node);
                let fleet = self.ever.fleet(id);
                let text = format!("the node of {id}, which is gone, was taken out of Consul");
                self.shared.did(fleet, id.clone(), text);
            }
            Outcome::RolledBack(why) => {
                tracing::debug!(node, ?why, "a node was not taken out");
            }
        }
        Ok(())
    }

    /// Whether a machine that was never on record in this run lives. It is left alone then.
    async fn is_stray(&mut self, node: &str) -> Result<bool, Error> {
        let looked = self.strays.get(node);
        if looked.is_some_and(|at| at.elapsed() < STRAY_AGAIN) {
            return Ok(true);
        }
        let checks = self
            .client
            .node_checks(node, Consistency::Consistent)
            .await?;
        let lives = checks
            .value
            .iter()
            .any(|check| check.id == SERF_HEALTH && check.status == CheckStatus::Passing);
        if lives {
            let first = self
                .strays
                .insert(node.to_owned(), Instant::now())
                .is_none();
            if first {
                tracing::warn!(
                    node,
                    "a node that carries this environment's meta lives and has no record here: it is left alone; look at its machine, and delete it by hand if it is not needed"
                );
            }
        } else {
            self.strays.remove(node);
        }
        Ok(lives)
    }
}
