//! Sessions, which hold locks (the documentation's "Session HTTP API" and "Sessions").

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    client::Client,
    error::Error,
    names::{InvalidName, Problem, check_id, check_text, check_uuid},
    query::{Consistency, go_duration},
    request::Request,
};

/// Shortest TTL that Consul takes. It ends a session between one and two TTLs after its last renewal.
pub const TTL_MIN: Duration = Duration::from_secs(10);
/// Longest TTL that Consul takes.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest lock delay that Consul takes.
pub const LOCK_DELAY_MAX: Duration = Duration::from_secs(60);

/// The id of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SessionId(String);

impl SessionId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_uuid("session", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What becomes of the locks of a session that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are given back; the entries stay.
    Release,
    /// The entries are deleted.
    Delete,
}

/// A session to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// Its name, for people.
    pub name: String,
    /// How long it lives without a renewal, at least; none for ever.
    pub ttl: Option<Duration>,
    /// How long nobody gets a lock that a session has lost (not given back).
    pub lock_delay: Duration,
    /// What becomes of its locks.
    pub behavior: Behavior,
    /// Checks of its node that end it when they are critical. With `serfHealth` gossip decides; empty
    /// is none at all.
    pub node_checks: Vec<String>,
}

/// A session as Consul has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: SessionId,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The node that it is tied to.
    #[serde(default)]
    pub node: String,
    /// Its TTL as Consul writes it, such as `15s`; empty for none.
    #[serde(rename = "TTL", default)]
    pub ttl: String,
    /// What becomes of its locks.
    pub behavior: Behavior,
    /// Checks of its node that end it.
    #[serde(default, deserialize_with = "crate::catalog::or_default")]
    pub node_checks: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    name: &'a str,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    lock_delay: String,
    behavior: Behavior,
    node_checks: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    #[serde(rename = "ID")]
    id: SessionId,
}

fn bad(kind: &'static str, duration: Duration, says: &'static str) -> InvalidName {
    InvalidName {
        kind,
        text: format!("{duration:?}"),
        problem: Problem::Rule(says),
    }
}

impl SessionRequest {
    /// Whether all of it can be sent.
    ///
    /// # Errors
    /// The first name or duration that cannot.
    pub fn check(&self) -> Result<(), InvalidName> {
        check_text("session name", &self.name)?;
        for check in &self.node_checks {
            check_id("check id", check)?;
        }
        if let Some(ttl) = self.ttl
            && !(TTL_MIN..=TTL_MAX).contains(&ttl)
        {
            return Err(bad("session TTL", ttl, "must be from 10 s to 24 h"));
        }
        if self.lock_delay > LOCK_DELAY_MAX {
            return Err(bad("lock delay", self.lock_delay, "must be at most 60 s"));
        }
        Ok(())
    }
}

impl Client {
    /// Makes a session on the node of the agent that is asked. Needs `session:write` on that node.
    ///
    /// # Errors
    /// Where a name or duration is none, or Consul does not do it.
    pub async fn session_create(&self, session: &SessionRequest) -> Result<SessionId, Error> {
        let tried = format!("make session {}", session.name);
        session.check().map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/session/create").json(&Create {
            name: &session.name,
            ttl: session.ttl.map(go_duration),
            lock_delay: go_duration(session.lock_delay),
            behavior: session.behavior,
            node_checks: &session.node_checks,
        })?;
        let created: Created = self.call(request).await?.exactly()?;
        Ok(created.id)
    }

    /// Begins the TTL of a session again. None where the session is gone. Reckon your own end from
    /// when this was called, not from when it answered. Needs `session:write` on its node.
    ///
    /// # Errors
    /// Where Consul does not answer. The session may have been renewed then all the same.
    pub async fn session_renew(&self, id: &SessionId) -> Result<Option<Session>, Error> {
        let tried = format!("renew session {id}");
        let request = Request::put(tried, "/v1/session/renew").segment(id.as_str());
        match self.ask(request).await?.found()? {
            None => Ok(None),
            Some(answer) => Ok(answer.json::<Vec<Session>>()?.pop()),
        }
    }

    /// Ends a session; its locks go the way of its [`Behavior`], and the lock delay begins: who wants
    /// the next one to get them at once gives them back first. One that is gone already is taken for
    /// done. Needs `session:write` on its node.
    ///
    /// # Errors
    /// Where Consul does not do it.
    pub async fn session_destroy(&self, id: &SessionId) -> Result<(), Error> {
        let tried = format!("end session {id}");
        let request = Request::put(tried, "/v1/session/destroy").segment(id.as_str());
        self.call(request).await.map(drop)
    }

    /// A session; none where it is gone. Needs `session:read` on its node: without it, it looks gone,
    /// and that is told as an error.
    ///
    /// # Errors
    /// Where Consul does not answer, or left it out.
    pub async fn session(
        &self,
        id: &SessionId,
        consistency: Consistency,
    ) -> Result<Option<Session>, Error> {
        let request = Request::get(format!("read session {id}"), "/v1/session/info")
            .segment(id.as_str())
            .consistency(consistency);
        let needs = "session:read on the session's node";
        let mut found: Vec<Session> = self.call(request).await?.whole(needs)?.json()?;
        Ok(found.pop())
    }
}
