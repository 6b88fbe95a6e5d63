//! What is durable about identities, in tables of the environment's store.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use calvin_model::{FleetName, InstanceId, OperatorName, OperatorRole};
use redb::{ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{IdentityError, certificate::Issued};
use crate::store::{Database, StoreFailure, decode, encode};

type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

const INSTANCES: Definition = TableDefinition::new("identity_instances");
const OPERATORS: Definition = TableDefinition::new("identity_operators");

/// An instance's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceRecord {
    pub(super) fleet: FleetName,
    /// SHA-256 of its join token.
    pub(super) token_hash: String,
    /// Until when the token may be spent, milliseconds since 1970 UTC.
    pub(super) token_until_wall_ms: u64,
    /// Key identifier of the newest CA in its first-boot data.
    pub(super) made_under: String,
    /// What the first key got for the token. The same key may ask again.
    pub(super) enrolled: Option<Issued>,
    /// What it got last: the same, or from a renewal.
    pub(super) newest: Option<Issued>,
    /// The key that the newest was asked for with. Its holder may not have got the answer.
    pub(super) previous_key: Option<String>,
    /// The CA of what it showed or was made with last, while it has not shown the newest: the answer
    /// that holds that may be on its way, or lost.
    #[serde(default)]
    pub(super) used_under: Option<String>,
    /// Retired: nothing is given to it again.
    pub(super) revoked: bool,
    /// What a person must look at.
    pub(super) alarm: Option<String>,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OperatorRecord {
    pub(super) role: OperatorRole,
    pub(super) added_wall_ms: u64,
    pub(super) added_by: String,
    /// The one certificate that counts.
    pub(super) issued: Issued,
    pub(super) revoked: bool,
}

pub(super) struct Records {
    database: Arc<Database>,
}

impl Records {
    pub(super) fn open(database: Arc<Database>) -> Result<Self, IdentityError> {
        let records = Self { database };
        records.create().map_err(IdentityError::Store)?;
        Ok(records)
    }

    /// Reading a table that was never made is an error.
    fn create(&self) -> Result<(), StoreFailure> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(INSTANCES)?;
        transaction.open_table(OPERATORS)?;
        transaction.commit()?;
        Ok(())
    }

    pub(super) fn instances(
        &self,
    ) -> Result<BTreeMap<InstanceId, Arc<InstanceRecord>>, IdentityError> {
        Ok(self.load(INSTANCES, "the identity of instance")?)
    }

    pub(super) fn operators(
        &self,
    ) -> Result<BTreeMap<OperatorName, Arc<OperatorRecord>>, IdentityError> {
        Ok(self.load(OPERATORS, "operator")?)
    }

    fn load<K, T>(&self, table: Definition, what: &str) -> Result<BTreeMap<K, Arc<T>>, StoreFailure>
    where
        K: FromStr<Err = calvin_model::NameError> + Ord,
        T: Serialize + DeserializeOwned,
    {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(table)?;
        let mut records = BTreeMap::new();
        for row in table.iter()? {
            let (key, value) = row?;
            let name = key.value();
            let key = name.parse().map_err(|source| StoreFailure::Name {
                name: name.to_owned(),
                source,
            })?;
            let record = decode(&format!("{what} {name}"), value.value())?;
            records.insert(key, Arc::new(record));
        }
        Ok(records)
    }

    pub(super) fn put_instance(
        &self,
        instance: &InstanceId,
        record: &InstanceRecord,
    ) -> Result<(), IdentityError> {
        Ok(self.put(
            INSTANCES,
            "the identity of instance",
            instance.as_str(),
            record,
        )?)
    }

    pub(super) fn put_operator(
        &self,
        name: &OperatorName,
        record: &OperatorRecord,
    ) -> Result<(), IdentityError> {
        Ok(self.put(OPERATORS, "operator", name.as_str(), record)?)
    }

    fn put<T: Serialize>(
        &self,
        table: Definition,
        what: &str,
        key: &str,
        record: &T,
    ) -> Result<(), StoreFailure> {
        let bytes = encode(&format!("{what} {key}"), record)?;
        let transaction = self.database.begin_write()?;
        transaction
            .open_table(table)?
            .insert(key, bytes.as_slice())?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets instances that can never come back.
    pub(super) fn remove_instances(&self, gone: &[InstanceId]) -> Result<(), IdentityError> {
        let remove = || -> Result<(), StoreFailure> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(INSTANCES)?;
                for instance in gone {
                    table.remove(instance.as_str())?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        Ok(remove()?)
    }
}
