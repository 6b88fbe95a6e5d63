//! The engine's state: every fleet, the decision clock and the epoch, by compare and set.

use std::{collections::BTreeMap, sync::Arc};

use calvin_engine::ports::{Batch, Revision, Store, StoreError, Stored};
use calvin_model::{Epoch, FleetName};
use calvin_planner::{EnvironmentState, FleetState, Moment};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    about,
    database::Database,
    failure::StoreFailure,
    history,
    record::{self, RecordError},
};

/// Fleets by name.
const FLEETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("fleets");
/// How many rollouts fleets had that were removed, by name.
const GONE: TableDefinition<'_, &str, u64> = TableDefinition::new("gone_fleets");
/// What there is one of.
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
pub(super) const HEAD: &str = "head";
const HEAD_RECORD: &str = "the head record of the store";
const ENVIRONMENT: &str = "environment";
const ENVIRONMENT_RECORD: &str = "the record of the environment";

/// What every commit changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    revision: Revision,
    moment: Moment,
    epoch: Option<Epoch>,
    /// When, milliseconds since 1970 UTC; zero in a store of before that was noted.
    #[serde(default)]
    wall_ms: u64,
}

/// The engine's store, on the environment's database.
#[derive(Debug)]
pub struct FleetStore {
    database: Arc<Database>,
}

impl FleetStore {
    /// The engine's part of `database`.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    fn read(&self) -> Result<Stored, StoreFailure> {
        let read = self.database.begin_read()?;
        let head = match read.open_table(STATE) {
            Err(redb::TableError::TableDoesNotExist(_)) => Head::default(),
            other => head(other?.get(HEAD)?)?,
        };
        let mut fleets = BTreeMap::new();
        match read.open_table(FLEETS) {
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            other => {
                for entry in other?.iter()? {
                    let (name, bytes) = entry?;
                    let (name, fleet) = fleet(name.value(), bytes.value())?;
                    fleets.insert(name, fleet);
                }
            }
        }
        let mut gone = BTreeMap::new();
        match read.open_table(GONE) {
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            other => {
                for entry in other?.iter()? {
                    let (name, rollouts) = entry?;
                    gone.insert(fleet_name(name.value())?, rollouts.value());
                }
            }
        }
        let environment = match read.open_table(STATE) {
            Err(redb::TableError::TableDoesNotExist(_)) => EnvironmentState::default(),
            other => match other?.get(ENVIRONMENT)? {
                Some(bytes) => record::decode(ENVIRONMENT_RECORD, bytes.value())?,
                None => EnvironmentState::default(),
            },
        };
        Ok(Stored {
            revision: head.revision,
            moment: head.moment,
            wall_ms: head.wall_ms,
            epoch: head.epoch,
            environment,
            fleets,
            gone,
            recovering: about::recovering(&read)?,
        })
    }

    /// One write transaction; `Err` within `Ok` is a lost comparison.
    fn write(
        &self,
        expected: Revision,
        batch: &Batch,
    ) -> Result<Result<Revision, Revision>, StoreFailure> {
        let write = self.database.begin_write()?;
        let revision = {
            let mut state = write.open_table(STATE)?;
            let before = head(state.get(HEAD)?)?;
            if before.revision != expected {
                return Ok(Err(before.revision));
            }
            let revision = Revision(expected.0 + 1);
            let after = Head {
                revision,
                moment: batch.moment,
                epoch: batch.epoch.clone().or(before.epoch),
                wall_ms: batch.wall_ms,
            };
            let bytes = record::encode(HEAD_RECORD, &after)?;
            state.insert(HEAD, bytes.as_slice())?;
            if let Some(environment) = &batch.environment {
                let bytes = record::encode(ENVIRONMENT_RECORD, environment)?;
                state.insert(ENVIRONMENT, bytes.as_slice())?;
            }
            revision
        };
        write_fleets(&write, batch)?;
        history::append(&write, &batch.history)?;
        if let Some(change) = &batch.recovering {
            about::note_recovering(&write, change)?;
        }
        write.commit()?;
        Ok(Ok(revision))
    }
}

impl Store for FleetStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        self.read().map_err(|fault| failed("read", fault))
    }

    fn commit(&mut self, expected: Revision, batch: &Batch) -> Result<Revision, StoreError> {
        match self.write(expected, batch) {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(found)) => Err(StoreError::Conflict { expected, found }),
            Err(fault) => Err(failed("write", fault)),
        }
    }
}

/// The epoch in a head record.
pub(super) fn epoch_of(bytes: &[u8]) -> Result<Option<Epoch>, RecordError> {
    let head: Head = record::decode(HEAD_RECORD, bytes)?;
    Ok(head.epoch)
}

fn failed(doing: &'static str, fault: StoreFailure) -> StoreError {
    StoreError::Failed {
        doing,
        source: Box::new(fault),
    }
}

fn head(found: Option<redb::AccessGuard<'_, &[u8]>>) -> Result<Head, RecordError> {
    match found {
        Some(bytes) => record::decode(HEAD_RECORD, bytes.value()),
        None => Ok(Head::default()),
    }
}

fn fleet(name: &str, bytes: &[u8]) -> Result<(FleetName, FleetState), StoreFailure> {
    let state = record::decode(&format!("the record of fleet {name}"), bytes)?;
    Ok((fleet_name(name)?, state))
}

fn fleet_name(name: &str) -> Result<FleetName, StoreFailure> {
    name.parse().map_err(|source| StoreFailure::Name {
        name: name.to_owned(),
        source,
    })
}

fn write_fleets(write: &WriteTransaction, batch: &Batch) -> Result<(), StoreFailure> {
    let mut table: Table<'_, &str, &[u8]> = write.open_table(FLEETS)?;
    let mut gone: Table<'_, &str, u64> = write.open_table(GONE)?;
    for (name, change) in &batch.fleets {
        match change {
            Some(state) => {
                let bytes = record::encode(&format!("the record of fleet {name}"), state)?;
                table.insert(name.as_str(), bytes.as_slice())?;
            }
            None => {
                if let Some(removed) = table.remove(name.as_str())? {
                    let (_, removed) = fleet(name.as_str(), removed.value())?;
                    gone.insert(name.as_str(), removed.rollouts)?;
                }
            }
        }
    }
    Ok(())
}
