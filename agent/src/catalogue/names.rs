//! Where the machine's names come from: out of memory, until the Consul client was seen to be of this
//! environment and machine, and again once it was seen not to be. Two environments on one host have one
//! domain unless somebody chose another: what a stranger says of it would be taken for an answer.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use calvin_consul::{Client, Settings, Token};
use calvin_model::{ConsulJoin, ImageManifest, Join};
use tracing::info;

use super::{
    Catalogue, Ends, Machine,
    configuration::DNS_PORT,
    joined::{Whose, recognise},
    kept::load,
    trouble::Trouble,
};
use crate::dns::Target;

/// Longest time for a client that cannot be had running as it should: every turn waits for it.
const NAMES_TIMEOUT: Duration = Duration::from_secs(1);

/// Where names come from at a start, by what an earlier run kept: nobody is asked before it was seen to be
/// this machine's, and a snapshot of an environment that has gone over to Consul since is out of date.
#[must_use]
pub fn first_target(state: &Path, manifest: &ImageManifest) -> Target {
    // What cannot be used is told where it is used.
    let said = load::<Join>(state).ok().flatten();
    match said.and_then(|join| join.consul) {
        Some(_) if manifest.joins_consul() => Target::Memory,
        Some(_) | None => Target::Snapshots,
    }
}

impl Machine {
    /// Where its Consul client answers DNS.
    pub(super) fn client_dns(&self) -> SocketAddr {
        let host = host_of(&self.client_address());
        SocketAddr::new(host.unwrap_or(self.loopback), DNS_PORT)
    }
}

impl Ends {
    /// Says where names come from now.
    pub(super) fn names_come_from(&self, target: Target) {
        self.forward.send_if_modified(|known| {
            let changed = *known != target;
            if changed {
                info!(?target, "names come from elsewhere");
            }
            *known = target;
            changed
        });
    }

    /// Has names not be asked of a client that was seen to be another environment's or machine's. One that
    /// is only silent stays: names come from memory for as long as it is.
    pub(super) fn distrust(&self, error: &Trouble) {
        use Trouble::{Datacenter, Node, Stranger};
        if matches!(error, Datacenter { .. } | Node { .. } | Stranger { .. }) {
            self.names_come_from(Target::Memory);
        }
    }
}

impl Catalogue {
    /// The client cannot be had running as it should, with a full disk for example, and may run all the
    /// same as it was told before: then names are asked of it.
    pub(super) async fn ask_for_names_only(&self, join: &ConsulJoin) {
        let recognised = async {
            let token = self.recovery.as_ref().or(join.token.as_ref());
            let token = token.map(|token| token.expose().parse::<Token>());
            let client = Client::new(Settings {
                address: self.machine.client_address().parse()?,
                timeout: NAMES_TIMEOUT,
                tls: None,
                token: token.transpose()?,
            })?;
            recognise(&client, join, Whose::Own).await
        };
        match recognised.await {
            Ok(_) => self
                .ends
                .names_come_from(Target::Client(self.machine.client_dns())),
            Err(error) => self.ends.distrust(&error),
        }
    }
}

/// The IP address in `http://HOST:PORT`; nothing where it is a name.
fn host_of(address: &str) -> Option<IpAddr> {
    let (_, authority) = address.split_once("://")?;
    let address: SocketAddr = authority.parse().ok()?;
    Some(address.ip())
}

#[cfg(test)]
mod tests;
