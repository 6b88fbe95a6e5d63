//! A played agent holds its exclusive fleet's lock as the protocol says: taken while it is to be active, given
//! back after that. With the lent client, because a played machine is no node that a session could be of.

use calvin_consul::{
    Client, Key, SessionId,
    exclusive::{LOCK_DELAY, TTL, lock_key, session_name},
    kv::Write,
    session::{Behavior, SessionRequest},
};
use calvin_model::Role;

use super::{Failed, Machine};

/// A lock that it has.
pub(super) struct Held {
    client: Client,
    session: SessionId,
}

impl Machine {
    fn lock_key(&self) -> Result<Key, Failed> {
        Ok(lock_key(
            &self.provision.environment,
            &self.provision.fleet,
        )?)
    }

    /// Takes the lock, renews it, or gives it back.
    pub(super) async fn keep_lock(&mut self) -> Result<(), Failed> {
        let is_active = self
            .wanted
            .is_some_and(|wanted| wanted.role == Role::Active);
        let value = || self.provision.instance.to_string().into_bytes();
        match (self.held.take(), is_active && self.exclusive) {
            (Some(held), true) => {
                // Somebody may have ended it.
                let renewed = held.client.session_renew(&held.session).await?;
                self.held = renewed.is_some().then_some(held);
            }
            (Some(held), false) => {
                let key = self.lock_key()?;
                let _ = held.client.kv_release(&key, value(), &held.session).await?;
                held.client.session_destroy(&held.session).await?;
            }
            (None, true) => {
                let lent = self.stage.locks.lock().unwrap().clone();
                if let Some(client) = lent {
                    self.held = self.take_lock(client, value()).await?;
                }
            }
            (None, false) => {}
        }
        Ok(())
    }

    async fn take_lock(&self, client: Client, value: Vec<u8>) -> Result<Option<Held>, Failed> {
        let request = SessionRequest {
            name: session_name(&self.provision.instance),
            ttl: Some(TTL),
            lock_delay: LOCK_DELAY,
            behavior: Behavior::Release,
            node_checks: Vec::new(),
        };
        let session = client.session_create(&request).await?;
        match client
            .kv_acquire(&self.lock_key()?, value, &session)
            .await?
        {
            Write::Done => Ok(Some(Held { client, session })),
            Write::Conflict => {
                client.session_destroy(&session).await?;
                Ok(None)
            }
        }
    }
}
