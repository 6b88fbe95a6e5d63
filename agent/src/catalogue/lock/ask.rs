//! The requests about the lock, each bounded, and what their answers mean.

use calvin_consul::{
    Client, Consistency, Error, Key, SessionId,
    exclusive::{LOCK_DELAY, TTL, session_name},
    kv::Entry,
    session::{Behavior, SessionRequest},
};
use calvin_model::{EnvironmentName, InstanceId};

use super::{Answer, Ask, Holder};
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

    async fn create(&self) -> Result<Answer, Error> {
        // The lock of another datacenter keeps nobody away.
        let consul = self.client.agent_self().await?;
        let found = consul.datacenter;
        if found != self.environment.as_str() {
            return Ok(Answer::Failed(format!(
                "the Consul client is of datacenter {found}, and this machine of environment {}",
                self.environment
            )));
        }
        // The right to the lock is one to sessions of this node alone.
        if consul.node_name != self.instance.as_str() {
            return Ok(Answer::Failed(format!(
                "the Consul client is of node {}, and only one of node {} can hold the lock: leave [consul] address out of image.toml",
                consul.node_name, self.instance
            )));
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
