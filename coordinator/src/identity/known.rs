//! Who is on record and whom the environment trusts, for everybody who only looks.
//!
//! A change waits for the disk, for as long as the disk takes, and holds the lock of the records
//! meanwhile. Whoever judges a certificate does so on a thread of the runtime, on which all agents
//! and operators live, and must never wait for that lock. So each commit leaves a picture of what
//! is now in effect, and lookers take that.

use std::{collections::BTreeMap, sync::Arc};

use calvin_model::{InstanceId, OperatorName};

use super::{
    TrustedCa,
    records::{InstanceRecord, OperatorRecord},
};

/// Instances on record. A change copies the map while a picture holds it: with 10,000 instances
/// that is 1 ms, beside a commit of several.
pub(super) type Instances = Arc<BTreeMap<InstanceId, Arc<InstanceRecord>>>;
/// Operators on record.
pub(super) type Operators = Arc<BTreeMap<OperatorName, Arc<OperatorRecord>>>;

/// What was in effect after the newest commit. Never changes.
pub(super) struct Known {
    pub(super) instances: Instances,
    pub(super) operators: Operators,
    /// The CAs that are trusted, newest first.
    pub(super) trusted: Vec<TrustedCa>,
    /// The CA that signs clients, by its key identifier.
    pub(super) signs: String,
}
