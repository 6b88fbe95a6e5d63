//! The sockets that names are answered on. The runner holds them and hands them to each agent
//! (`LISTEN_FDS`, sd_listen_fds(3)), so that queries wait in them while an agent is restarted; an
//! agent without such a runner opens its own.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{SocketType, sockopt::socket_type},
};

/// The first descriptor that is handed over.
const FIRST_FD: RawFd = 3;
/// Descriptors that are looked at; a runner hands over two.
const FDS_MAX: RawFd = 16;

/// Bound sockets, not blocking.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For connections.
    pub tcp: TcpListener,
}

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The address could not be taken.
    #[error("could not listen on {address} for names ({transport})")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// udp or tcp.
        transport: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was handed over cannot be used.
    #[error("could not use the sockets that were handed over")]
    Handed(#[source] io::Error),
}

/// Takes the sockets that the parent handed over, or opens them at `address`. At most once in a
/// process, and before anything else opens descriptors by number: it takes ownership of them.
///
/// # Errors
/// Where neither works.
pub fn open(address: SocketAddr) -> Result<Sockets, SocketError> {
    match take_handed().map_err(SocketError::Handed)? {
        Some(sockets) => Ok(sockets),
        None => bind(address),
    }
}

fn bind(address: SocketAddr) -> Result<Sockets, SocketError> {
    let failed = |transport| {
        move |source| SocketError::Bind {
            address,
            transport,
            source,
        }
    };
    let udp = UdpSocket::bind(address).map_err(failed("udp"))?;
    // The port that UDP got: with port 0 both must be the same.
    let address = udp.local_addr().map_err(failed("udp"))?;
    let tcp = TcpListener::bind(address).map_err(failed("tcp"))?;
    unblock(Sockets { udp, tcp }).map_err(failed("tcp"))
}

fn unblock(sockets: Sockets) -> io::Result<Sockets> {
    sockets.udp.set_nonblocking(true)?;
    sockets.tcp.set_nonblocking(true)?;
    Ok(sockets)
}

fn take_handed() -> io::Result<Option<Sockets>> {
    let number = |name: &str| -> Option<RawFd> { std::env::var(name).ok()?.parse().ok() };
    let Some(count) = number("LISTEN_FDS") else {
        return Ok(None);
    };
    // The convention names the process that they are for; a parent that cannot know the child's
    // number before it is there leaves that out.
    let own = RawFd::try_from(std::process::id()).ok();
    if number("LISTEN_PID").is_some_and(|pid| Some(pid) != own) {
        return Ok(None);
    }
    let (mut udp, mut tcp) = (None, None);
    for fd in FIRST_FD..FIRST_FD + count.clamp(0, FDS_MAX) {
        let fd = take(fd)?;
        match socket_type(&fd)? {
            SocketType::DGRAM => udp = Some(UdpSocket::from(fd)),
            SocketType::STREAM => tcp = Some(TcpListener::from(fd)),
            _ => return Err(io::Error::other("one is neither UDP nor TCP")),
        }
    }
    match (udp, tcp) {
        (Some(udp), Some(tcp)) => unblock(Sockets { udp, tcp }).map(Some),
        (None, _) | (_, None) => Err(io::Error::other("there must be one of UDP and one of TCP")),
    }
}

#[allow(
    unsafe_code,
    reason = "a number handed over by the parent is the only form that the convention has"
)]
fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the parent says that this descriptor is open and ours; `open` is called once, so
    // nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Hooks and checks must not inherit it. A descriptor that is not open shows here.
    if let Err(error) = fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        // Closing what is not open could hit another's descriptor later.
        std::mem::forget(fd);
        return Err(error.into());
    }
    Ok(fd)
}
