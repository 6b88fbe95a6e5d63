//! The KV store (the documentation's "KV Store HTTP API"): values as bytes, compare-and-set, locks,
//! and a delete that cannot become a prefix delete.
//!
//! Consul deletes everything below a key when the parameter `recurse` is there, whatever its value.
//! Nothing here ever sends it with a delete, and a [`Key`] is never empty or a prefix.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rs_consul::CreateOrUpdateKeyRequest;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    catalog::read,
    client::Client,
    error::{Error, Reason},
    names::{Key, Prefix},
    query::{Consistency, Read},
    request::{Answer, Request},
    session::SessionId,
    watch::{Watch, WatchOptions, Watched},
};

const LIST_NEEDS: &str = "key:read on everything below the prefix";
/// Longest value (Consul's `kv_max_value_size` as it comes).
pub const VALUE_MAX: usize = 512 * 1024;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(deserialize_with = "from_base64", default)]
    pub value: Vec<u8>,
    /// A number that whoever wrote it chose.
    #[serde(default)]
    pub flags: u64,
    /// Grows with each time that somebody gets the lock: a fencing token.
    #[serde(default)]
    pub lock_index: u64,
    /// Who holds the lock.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// When it was made.
    pub create_index: u64,
    /// When it was changed last: what compare-and-set compares.
    pub modify_index: u64,
}

/// What an entry must be for a compare-and-set to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Not there.
    Absent,
    /// There, with this modify index.
    Index(u64),
}

/// What became of a write that has a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the write may not have been done"]
pub enum Write {
    /// Done.
    Done,
    /// Not done: the entry is not as expected, or somebody else has the lock.
    Conflict,
}

impl From<bool> for Write {
    fn from(done: bool) -> Self {
        if done { Self::Done } else { Self::Conflict }
    }
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    STANDARD.decode(text).map_err(D::Error::custom)
}

fn get_request(key: &str) -> Request {
    Request::get(format!("read key {key}"), "/v1/kv").path(key)
}

fn list_request(prefix: &str) -> Request {
    Request::get(format!("list keys below {prefix}"), "/v1/kv")
        .path(prefix)
        .flag("recurse")
}

fn decode_entry(answer: Answer) -> Result<Option<Entry>, Error> {
    let Some(answer) = answer.found()? else {
        return Ok(None);
    };
    let mut entries: Vec<Entry> = answer.json()?;
    Ok(entries.pop())
}

fn decode_entries(answer: Answer) -> Result<Vec<Entry>, Error> {
    // What the token may not see is left out, also where that leaves nothing and so a 404.
    match answer.whole(LIST_NEEDS)?.found()? {
        None => Ok(Vec::new()),
        Some(answer) => answer.json(),
    }
}

impl Client {
    /// Reads an entry; none where there is none. Needs `key:read` on it.
    ///
    /// # Errors
    /// Where Consul does not answer.
    pub async fn kv_get(
        &self,
        key: &Key,
        consistency: Consistency,
    ) -> Result<Read<Option<Entry>>, Error> {
        let request = get_request(key.as_str()).consistency(consistency);
        let answer = self.ask(request).await?;
        let meta = read(&answer, ());
        let value = decode_entry(answer)?;
        Ok(Read {
            value,
            index: meta.index,
            known_leader: meta.known_leader,
            last_contact: meta.last_contact,
        })
    }

    /// Reads all entries below a prefix. Needs `key:read` on all.
    ///
    /// # Errors
    /// Also where entries were left out, because the token may not see them.
    pub async fn kv_list(
        &self,
        prefix: &Prefix,
        consistency: Consistency,
    ) -> Result<Read<Vec<Entry>>, Error> {
        let request = list_request(prefix.as_str()).consistency(consistency);
        let answer = self.ask(request).await?;
        let meta = read(&answer, ());
        let value = decode_entries(answer)?;
        Ok(Read {
            value,
            index: meta.index,
            known_leader: meta.known_leader,
            last_contact: meta.last_contact,
        })
    }

