//! The DNS sockets of a machine. Init binds them and keeps them for its whole life, so that a look-up
//! that comes while the agent restarts waits in the socket's queue and is answered late, not refused.
//!
//! They are handed over as systemd hands over sockets (`sd_listen_fds(3)`): descriptors from 3 on,
//! `LISTEN_FDS` and `LISTEN_PID`. So an agent does not care which of the two started it.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::net::{SocketType, sockopt::socket_type};

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
pub(super) const FIRST: RawFd = 3;
/// UDP and TCP.
pub(super) const COUNT: RawFd = 2;

/// The sockets on which the environment's names are answered.
#[derive(Debug)]
pub struct DnsSockets {
    /// For most look-ups.
    pub udp: UdpSocket,
    /// For those whose answer is too long for UDP.
    pub tcp: TcpListener,
}

impl DnsSockets {
    /// Binds both.
    ///
    /// # Errors
    /// Where the address is not there or in use.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address)?;
        let tcp = TcpListener::bind(address)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { udp, tcp })
    }

    /// The sockets that whoever started this process handed over; `None` when there are none. To be
    /// called once, before anything else opens descriptors.
    ///
    /// # Errors
    /// Where what was handed over is not one UDP and one TCP socket.
    pub fn inherited() -> io::Result<Option<Self>> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Ok(None);
        }
        let count = number("LISTEN_FDS").unwrap_or(0);
        if count != COUNT.unsigned_abs() {
            let message = format!("{count} sockets were handed over, {COUNT} are expected");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let udp = UdpSocket::from(take(FIRST, SocketType::DGRAM)?);
        let tcp = TcpListener::from(take(FIRST + 1, SocketType::STREAM)?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Some(Self { udp, tcp }))
    }

    /// Their descriptors, in the order in which they are handed over.
    pub(super) fn descriptors(&self) -> [RawFd; 2] {
        [self.udp.as_raw_fd(), self.tcp.as_raw_fd()]
    }
}

#[allow(
    unsafe_code,
    reason = "a descriptor that comes by its number can be taken in no other way"
)]
fn take(descriptor: RawFd, expected: SocketType) -> io::Result<OwnedFd> {
    // SAFETY: LISTEN_PID names this process and LISTEN_FDS counts this descriptor, so it was opened
    // for us by who started us, and nothing else in this process owns it (`sd_listen_fds(3)`).
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let found = socket_type(&socket)?;
    if found != expected {
        let message = format!("socket {descriptor} is of type {found:?}, not {expected:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // Not for the commands that the agent runs.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}
