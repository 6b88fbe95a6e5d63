//! Transactions (the documentation's "Transactions HTTP API"): several operations, all or none.
//!
//! There is no operation here that deletes by prefix.

mod split;
mod wire;

use std::ops::Range;

use serde::Deserialize;

pub use split::{OPS_MAX, SIZE_MAX, SplitError, split};

use crate::{
    catalog::CatalogService,
    client::Client,
    error::{Error, MissingRule, Reason},
    kv::Entry,
    names::{InvalidName, Key, check_id, check_meta, check_service, check_tags},
    query::Consistency,
    request::{Answer, Request},
    session::SessionId,
};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Fails unless this session has the lock on the key. A leader's write begins with it.
    CheckSession {
        /// The key.
        key: Key,
        /// The session.
        session: SessionId,
    },
    /// Fails unless the entry has this modify index.
    CheckIndex {
        /// The key.
        key: Key,
        /// The index.
        index: u64,
    },
    /// Fails if there is such an entry.
    CheckAbsent {
        /// The key.
        key: Key,
    },
    /// Reads an entry; fails where there is none.
    KvGet {
        /// The key.
        key: Key,
    },
    /// Writes an entry.
    KvSet {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
    },
    /// Writes an entry that has this modify index; zero is one that is not there.
    KvCas {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
        /// The index.
        index: u64,
    },
    /// Takes the lock on an entry and writes it.
    KvLock {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
        /// For whom.
        session: SessionId,
    },
    /// Gives the lock on an entry back and writes it.
    KvUnlock {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
        /// Whose it is.
        session: SessionId,
    },
    /// Deletes exactly this entry.
    KvDelete {
        /// The key.
        key: Key,
    },
    /// Deletes exactly this entry if it has this modify index.
    KvDeleteCas {
        /// The key.
        key: Key,
        /// The index.
        index: u64,
    },
    /// Reads a service; fails where there is none.
    ServiceGet {
        /// Its node.
        node: String,
        /// Its id.
        id: String,
    },
    /// Writes a service, all of it, if it has the modify index that is in it.
    ServiceCas {
        /// Its node.
        node: String,
        /// The service as read, with what is to change.
        service: Box<CatalogService>,
    },
    /// Takes a service out of the catalogue if it has this modify index, so none that was made anew.
    ServiceDeleteCas {
        /// Its node.
        node: String,
        /// Its id.
        id: String,
        /// Its name, for the token's sake.
        service: String,
        /// The index.
        index: u64,
    },
    /// Takes a node with all that it runs out of the catalogue if it has this modify index.
    NodeDeleteCas {
        /// Its name.
        node: String,
        /// The index.
        index: u64,
    },
}

/// What an operation gave. Those that delete or check give nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// An entry; of writes without its value.
    Kv(Entry),
    /// A service.
    Service(CatalogService),
}

/// Why an operation kept its transaction from being done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpFailure {
    /// The operation, by its place in what was given.
    pub op_index: usize,
    /// What Consul said.
    pub what: String,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing may have been done"]
pub enum Outcome {
    /// All of it is done.
    Done(Vec<OpResult>),
    /// Nothing of it is done: something is not as expected.
    RolledBack(Vec<OpFailure>),
}

/// What became of operations that took several transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "part of it may not have been done"]
pub struct Parts {
    /// The operations of each transaction that was done, by their places in what was given.
    pub done: Vec<Range<usize>>,
    /// Why the next one was not done; nothing after it was tried. Places are those in what was given;
    /// a guard that failed is told apart by [`OpFailure::op_index`] being `usize::MAX`.
    pub stopped: Vec<OpFailure>,
    /// What they gave.
    pub results: Vec<OpResult>,
}

impl Parts {
    /// Whether all is done.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.stopped.is_empty()
    }
}

