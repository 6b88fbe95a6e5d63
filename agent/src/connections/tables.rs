//! The sockets of the machine as proc(5) has them. Each read walks the whole hash table of the
//! kernel, used or not, and takes milliseconds of a processor: for kernels that have nothing better.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::Socket;

/// The kernel's tables of TCP sockets.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// State `TCP_ESTABLISHED` (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";

/// Gives every established connection to `take`, whatever its ports.
pub(super) fn each_of(_ports: &[u16], take: &mut dyn FnMut(Socket)) -> io::Result<()> {
    for table in TABLES {
        match File::open(table) {
            Ok(file) => read(BufReader::new(file), take)?,
            // A host without IPv6 has no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives every established connection of one table to `take`.
pub(super) fn read(table: impl BufRead, take: &mut dyn FnMut(Socket)) -> io::Result<()> {
    for line in table.lines() {
        if let Some(socket) = parse_line(&line?) {
            take(socket);
        }
    }
    Ok(())
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode ...`; `None` for
/// headings, other states and what is no line.
pub(super) fn parse_line(line: &str) -> Option<Socket> {
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
