//! The tags of many services changed together: the switch from one set of instances to another.
//!
//! One transaction over all of them, so that nobody ever sees half of it; over Consul's limit of
//! operations as few as it takes, in the order given. Then it is read back with a consistent read,
//! not believed.
//!
//! The services must have been registered with `EnableTagOverride`: without it the Consul agent that
//! registered one writes its own tags over these at its next anti-entropy ("Service tag drift" of the
//! documentation's "Anti-entropy").

use crate::{
    catalog::CatalogService,
    client::Client,
    error::Error,
    names::{InvalidName, Problem, check_tags},
    query::Consistency,
    txn::{OPS_MAX, Op, OpFailure, OpResult, Outcome},
};

/// New tags for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    /// Its node.
    pub node: String,
    /// The service as just read: it is written back whole, and only if it has not changed since.
    pub service: CatalogService,
    /// Its new tags.
    pub tags: Vec<String>,
}

/// What became of a change of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the tags may not be what they should"]
pub enum TagsOutcome {
    /// Every service was read back with its new tags.
    Held(Held),
    /// Something was not as read: a service changed meanwhile or is gone, or a guard no longer holds.
    /// `done` services, from the first, have their new tags all the same; nothing after them.
    Stopped {
        /// How many were changed.
        done: usize,
        /// Why. Places are those of the changes; `usize::MAX` is a guard.
        failures: Vec<OpFailure>,
    },
    /// All was done, but these services were read back with other tags, or not at all.
    Undone {
        /// Their places.
        places: Vec<usize>,
    },
}

/// A change of tags that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How many transactions it took.
    pub transactions: usize,
    /// The services as read back, in the order of the changes.
    pub services: Vec<CatalogService>,
}

/// Why a change cannot be made at all. Pure.
fn check(change: &TagChange) -> Result<(), InvalidName> {
    check_tags(&change.tags)?;
    let says = if !change.service.kind.is_empty() {
        // A transaction carries only part of what proxies and gateways are.
        "is a proxy or gateway, which a transaction would leave incomplete"
    } else if !change.service.enable_tag_override {
        "was registered without EnableTagOverride, so its agent would undo it"
    } else {
        return Ok(());
    };
    Err(InvalidName {
        kind: "service id",
        text: change.service.id.clone(),
        problem: Problem::Rule(says),
    })
}

impl Client {
    /// Changes the tags of these services, in their order, and reads them back. `guards` hold or
    /// nothing is done: usually [`Op::CheckSession`] on the coordinator's lock. Needs `service:write`
    /// on their names, `node:read` on their nodes, and what the guards need.
    ///
    /// # Errors
    /// Where a change cannot be made, the token may not make it, or Consul does not answer. In the
    /// last case it may have been made: read the services again.
    pub async fn change_tags(
        &self,
        guards: &[Op],
        changes: &[TagChange],
    ) -> Result<TagsOutcome, Error> {
        let tried = || format!("change the tags of {} services", changes.len());
        let mut ops = Vec::new();
        for change in changes {
            check(change).map_err(|error| Error::new(tried(), error))?;
            let mut service = change.service.clone();
            service.tags.clone_from(&change.tags);
            ops.push(Op::ServiceCas {
                node: change.node.clone(),
                service: Box::new(service),
            });
        }
        let parts = self.transactions(guards, &ops).await?;
        if !parts.is_whole() {
            return Ok(TagsOutcome::Stopped {
                done: parts.done.iter().map(ExactSizeIterator::len).sum(),
                failures: parts.stopped,
            });
        }
        let mut services = Vec::new();
        let mut places = Vec::new();
        for (part, chunk) in changes.chunks(OPS_MAX).enumerate() {
            let first = part * OPS_MAX;
            match self.read_back(chunk).await? {
                ReadBack::Services(read) => {
                    for (index, (change, service)) in chunk.iter().zip(&read).enumerate() {
                        if service.tags != change.tags || service.id != change.service.id {
                            places.push(first + index);
                        }
                    }
                    services.extend(read);
                }
                ReadBack::Gone(gone) => places.extend(gone.iter().map(|index| first + index)),
            }
        }
        if places.is_empty() {
            let transactions = parts.done.len();
            Ok(TagsOutcome::Held(Held {
                transactions,
                services,
            }))
        } else {
            Ok(TagsOutcome::Undone { places })
        }
    }

    async fn read_back(&self, changes: &[TagChange]) -> Result<ReadBack, Error> {
        let get = |change: &TagChange| Op::ServiceGet {
            node: change.node.clone(),
            id: change.service.id.clone(),
        };
        let ops: Vec<_> = changes.iter().map(get).collect();
        match self.transaction_read(&ops, Consistency::Consistent).await? {
            Outcome::RolledBack(failures) => Ok(ReadBack::Gone(
                failures.iter().map(|failure| failure.op_index).collect(),
            )),
            Outcome::Done(results) => {
                let service = |result| match result {
                    OpResult::Service(service) => Some(service),
                    OpResult::Kv(_) => None,
                };
                let read: Vec<_> = results.into_iter().filter_map(service).collect();
                if read.len() == changes.len() {
                    Ok(ReadBack::Services(read))
                } else {
                    // Fewer than asked for, without a word why: none of them is proved.
                    Ok(ReadBack::Gone((0..changes.len()).collect()))
                }
            }
        }
    }
}

enum ReadBack {
    Services(Vec<CatalogService>),
    /// The places of those that are not there.
    Gone(Vec<usize>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_an_agent_would_undo_are_not_changed() {
        let mut change = TagChange {
            node: "n".into(),
            service: CatalogService {
                id: "web-1".into(),
                service: "web".into(),
                enable_tag_override: true,
                ..CatalogService::default()
            },
            tags: vec!["active".into()],
        };
        check(&change).unwrap();
        change.service.enable_tag_override = false;
        let error = check(&change).unwrap_err().to_string();
        assert!(error.contains("EnableTagOverride"), "{error}");
        change.service.enable_tag_override = true;
        change.service.kind = "connect-proxy".into();
        assert!(check(&change).is_err());
        change.service.kind.clear();
        change.tags = vec!["a\n".into()];
        assert!(check(&change).is_err());
    }
}
