//! Takes out of the catalogue what is left of who is gone: entries that no agent takes out, and nodes.
//! Each only if it is as it was read, and only with the lock.
//!
//! It is nothing that anybody waits for, so a look does a few of them, and stops where Consul does not answer:
//! what is read and what the engine wants come before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_consul::{
    Error,
    txn::{Op, Outcome},
};
use calvin_engine::View;
use calvin_model::InstanceId;
use tokio::time::Instant;

use super::{
    Switcher,
    turns::{Pace, in_turn},
};
use crate::catalogue::consul::{decide::Leftover, faults::About, ghosts::People};

/// A machine without a record that lives is looked at again after this.
const STRAY_AGAIN: Duration = Duration::from_secs(10);

/// Taken out in one look: some tens of milliseconds, and the next look follows at once.
const AT_ONCE: usize = 16;
/// After Consul did not answer it is left alone for so long.
const AGAIN: Duration = Duration::from_secs(5);

/// What is to be taken out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Gone {
    Entry(Leftover),
    /// A node by its name and index, and whose it is.
    Node(String, u64, InstanceId),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Out,
    /// It stays for now.
    Not,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    /// What was tried last.
    last: Option<Gone>,
    /// What could not be taken out when that was tried last.
    stuck: BTreeSet<Gone>,
    /// Not before this.
    again: Option<Instant>,
    /// Names under which something may be left, and that could not be read.
    pub(super) unread: BTreeMap<String, Error>,
}

impl Switcher {
    /// Cleans up, as far as the lock and the time allow it.
    pub(super) async fn clean(
        &mut self,
        view: &Arc<View>,
        known: &BTreeSet<InstanceId>,
        leftovers: Vec<Leftover>,
        pace: &Pace,
    ) {
        let now = Instant::now();
        if self.cleaning.again.is_some_and(|again| now < again) {
            return;
        }
        let asked = self.shared.state().ghosts.clone();
        let gone = self.gone(view, known, leftovers, &asked);
        self.cleaning.stuck.retain(|one| gone.contains(one));
        let (mut tried, mut out) = (0, 0);
        let turns = in_turn(&gone, self.cleaning.last.as_ref());
        for one in turns.into_iter().take(AT_ONCE) {
            if pace.is_over() {
                break;
            }
            tried += 1;
            self.cleaning.last = Some(one.clone());
            match self.take_out(&one).await {
                Ok(taken) => {
                    out += usize::from(taken == Taken::Out);
                    self.cleaning.stuck.remove(&one);
                }
                Err(error) => {
                    self.shared.failed(&About::Leftovers, &error);
                    self.cleaning.stuck.insert(one);
                    // One that stays holds up no other, and Consul that does not answer all of them.
                    if error.is_transient() {
                        self.cleaning.again = Some(Instant::now() + AGAIN);
                        break;
                    }
                }
            }
        }
        if self.cleaning.stuck.is_empty() {
            match self.cleaning.unread.values().next() {
                Some(error) => self.shared.failed(&About::Leftovers, error),
                None => self.shared.works(&About::Leftovers),
            }
        }
        self.forget_asked(known, &asked);
        if out > 0 && tried < gone.len() {
            self.shared.tell_task();
        }
    }

    /// All that is to be taken out.
    fn gone(
        &self,
        view: &View,
        known: &BTreeSet<InstanceId>,
        leftovers: Vec<Leftover>,
        asked: &BTreeSet<InstanceId>,
    ) -> BTreeSet<Gone> {
        let people = People {
            owners: &self.owners,
            known,
            ever: &self.ever,
        };
        let mut gone: BTreeSet<Gone> = leftovers.into_iter().map(Gone::Entry).collect();
        if !asked.is_empty() {
            gone.extend(
                people
                    .entries(&self.books, asked)
                    .into_iter()
                    .map(Gone::Entry),
            );
        }
        // Nobody decides: then nobody has just found out that somebody is gone.
        if view.held.is_none() {
            let nodes = people.nodes(&self.nodes).into_iter();
            gone.extend(
                nodes.map(|(node, id)| Gone::Node(node.name.clone(), node.modify_index, id)),
            );
        }
        gone
    }

    async fn take_out(&mut self, gone: &Gone) -> Result<Taken, Error> {
        match gone {
            Gone::Entry(leftover) => self.take_out_entry(leftover).await,
            Gone::Node(node, index, id) => self.take_out_node(node, *index, id).await,
        }
    }

    /// Forgets what was asked for and is done.
    fn forget_asked(&self, known: &BTreeSet<InstanceId>, asked: &BTreeSet<InstanceId>) {
        if asked.is_empty() {
            return;
        }
        let ours = self.owners.ours(&self.books);
        let left: BTreeSet<InstanceId> = ours.map(|one| one.instance).collect();
        let mut state = self.shared.state();
        state
            .ghosts
            .retain(|id| !asked.contains(id) || (left.contains(id) && !known.contains(id)));
    }

    async fn take_out_entry(&mut self, gone: &Leftover) -> Result<Taken, Error> {
        let Some(guard) = self.shared.guard() else {
            return Ok(Taken::Not);
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
                self.books.took_out(gone);
                self.tell_history(gone);
                Ok(Taken::Out)
            }
            // Somebody changed it, or took it out: the next answer says which.
            Outcome::RolledBack(why) => {
                tracing::debug!(
                    node = gone.node,
                    id = gone.id,
                    ?why,
                    "an entry was not taken out"
                );
                Ok(Taken::Not)
            }
        }
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
        node: &str,
        index: u64,
        id: &InstanceId,
    ) -> Result<Taken, Error> {
        if !self.ever.contains(id) && self.is_stray(node).await? {
            return Ok(Taken::Not);
        }
        let Some(guard) = self.shared.guard() else {
            return Ok(Taken::Not);
        };
        let delete = Op::NodeDeleteCas {
            node: node.to_owned(),
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
                let text = format!(
                    "the node of {id}, which is gone, was taken out of Consul with all that was left on it"
                );
                self.shared.did(fleet, id.clone(), text);
                Ok(Taken::Out)
            }
            Outcome::RolledBack(why) => {
                tracing::debug!(node, ?why, "a node was not taken out");
                Ok(Taken::Not)
            }
        }
    }

    /// Whether a machine that was never on record in this run lives. It is left alone then.
    async fn is_stray(&mut self, node: &str) -> Result<bool, Error> {
        let looked = self.strays.get(node);
        if looked.is_some_and(|at| at.elapsed() < STRAY_AGAIN) {
            return Ok(true);
        }
        let lives = self.client.node_lives(node).await?;
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