    /// Watches one entry.
    #[must_use]
    pub fn watch_key(&self, key: &Key, options: WatchOptions) -> Watch<Option<Entry>> {
        let what = Watched {
            request: get_request,
            name: key.as_str().to_owned(),
        };
        Watch::new(self, what, options, decode_entry)
    }

    /// Watches all entries below a prefix.
    #[must_use]
    pub fn watch_prefix(&self, prefix: &Prefix, options: WatchOptions) -> Watch<Vec<Entry>> {
        let what = Watched {
            request: list_request,
            name: prefix.as_str().to_owned(),
        };
        Watch::new(self, what, options, decode_entries)
    }

    /// Writes an entry, whatever was there. Needs `key:write` on it, like all that follow.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn kv_put(&self, key: &Key, value: Vec<u8>) -> Result<(), Error> {
        self.write("write", key, value, |_| {}).await.map(drop)
    }

    /// Writes an entry if it is as expected.
    ///
    /// # Errors
    /// Where Consul does not answer. It may have been written then all the same.
    pub async fn kv_cas(
        &self,
        key: &Key,
        value: Vec<u8>,
        expected: Expected,
    ) -> Result<Write, Error> {
        let index = match expected {
            Expected::Absent => 0,
            // Zero would mean absent; no entry has it.
            Expected::Index(0) => return Ok(Write::Conflict),
            // Beyond that no index ever comes.
            Expected::Index(index) => i64::try_from(index).unwrap_or(i64::MAX),
        };
        self.write("compare and set", key, value, |request| {
            request.check_and_set = Some(index);
        })
        .await
    }

    /// Takes the lock on an entry for a session, and writes its value. Who has it gets it again, and
    /// only writes. The entry's `lock_index` is then a fencing token: read it back.
    ///
    /// # Errors
    /// Where Consul does not do it; also where the session is gone.
    pub async fn kv_acquire(
        &self,
        key: &Key,
        value: Vec<u8>,
        session: &SessionId,
    ) -> Result<Write, Error> {
        self.write("lock", key, value, |request| {
            request.acquire = session.as_str()
        })
        .await
    }

    /// Gives the lock on an entry back, and writes its value. Conflict where the session has no lock.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn kv_release(
        &self,
        key: &Key,
        value: Vec<u8>,
        session: &SessionId,
    ) -> Result<Write, Error> {
        self.write("unlock", key, value, |request| {
            request.release = session.as_str()
        })
        .await
    }

    async fn write<'a>(
        &self,
        verb: &str,
        key: &'a Key,
        value: Vec<u8>,
        condition: impl FnOnce(&mut CreateOrUpdateKeyRequest<'a>),
    ) -> Result<Write, Error> {
        let tried = format!("{verb} key {key}");
        if value.len() > VALUE_MAX {
            let text = format!("a value of {} bytes, at most {VALUE_MAX} fit", value.len());
            return Err(Error::new(tried, Reason::TooLarge { text }));
        }
        // A key needs no encoding, and no datacenter is given: both are where the given client errs.
        let mut request = CreateOrUpdateKeyRequest {
            key: key.as_str(),
            ..CreateOrUpdateKeyRequest::default()
        };
        condition(&mut request);
        let ask =
            async |given: &rs_consul::Consul| given.create_or_update_key(request, value).await;
        let (done, _) = self.given(tried, ask).await?;
        Ok(done.into())
    }

    /// Deletes exactly this entry. What is not there is taken for done.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn kv_delete(&self, key: &Key) -> Result<(), Error> {
        let request = Request::delete(format!("delete key {key}"), "/v1/kv").path(key.as_str());
        self.call(request).await.map(drop)
    }

    /// Deletes exactly this entry if it is as it was at that modify index. What is not there is taken
    /// for done.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn kv_delete_cas(&self, key: &Key, index: u64) -> Result<Write, Error> {
        let request = Request::delete(format!("delete key {key}"), "/v1/kv")
            .path(key.as_str())
            .parameter("cas", &index.to_string());
        let done: bool = self.call(request).await?.exactly()?;
        Ok(done.into())
    }
}
