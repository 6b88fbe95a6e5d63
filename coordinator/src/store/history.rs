//! The history: append-only, each line chained to the one before it by its hash.
//!
//! A line's hash is SHA-256 over the hash before it and the line's bytes as they are kept, so a
//! line that was changed, removed or put in later breaks the chain from there on. The lines are
//! written in the same transaction as the state that they tell of: neither is ever without the
//! other.

use std::sync::Arc;

use calvin_engine::ports::HistoryLine;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{database::Database, failure::StoreFailure, record};

/// Lines by number, from 1 without gaps: hash and line.
const HISTORY: TableDefinition<'_, u64, (&[u8], &[u8])> = TableDefinition::new("history");

/// What the first line is chained to.
pub(super) const BEGINNING: [u8; 32] = [0; 32];

/// One line, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// From 1, without gaps.
    pub number: u64,
    /// What happened.
    #[serde(flatten)]
    pub line: HistoryLine,
}

/// The history of an environment, to be read.
#[derive(Debug, Clone)]
pub struct History {
    database: Arc<Database>,
}

impl History {
    /// The history in `database`.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    /// The newest lines that `wanted` takes, at most `limit`, oldest first, each with its hash.
    ///
    /// # Errors
    /// The database or a line cannot be read.
    pub fn newest(
        &self,
        limit: usize,
        wanted: impl Fn(&Recorded) -> bool,
    ) -> Result<Vec<(Recorded, [u8; 32])>, StoreFailure> {
        let mut lines = Vec::new();
        self.each(Order::NewestFirst, |number, hash, bytes| {
            let line: Recorded = record::decode(&format!("history line {number}"), bytes)?;
            if wanted(&line) {
                lines.push((line, hash));
            }
            Ok(lines.len() < limit)
        })?;
        lines.reverse();
        Ok(lines)
    }

    /// Follows the chain from its beginning; the number of lines.
    ///
    /// # Errors
    /// The chain is broken, or the database cannot be read.
    pub fn verify(&self) -> Result<u64, StoreFailure> {
        let mut before = (0, BEGINNING);
        self.each(Order::OldestFirst, |number, hash, bytes| {
            if number != before.0 + 1 || chained(&before.1, bytes) != hash {
                return Err(StoreFailure::Broken { number });
            }
            before = (number, hash);
            Ok(true)
        })?;
        Ok(before.0)
    }

    fn each(
        &self,
        order: Order,
        mut take: impl FnMut(u64, [u8; 32], &[u8]) -> Result<bool, StoreFailure>,
    ) -> Result<(), StoreFailure> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(HISTORY) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            other => other?,
        };
        let mut entries = table.iter()?;
        loop {
            let entry = match order {
                Order::OldestFirst => entries.next(),
                Order::NewestFirst => entries.next_back(),
            };
            let Some(entry) = entry else { return Ok(()) };
            let (number, value) = entry?;
            let (hash, bytes) = value.value();
            let number = number.value();
            let hash = hash
                .try_into()
                .map_err(|_| StoreFailure::Broken { number })?;
            if !take(number, hash, bytes)? {
                return Ok(());
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// Appends `lines` within `write`.
pub(super) fn append(write: &WriteTransaction, lines: &[HistoryLine]) -> Result<(), StoreFailure> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut table: Table<'_, u64, (&[u8], &[u8])> = write.open_table(HISTORY)?;
    let (mut number, mut hash) = match table.last()? {
        Some((number, value)) => {
            let number = number.value();
            let hash = value.value().0.try_into();
            (number, hash.map_err(|_| StoreFailure::Broken { number })?)
        }
        None => (0, BEGINNING),
    };
    for line in lines {
        number += 1;
        let recorded = Recorded {
            number,
            line: line.clone(),
        };
        let bytes = record::encode(&format!("history line {number}"), &recorded)?;
        hash = chained(&hash, &bytes);
        table.insert(number, (hash.as_slice(), bytes.as_slice()))?;
    }
    Ok(())
}

/// Puts a line back that was kept before, as the next one.
pub(super) fn put(write: &WriteTransaction, number: u64, bytes: &[u8]) -> Result<(), StoreFailure> {
    let mut table: Table<'_, u64, (&[u8], &[u8])> = write.open_table(HISTORY)?;
    let (last, before) = match table.last()? {
        Some((number, value)) => {
            let number = number.value();
            let hash = value.value().0.try_into();
            (number, hash.map_err(|_| StoreFailure::Broken { number })?)
        }
        None => (0, BEGINNING),
    };
    if number != last + 1 {
        return Err(StoreFailure::Broken { number });
    }
    let hash = chained(&before, bytes);
    table.insert(number, (hash.as_slice(), bytes))?;
    Ok(())
}

pub(super) fn chained(before: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
