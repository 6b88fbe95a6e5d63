//! The sockets of the machine by sock_diag(7). The kernel leaves out what has other ports or another
//! state, so that a look costs a fifth of a millisecond where a read of the tables takes five.

use std::{io, net::SocketAddr};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::Socket;

/// Room for one datagram: the kernel fills at most this many bytes at a time (netlink(7)).
const DATAGRAM: usize = 32 * 1024;

/// Each port takes two questions per family, and for each the kernel walks all of its sockets. With
/// more ports than this, all sockets are had for less.
const PORTS_ASKED_MAX: usize = 4;

/// Gives every established connection with one of these ports at either end to `take`, some of them
/// twice, and with many ports others too. One whose ends are both on this machine comes from each.
pub(super) fn each_of(ports: &[u16], take: &mut dyn FnMut(Socket)) -> io::Result<()> {
    let netlink = connect()?;
    let mut room = vec![0; DATAGRAM];
    for (family, any) in [
        (AF_INET, SocketId::new_v4()),
        // A workload that listens on both families has its IPv4 clients here.
        (AF_INET6, SocketId::new_v6()),
    ] {
        for which in questions(ports, any) {
            ask(&netlink, family, IPPROTO_TCP, which)?;
            receive(&netlink, &mut room, take)?;
        }
    }
    Ok(())
}

/// Which sockets to ask for, where `any` stands for all of a family.
fn questions(ports: &[u16], any: SocketId) -> Vec<SocketId> {
    if ports.len() > PORTS_ASKED_MAX {
        return vec![any];
    }
    let both = |port: &u16| {
        let served = SocketId {
            source_port: *port,
            ..any.clone()
        };
        let clients = SocketId {
            destination_port: *port,
            ..any.clone()
        };
        [served, clients]
    };
    ports.iter().flat_map(both).collect()
}

fn connect() -> io::Result<Netlink> {
    let mut netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddr::new(0, 0))?;
    Ok(netlink)
}

fn ask(netlink: &Netlink, family: u8, protocol: u8, socket_id: SocketId) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED,
        socket_id,
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    netlink.send(&bytes, 0)?;
    Ok(())
}

/// Reads the answer to one question to its end.
fn receive(netlink: &Netlink, room: &mut [u8], take: &mut dyn FnMut(Socket)) -> io::Result<()> {
    loop {
        let size = netlink.recv(&mut &mut *room, 0)?;
        let mut rest = room.get(..size).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            match message.payload {
                // A dump that fails ends like one that is complete, but for its code.
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Overrun(_) => {
                    return Err(io::Error::other(
                        "the kernel had more to tell than was read",
                    ));
                }
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                    take(socket(&found));
                }
                // Answers to what was not asked.
                NetlinkPayload::Noop | NetlinkPayload::InnerMessage(_) | _ => {}
            }
            // Messages begin at multiples of four bytes (netlink(7)).
            let next = length.next_multiple_of(4).max(4);
            rest = rest.get(next..).unwrap_or_default();
        }
    }
}

fn socket(found: &InetResponse) -> Socket {
    let id = &found.header.socket_id;
    Socket {
        local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        peer: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        inode: Some(u64::from(found.header.inode)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_the_kernel_cannot_answer_is_an_error_and_not_an_empty_answer() {
        let netlink = connect().unwrap();
        // No protocol has this number.
        ask(&netlink, AF_INET, 250, SocketId::new_v4()).unwrap();
        let mut room = vec![0; DATAGRAM];
        let error = receive(&netlink, &mut room, &mut |_| {}).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }
}
