//! Who is connected to the services' ports: asked of the kernel, because a workload need not tell.
//! By this the coordinator sees when the last client of a replaced instance went.
//!
//! The agent's own checks are no clients: with a health page that takes long there would be one in
//! most looks, and a drain would always run into its timeout. Those of a check's command are
//! another process's and do count, as a coordinator's probes do; both are short.

mod diag;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, SocketAddr},
};

use calvin_model::Connections;

/// This process's open descriptors; a socket reads as `socket:[inode]` (proc(5)).
const DESCRIPTORS: &str = "/proc/self/fd";
/// Addresses of other ends in one report; the wire takes no more.
const PEERS_MAX: usize = 16;

/// Which connections count.
#[derive(Debug, Clone)]
pub struct Counted {
    address: IpAddr,
    ports: Vec<u16>,
}

impl Counted {
    /// Those to `ports` on `address`.
    #[must_use]
    pub fn new(address: IpAddr, ports: Vec<u16>) -> Self {
        Self { address, ports }
    }

    /// Counts them now; `None` where the kernel does not tell.
    #[must_use]
    pub fn look(&self) -> Option<Connections> {
        // Before and after the sockets: a check may begin or end while they are listed.
        let mut own = own_sockets();
        let mut found = Found::default();
        // A kernel without the one still has the other.
        let listed = self.list(diag::each_of, &mut found);
        if listed.is_err() {
            found = Found::default();
            self.list(tables::each_of, &mut found).ok()?;
        }
        own.append(&mut own_sockets());
        Some(found.into_connections(&own))
    }

    fn list(
        &self,
        sockets: impl FnOnce(&[u16], &mut dyn FnMut(Socket)) -> io::Result<()>,
        found: &mut Found,
    ) -> io::Result<()> {
        // Without services nobody can be connected to one.
        if self.ports.is_empty() {
            return Ok(());
        }
        sockets(&self.ports, &mut |socket| self.take(socket, found))
    }

    fn take(&self, socket: Socket, found: &mut Found) {
        if self.is_served(socket.local) {
            found.served.insert((socket.peer, socket.local));
        } else if self.is_served(socket.peer) {
            found.clients.extend(
                socket
                    .inode
                    .map(|inode| (inode, (socket.local, socket.peer))),
            );
        }
    }

    fn is_served(&self, end: SocketAddr) -> bool {
        end.ip() == self.address && self.ports.contains(&end.port())
    }
}

/// Inodes of this process's sockets; none where the kernel does not tell.
fn own_sockets() -> BTreeSet<u64> {
    let Ok(descriptors) = fs::read_dir(DESCRIPTORS) else {
        return BTreeSet::new();
    };
    let inode = |descriptor: fs::DirEntry| {
        let target = fs::read_link(descriptor.path()).ok()?;
        let text = target.to_str()?.strip_prefix("socket:[")?;
        text.strip_suffix(']')?.parse().ok()
    };
    descriptors.flatten().filter_map(inode).collect()
}

/// What there is of the services.
#[derive(Debug, Default)]
struct Found {
    /// The services' connections, the other end first. A set: with services' ports at both ends one
    /// comes as the answer to two questions.
    served: BTreeSet<(SocketAddr, SocketAddr)>,
    /// The same of clients on this machine, with the inodes of their ends.
    clients: BTreeSet<(u64, (SocketAddr, SocketAddr))>,
}

impl Found {
    /// Without those whose client's end is one of the sockets `own`.
    fn into_connections(self, own: &BTreeSet<u64>) -> Connections {
        let ours: BTreeSet<(SocketAddr, SocketAddr)> = self
            .clients
            .into_iter()
            .filter(|(inode, _)| own.contains(inode))
            .map(|(_, ends)| ends)
            .collect();
        // In the order of the other end's address and port.
        let others = self.served.difference(&ours);
        let mut peers: Vec<SocketAddr> = others.map(|(peer, _)| *peer).collect();
        let count = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        peers.truncate(PEERS_MAX);
        Connections { count, peers }
    }
}

/// An established connection, seen from one of its ends.
struct Socket {
    local: SocketAddr,
    peer: SocketAddr,
    inode: Option<u64>,
}