impl Op {
    /// Whether it can be sent.
    ///
    /// # Errors
    /// The first name that cannot.
    pub fn check(&self) -> Result<(), InvalidName> {
        match self {
            Self::CheckSession { .. }
            | Self::CheckIndex { .. }
            | Self::CheckAbsent { .. }
            | Self::KvGet { .. }
            | Self::KvSet { .. }
            | Self::KvCas { .. }
            | Self::KvLock { .. }
            | Self::KvUnlock { .. }
            | Self::KvDelete { .. }
            | Self::KvDeleteCas { .. } => Ok(()),
            Self::ServiceGet { node, id } | Self::ServiceDeleteCas { node, id, .. } => {
                check_id("node name", node)?;
                check_id("service id", id)
            }
            Self::ServiceCas { node, service } => {
                check_id("node name", node)?;
                check_id("service id", &service.id)?;
                check_service(&service.service)?;
                check_tags(&service.tags)?;
                check_meta(&service.meta)
            }
            Self::NodeDeleteCas { node, .. } => check_id("node name", node),
        }
    }

    fn only_reads(&self) -> bool {
        match self {
            Self::CheckSession { .. }
            | Self::CheckIndex { .. }
            | Self::CheckAbsent { .. }
            | Self::KvGet { .. }
            | Self::ServiceGet { .. } => true,
            Self::KvSet { .. }
            | Self::KvCas { .. }
            | Self::KvLock { .. }
            | Self::KvUnlock { .. }
            | Self::KvDelete { .. }
            | Self::KvDeleteCas { .. }
            | Self::ServiceCas { .. }
            | Self::ServiceDeleteCas { .. }
            | Self::NodeDeleteCas { .. } => false,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TxnAnswer {
    #[serde(deserialize_with = "crate::catalog::or_default")]
    results: Vec<ResultWire>,
    #[serde(deserialize_with = "crate::catalog::or_default")]
    errors: Vec<OpFailure>,
}

#[derive(Deserialize)]
struct ResultWire {
    #[serde(rename = "KV")]
    kv: Option<Entry>,
    #[serde(rename = "Service")]
    service: Option<CatalogService>,
}

/// What became of a transaction. A denial is an error even where other operations only conflict.
fn outcome(answer: Answer) -> Result<Outcome, Error> {
    if answer.status.as_u16() == 409 {
        let refused: TxnAnswer = answer.exactly()?;
        for failure in &refused.errors {
            if failure.what.contains("Permission denied") {
                let text = crate::error::shown(failure.what.as_bytes());
                let rule = MissingRule::parse(&text).map(Box::new);
                return Err(Error::new(answer.tried, Reason::Denied { rule, text }));
            }
        }
        // Without a word on what stopped it, nobody could tell it from one that was done.
        if refused.errors.is_empty() {
            let text = "it was rolled back, and Consul does not say why".to_owned();
            let reason = Reason::Refused { status: 409, text };
            return Err(Error::new(answer.tried, reason));
        }
        return Ok(Outcome::RolledBack(refused.errors));
    }
    let answer = answer
        .success()?
        .whole("read on everything that it reads")?;
    let done: TxnAnswer = answer.exactly()?;
    let results = done.results.into_iter().filter_map(|result| {
        let kv = result.kv.map(OpResult::Kv);
        kv.or(result.service.map(OpResult::Service))
    });
    Ok(Outcome::Done(results.collect()))
}

impl Client {
    /// Does all of it or nothing, in one transaction.
    ///
    /// # Errors
    /// Where a name is none, there are more than 64 operations, the token may not do one of them, or
    /// Consul does not answer; it may have been done then all the same.
    pub async fn transaction(&self, ops: &[Op]) -> Result<Outcome, Error> {
        self.transaction_read(ops, Consistency::Default).await
    }

    /// The same; `consistency` is for one that only reads, others always go through the leader's log.
    ///
    /// # Errors
    /// As of [`Client::transaction`].
    pub async fn transaction_read(
        &self,
        ops: &[Op],
        consistency: Consistency,
    ) -> Result<Outcome, Error> {
        let tried = format!("do a transaction of {} operations", ops.len());
        for op in ops {
            op.check().map_err(|error| Error::new(&tried, error))?;
        }
        if ops.len() > OPS_MAX {
            let text = format!("at most {OPS_MAX} operations are done at once");
            return Err(Error::new(tried, Reason::TooLarge { text }));
        }
        let wire: Vec<_> = ops.iter().map(wire::of).collect();
        let mut request = Request::put(tried, "/v1/txn");
        if ops.iter().all(Op::only_reads) {
            request = request.consistency(consistency);
        }
        outcome(self.ask(request.json(&wire)?).await?)
    }

    /// Does operations in as few transactions as they need, in their order, and stops at the first
    /// that is not done. Every transaction begins with all guards: they fail it as long as they do
    /// not hold, and are done again with each, so give only [`Op::CheckSession`] and its like.
    ///
    /// # Errors
    /// As of [`Client::transaction`]; what was done before stays done, and nobody says what that is:
    /// read it back.
    pub async fn transactions(&self, guards: &[Op], ops: &[Op]) -> Result<Parts, Error> {
        let tried = || format!("do {} operations", ops.len());
        let sizes: Vec<_> = ops.iter().map(wire::size).collect();
        let guard_size = guards.iter().map(wire::size).sum();
        let ranges = split(&sizes, guards.len(), guard_size).map_err(|error| {
            let text = error.to_string();
            Error::new(tried(), Reason::TooLarge { text })
        })?;
        let mut parts = Parts {
            done: Vec::new(),
            stopped: Vec::new(),
            results: Vec::new(),
        };
        for range in ranges {
            let part: Vec<_> = guards.iter().chain(&ops[range.clone()]).cloned().collect();
            match self.transaction(&part).await? {
                Outcome::Done(results) => {
                    parts.results.extend(results);
                    parts.done.push(range);
                }
                Outcome::RolledBack(failures) => {
                    let place = |failure: OpFailure| OpFailure {
                        op_index: failure
                            .op_index
                            .checked_sub(guards.len())
                            .map_or(usize::MAX, |index| range.start + index),
                        what: failure.what,
                    };
                    parts.stopped = failures.into_iter().map(place).collect();
                    return Ok(parts);
                }
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answered(status: u16, body: &'static str) -> Result<Outcome, Error> {
        let status = StatusCode::from_u16(status).unwrap();
        outcome(Answer::new(
            "test".into(),
            status,
            &HeaderMap::new(),
            body.into(),
        ))
    }

    #[test]
    fn a_conflict_says_which_operation() {
        let outcome = answered(
            409,
            r#"{"Results":null,"Errors":[{"OpIndex":1,"What":"failed to set key \"a\", index is stale"}]}"#,
        );
        let Outcome::RolledBack(failures) = outcome.unwrap() else {
            panic!("it was done");
        };
        assert_eq!(failures[0].op_index, 1);
    }

    #[test]
    fn a_denied_operation_is_no_conflict() {
        let error = answered(
            409,
            r#"{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to set key \"b\", index is stale"},
            {"OpIndex":1,"What":"Permission denied: token with AccessorID 'x' lacks permission 'key:write' on \"a\""}]}"#,
        )
        .unwrap_err();
        assert!(error.is_denied());
        assert!(
            error
                .reason
                .to_string()
                .contains("key \"a\" { policy = \"write\" }")
        );
    }

    #[test]
    fn what_is_too_large_or_odd_is_an_error() {
        assert!(answered(413, "Transaction contains too many operations (129 > 128)").is_err());
        assert!(answered(409, "not JSON").is_err());
        assert!(answered(409, r#"{"Results":null,"Errors":null}"#).is_err());
        assert!(answered(200, "not JSON").is_err());
        assert_eq!(
            answered(200, r#"{"Results":null,"Errors":null}"#).unwrap(),
            Outcome::Done(vec![])
        );
    }
}
