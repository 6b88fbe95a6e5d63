//! The requests about the lock, each bounded, and what their answers mean.

use calvin_consul::{
    Client, Consistency, Error, Key, SessionId,
    exclusive::{LOCK_DELAY, TTL, session_name},
    kv::Entry,
    session::{Behavior, SessionRequest},
};
use calvin_model::{EnvironmentName, InstanceId};

use super::{Answer, Ask, Held, Holder};
use crate::fault::chain;

/// Whose lock it is, and who asks for it.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) key: Key,
    pub(super) instance: InstanceId,
    pub(super) environment: EnvironmentName,
}

impl Holder {
    /// An entry that was read, with the index of the read where there is none.
    pub(super) fn of(entry: Option<&Entry>, index: u64) -> Self {
        let Some(entry) = entry else {
            return Self {
                index,
                ..Self::default()
            };
        };
        let text = std::str::from_utf8(&entry.value).ok();
        Self {
            session: entry.session.clone(),
            instance: text.and_then(|text| text.parse().ok()),
            fence: entry.lock_index,
            index: entry.modify_index,
        }
    }
}

impl Asker {
    /// Asks, and says what came of it.
    pub(super) async fn ask(self, ask: Ask) -> Answer {
        let answered = match ask {
            Ask::Create => self.create().await,
            Ask::Look => self.look().await,
            Ask::Find => self.find().await,
            Ask::Acquire(session) => self.acquire(&session).await,
            Ask::Renew(session) => {
                let renewed = self.client.session_renew(&session).await;
                renewed.map(|found| found.map_or(Answer::Gone, |_| Answer::Renewed))
            }
            Ask::Release(session) => self.release(&session).await,
            Ask::Destroy(session) => {
                let destroyed = self.client.session_destroy(&session).await;
                destroyed.map(|()| Answer::Destroyed)
            }
        };
        answered.unwrap_or_else(|error| Answer::Failed(chain(&error)))
    }

    fn value(&self) -> Vec<u8> {
        self.instance.as_str().as_bytes().to_vec()
    }

    /// Why the lock cannot be held through this client, if it cannot.
    async fn refused(&self) -> Result<Option<String>, Error> {
        // The lock of another datacenter keeps nobody away.
        let consul = self.client.agent_self().await?;
        let found = consul.datacenter;
        if found != self.environment.as_str() {
            return Ok(Some(format!(
                "the Consul client is of datacenter {found}, and this machine of environment {}",
                self.environment
            )));
        }
        // The right to the lock is one to sessions of this node alone.
        if consul.node_name != self.instance.as_str() {
            return Ok(Some(format!(
                "the Consul client is of node {}, and only one of node {} can hold the lock: leave [consul] address out of image.toml",
                consul.node_name, self.instance
            )));
        }
        Ok(None)
    }

    async fn create(&self) -> Result<Answer, Error> {
        if let Some(why) = self.refused().await? {
            return Ok(Answer::Failed(why));
        }
        let request = SessionRequest {
            name: session_name(&self.instance),
            ttl: Some(TTL),
            lock_delay: LOCK_DELAY,
            behavior: Behavior::Release,
            node_checks: Vec::new(),
        };
        let made = self.client.session_create(&request).await?;
        Ok(Answer::Created(made))
    }

    async fn look(&self) -> Result<Answer, Error> {
        let consistency = Consistency::Consistent;
        let read = self.client.kv_get(&self.key, consistency).await?;
        Ok(Answer::Holds(Holder::of(read.value.as_ref(), read.index)))
    }

    /// The entry says who acquired it last; whether the session that holds it now is of this machine,
    /// the session itself says.
    async fn find(&self) -> Result<Answer, Error> {
        if let Some(why) = self.refused().await? {
            return Ok(Answer::Failed(why));
        }
        let consistency = Consistency::Consistent;
        let read = self.client.kv_get(&self.key, consistency).await?;
        let holder = Holder::of(read.value.as_ref(), read.index);
        let ours = holder.instance.as_ref() == Some(&self.instance);
        let Some(id) = holder.session.filter(|_| ours) else {
            return Ok(Answer::Found(None));
        };
        let session = self.client.session(&id, consistency).await?;
        let found = session.filter(|session| {
            session.node == self.instance.as_str() && session.name == session_name(&self.instance)
        });
        Ok(Answer::Found(found.map(|session| Held {
            session: session.id,
            fence: holder.fence,
            index: holder.index,
        })))
    }

    async fn acquire(&self, session: &SessionId) -> Result<Answer, Error> {
        // Whether it got it shows with the fence.
        let _ = self
            .client
            .kv_acquire(&self.key, self.value(), session)
            .await?;
        self.look().await
    }

    async fn release(&self, session: &SessionId) -> Result<Answer, Error> {
        // Where it has no lock there is none to give back.
        let _ = self
            .client
            .kv_release(&self.key, self.value(), session)
            .await?;
        Ok(Answer::Released)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::json;

    use super::*;
    use crate::catalogue::sync::testing::client_of;

    const SESSION: &str = "0a1b2c3d-0000-0000-0000-000000000001";
    const NAME: &str = "calvin db-aaaaaaaa is at work";

    /// What is found where the entry was written by `writer` and its session, if it has one, is of this
    /// node and has this name.
    async fn found(writer: &str, session: Option<&str>, node: &str, name: &str) -> Answer {
        let consul = json!({ "Config": { "Datacenter": "build", "NodeName": "db-aaaaaaaa" } });
        let value = STANDARD.encode(writer);
        let entry = json!([{
            "Key": "calvin/build/locks/db", "Value": value, "Session": session, "LockIndex": 7,
            "CreateIndex": 1, "ModifyIndex": 70, "Flags": 0,
        }]);
        let made = json!([{ "ID": SESSION, "Node": node, "Name": name, "Behavior": "release" }]);
        let client = client_of(move |asked| {
            let body = match asked {
                "GET /v1/agent/self" => consul.to_string(),
                "GET /v1/kv/calvin/build/locks/db" => entry.to_string(),
                _ => made.to_string(),
            };
            ("200 OK", body)
        });
        let asker = Asker {
            client: client.await,
            key: "calvin/build/locks/db".parse().unwrap(),
            instance: "db-aaaaaaaa".parse().unwrap(),
            environment: "build".parse().unwrap(),
        };
        asker.ask(Ask::Find).await
    }

    #[tokio::test]
    async fn a_session_is_ours_where_entry_node_and_name_say_so() {
        let ours = "db-aaaaaaaa";
        let none = Answer::Found(None);
        let held = Held {
            session: SESSION.parse().unwrap(),
            fence: 7,
            index: 70,
        };
        let all = Some(SESSION);
        assert_eq!(
            found(ours, all, ours, NAME).await,
            Answer::Found(Some(held))
        );
        assert_eq!(found("db-bbbbbbbb", all, ours, NAME).await, none);
        assert_eq!(found(ours, None, ours, NAME).await, none);
        assert_eq!(found(ours, all, "server-0", NAME).await, none);
        assert_eq!(found(ours, all, ours, "a person's").await, none);
    }
}
