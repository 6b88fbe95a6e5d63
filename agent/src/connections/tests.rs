//! Who counts as connected, by either way to know.

use std::{
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use proptest::prelude::*;
use tokio::net::TcpSocket;

use super::{tables::parse_line, *};

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
    tables::read(table.as_bytes(), &mut |socket| {
        counted.take(socket, &mut found)
    })
    .unwrap();
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

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn by_tables(counted: &Counted) -> Found {
    let mut found = Found::default();
    counted.list(tables::each_of, &mut found).unwrap();
    found
}

fn by_diag(counted: &Counted) -> Found {
    let mut found = Found::default();
    counted.list(diag::each_of, &mut found).unwrap();
    found
}

#[test]
fn a_connection_of_another_process_is_seen_while_it_is_open_and_an_own_is_not() {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let counted = Counted::new(address.ip(), vec![address.port()]);
    // Both ways to know say the same.
    let looks = |counted: &Counted| {
        let by_tables = by_tables(counted).into_connections(&own_sockets());
        let by_diag = by_diag(counted).into_connections(&own_sockets());
        assert_eq!(by_tables, by_diag);
        assert_eq!(counted.look(), Some(by_diag.clone()));
        by_diag
    };
    assert_eq!(looks(&counted).count, 0);
    let script = format!("exec 3<>/dev/tcp/{}/{}; read", address.ip(), address.port());
    let mut client = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (_open, from) = listener.accept().unwrap();
    let check = TcpStream::connect(address).unwrap();
    let served = listener.accept().unwrap();
    let seen = looks(&counted);
    assert_eq!((seen.count, seen.peers), (1, vec![from]));
    drop((check, served));
    // The end of its input is the client's end.
    drop(client.stdin.take());
    client.wait().unwrap();
    assert_eq!(looks(&counted).count, 0);
}

#[tokio::test]
async fn a_connection_with_services_ports_at_both_ends_counts_once() {
    let (one, other) = (listen(), listen());
    let (to, taken) = (one.local_addr().unwrap(), other.local_addr().unwrap());
    let client = TcpSocket::new_v4().unwrap();
    // Another machine's end with the number of the second service's port.
    let from = SocketAddr::new("127.0.0.2".parse().unwrap(), taken.port());
    client.bind(from).unwrap();
    let _client = client.connect(to).await.unwrap();
    let _served = one.accept().unwrap();
    let mut ports = vec![to.port(), taken.port()];
    // First few ports, then too many to ask for each.
    for _ in 0..2 {
        let counted = Counted::new(to.ip(), ports.clone());
        let seen = [by_tables(&counted), by_diag(&counted)]
            .map(|found| found.into_connections(&BTreeSet::new()));
        for seen in seen {
            assert_eq!((seen.count, seen.peers), (1, vec![from]));
        }
        ports.extend(1..=16);
    }
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
