//! The Consul client that is asked: whether it is the right one, with the right configuration, and with
//! servers that it knows.

use std::time::Duration;

use calvin_consul::{Client, agent::AgentSelf};
use calvin_model::ConsulJoin;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    configuration::{CONFIGURATION, Configuration},
    sync::Sync,
    trouble::Trouble,
};

/// Time between two times that a client without servers is told to join them again. By itself it asks
/// one that it knew every 30 s, and with many members not even that.
const JOIN_EVERY: Duration = Duration::from_secs(5);

/// A client that is asked.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) join: ConsulJoin,
    pub(super) sync: Sync,
    /// With the right to administer it; none where somebody else runs it.
    admin: Option<Client>,
    /// Its node, once it was seen to be the right one; forgotten when it does not answer.
    pub(super) node: Option<String>,
    /// How often it was started when that was seen.
    pub(super) starts: u64,
    /// When it was told to join servers last.
    told: Option<Instant>,
    /// How often: each time it is told another of them.
    times: usize,
}

/// Whose client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The machine's own: of its node.
    Own,
    /// Somebody else runs it, for a node that he has named.
    Given,
}

/// Asks a client who it is, and sees that it is the one that the machine joins with.
pub(super) async fn recognise(
    client: &Client,
    join: &ConsulJoin,
    whose: Whose,
) -> Result<AgentSelf, Trouble> {
    let found = client.agent_self().await.map_err(|error| match whose {
        Whose::Own if error.is_denied() => Trouble::Stranger {
            address: client.address().to_string(),
            source: error,
        },
        Whose::Own | Whose::Given => error.into(),
    })?;
    let wanted = join.datacenter.as_str();
    if found.datacenter != wanted {
        return Err(Trouble::Datacenter {
            address: client.address().to_string(),
            found: found.datacenter,
            wanted: wanted.to_owned(),
        });
    }
    if whose == Whose::Own && found.node_name != join.node {
        return Err(Trouble::Node {
            address: client.address().to_string(),
            found: found.node_name,
            wanted: join.node.clone(),
        });
    }
    Ok(found)
}

impl Joined {
    /// One of which nothing is known yet.
    pub(super) fn new(join: ConsulJoin, sync: Sync, admin: Option<Client>) -> Self {
        Self {
            join,
            sync,
            admin,
            node: None,
            starts: 0,
            told: None,
            times: 0,
        }
    }

    /// Sees that it is the right client.
    pub(super) async fn recognise(&self, whose: Whose) -> Result<AgentSelf, Trouble> {
        recognise(self.asked(), &self.join, whose).await
    }

    /// Sees to it that it has read its configuration.
    pub(super) async fn configure(
        &mut self,
        found: &AgentSelf,
        configuration: &Configuration,
    ) -> Result<(), Trouble> {
        let has_it = |found: &AgentSelf| found.meta.get(CONFIGURATION) == Some(&configuration.hash);
        if !has_it(found) {
            info!("has the Consul client read its configuration anew");
            let asked = self.asked();
            asked.reload_agent().await?;
            if !has_it(&asked.agent_self().await?) {
                return Err(Trouble::Configuration);
            }
            // A token is another one, or servers are: they may have been begun anew, and know nobody.
            self.join_again().await;
        }
        Ok(())
    }

    fn asked(&self) -> &Client {
        self.admin.as_ref().unwrap_or_else(|| self.sync.client())
    }

    /// The same where it has no servers, every few seconds.
    pub(super) async fn find_servers(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= JOIN_EVERY) {
            self.join_again().await;
        }
    }

    /// Has it join a server: servers that lost all that they knew are not found by gossip, which asks who
    /// was known, and seldom.
    async fn join_again(&mut self) {
        let servers = &self.join.servers;
        let server = servers.get(self.times % servers.len().max(1));
        let (Some(admin), Some(server)) = (&self.admin, server) else {
            return;
        };
        self.times += 1;
        self.told = Some(Instant::now());
        match admin.join_agent(server).await {
            Ok(()) => debug!(server, "had the Consul client join again"),
            Err(error) => debug!(%error, "the Consul client joined nobody"),
        }
    }
}
