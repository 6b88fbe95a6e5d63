//! Why the store could not be read or written.

use redb::{CommitError, StorageError, TableError, TransactionError};

use super::record::RecordError;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A transaction could not begin.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A transaction could not end.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A record is damaged, or of a newer version.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A fleet's name is none.
    #[error("the store holds a fleet with the name {name:?}")]
    Name {
        /// The name.
        name: String,
        /// Why it is none.
        #[source]
        source: calvin_model::NameError,
    },
    /// The history's chain is broken.
    #[error(
        "history line {number} does not follow from the one before it: it or an earlier line was changed"
    )]
    Broken {
        /// The first line that does not fit.
        number: u64,
    },
}
