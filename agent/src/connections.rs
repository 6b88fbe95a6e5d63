//! Who is connected to the services' ports: read from the kernel's tables, because a workload
//! need not tell. By this the coordinator sees when the last client of a replaced instance went.
//!
//! The agent's own checks are no clients: with a health page that takes long there would be one in
//! most looks, and a drain would always run into its timeout. Those of a check's command are
//! another process's and do count, as a coordinator's probes do; both are short.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use calvin_model::Connections;

/// The kernel's tables of TCP sockets (proc(5)).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// State `TCP_ESTABLISHED` (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";
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

    /// Counts them now; `None` where the kernel's tables cannot be read.
    #[must_use]
    pub fn look(&self) -> Option<Connections> {
        let mut found = Found::default();
        // Before and after the tables: a check may begin or end while they are read.
        let mut own = own_sockets();
        // Without services nobody can be connected to one.
        if !self.ports.is_empty() {
            for table in TABLES {
                match File::open(table) {
                    Ok(file) => self.count(BufReader::new(file), &mut found).ok()?,
                    // A host without IPv6 has no second table.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(_) => return None,
                }
            }
        }
        own.append(&mut own_sockets());
        Some(found.into_connections(&own))
    }

    fn count(&self, table: impl BufRead, found: &mut Found) -> io::Result<()> {
        for line in table.lines() {
            let Some(socket) = parse_line(&line?) else {
                continue;
            };
            if self.is_served(socket.local) {
                found.served.push(socket.peer);
            } else if self.is_served(socket.peer) {
                found
                    .clients
                    .extend(socket.inode.map(|inode| (inode, socket.local)));
            }
        }
        Ok(())
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

/// What the tables hold of the services.
#[derive(Debug, Default)]
struct Found {
    /// The other ends of the services' connections.
    served: Vec<SocketAddr>,
    /// The ends of clients on this machine, with their inodes.
    clients: Vec<(u64, SocketAddr)>,
}

impl Found {
    /// Without those whose client's end is one of the sockets `own`.
    fn into_connections(self, own: &BTreeSet<u64>) -> Connections {
        let ours: BTreeSet<SocketAddr> = self
            .clients
            .into_iter()
            .filter(|(inode, _)| own.contains(inode))
            .map(|(_, end)| end)
            .collect();
        let mut peers = self.served;
        peers.retain(|peer| !ours.contains(peer));
        let count = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        // The first in the order of address and port.
        peers.sort_unstable();
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

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`; `None` for
/// headings, other states and what is no line.
fn parse_line(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, peer, state) = (words.next()?, words.next()?, words.next()?);
    if state != ESTABLISHED {
        return None;
    }
    Some(Socket {
        local: parse_end(local)?,
        peer: parse_end(peer)?,
        inode: words.nth(5).and_then(|inode| inode.parse().ok()),
    })
}

/// `0100007F:1F90`: the address as 32-bit words in the machine's own order, the port as a number.
fn parse_end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| -> Option<[u8; 4]> {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            // A workload that listens on both families has its IPv4 clients in the IPv6 table.
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        process::{Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 0100007F:1F90 0200007F:C001 01 00000000:00000000 00:00000000 00000000     0
   2: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0
   3: 0100007F:1F90 0100007F:C003 06 00000000:00000000 00:00000000 00000000     0
   4: 0200007F:1F90 0100007F:C004 01 00000000:00000000 00:00000000 00000000     0
   5: 0100007F:0050 0100007F:C005 01 00000000:00000000 00:00000000 00000000     0
   6: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000300007F:C006 01 0:0
";

    fn count(table: &str) -> Connections {
        let counted = Counted::new("127.0.0.1".parse().unwrap(), vec![8080]);
        let mut found = Found::default();
        counted.count(table.as_bytes(), &mut found).unwrap();
        found.into_connections(&BTreeSet::new())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_established_connections_to_the_address_and_ports_count() {
        let connections = count(TABLE);
        let peers: Vec<_> = connections.peers.iter().map(ToString::to_string).collect();
        assert_eq!(connections.count, 3);
        assert_eq!(
            peers,
            ["127.0.0.1:49152", "127.0.0.2:49153", "127.0.0.3:49158"]
        );
    }

    #[test]
    fn the_list_of_peers_is_bounded_and_keeps_the_first() {
        let mut table = String::new();
        for number in (0..40).rev() {
            table += &format!("0: 0100007F:1F90 0100007F:{number:04X} 01 0\n");
        }
        let connections = count(&table);
        assert_eq!(connections.count, 40);
        let ports: Vec<_> = connections.peers.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, (0..16).collect::<Vec<u16>>());
    }

    #[test]
    fn a_connection_of_another_process_is_seen_while_it_is_open_and_an_own_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counted = Counted::new(address.ip(), vec![address.port()]);
        assert_eq!(counted.look().unwrap().count, 0);
        let script = format!("exec 3<>/dev/tcp/{}/{}; read", address.ip(), address.port());
        let mut client = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let (_open, from) = listener.accept().unwrap();
        let check = TcpStream::connect(address).unwrap();
        let served = listener.accept().unwrap();
        let seen = counted.look().unwrap();
        assert_eq!((seen.count, seen.peers), (1, vec![from]));
        drop((check, served));
        // The end of its input is the client's end.
        drop(client.stdin.take());
        client.wait().unwrap();
        assert_eq!(counted.look().unwrap().count, 0);
    }

    #[test]
    fn without_services_there_are_no_connections() {
        let counted = Counted::new("127.0.0.1".parse().unwrap(), Vec::new());
        assert_eq!(counted.look(), Some(Connections::default()));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[0-9A-Fa-f: ]{0,120}") {
            let _ = parse_line(&line);
        }
    }
}
