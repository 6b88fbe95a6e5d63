//! Who is connected to the services' ports: read from the kernel's tables, because a workload
//! need not tell. By this the coordinator sees when the last client of a replaced instance went.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use calvin_model::Connections;

/// The kernel's tables of TCP sockets (proc(5)).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// State `TCP_ESTABLISHED` (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";
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
        Some(found.into_connections())
    }

    fn count(&self, table: impl BufRead, found: &mut Found) -> io::Result<()> {
        for line in table.lines() {
            if let Some((local, peer)) = parse_line(&line?)
                && local.ip() == self.address
                && self.ports.contains(&local.port())
            {
                found.add(peer);
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Found {
    count: u32,
    /// The first in the order of address and port.
    peers: Vec<SocketAddr>,
}

impl Found {
    fn add(&mut self, peer: SocketAddr) {
        self.count = self.count.saturating_add(1);
        let at = self.peers.partition_point(|known| *known < peer);
        if at < PEERS_MAX {
            self.peers.insert(at, peer);
            self.peers.truncate(PEERS_MAX);
        }
    }

    fn into_connections(self) -> Connections {
        Connections {
            count: self.count,
            peers: self.peers,
        }
    }
}

/// `sl local_address rem_address st ...`; `None` for headings, other states and what is no line.
fn parse_line(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, peer, state) = (words.next()?, words.next()?, words.next()?);
    if state != ESTABLISHED {
        return None;
    }
    Some((parse_end(local)?, parse_end(peer)?))
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
    use std::net::{TcpListener, TcpStream};

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
        found.into_connections()
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
    fn a_real_connection_is_seen_while_it_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counted = Counted::new(address.ip(), vec![address.port()]);
        assert_eq!(counted.look().unwrap().count, 0);
        let client = TcpStream::connect(address).unwrap();
        let served = listener.accept().unwrap();
        let seen = counted.look().unwrap();
        assert_eq!(seen.peers, [client.local_addr().unwrap()]);
        drop((client, served));
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
