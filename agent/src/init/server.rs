//! Init's end of the runner protocol. Nothing that comes in or does not go out holds anything up:
//! every peer has two bounded buffers, and loses its connection when one overflows or when it sends
//! what is no request. An agent that lost it connects again and asks again.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{event::PollFlags, net::sockopt::socket_peercred};

use crate::{
    local_socket,
    workload::protocol::{LINE_BYTES_MAX, Message, Request},
};

/// Connections at once: the agent, the one that it replaces, and a few people who look.
const PEERS_MAX: usize = 8;
/// Bytes that wait for a peer. A state is below 1 kB: a thousand changes that it has not read.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Pause after the kernel had no descriptor or no memory for a connection. It waits in the
/// listener's queue meanwhile, so that the listener alone would wake the loop at once again.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Read at once from one peer before the others get their turn.
const CHUNK_BYTES: usize = 64 * 1024;

/// The listening socket and its connections.
#[derive(Debug)]
pub(super) struct Server {
    listener: UnixListener,
    /// When connections are taken again; `None` while they are.
    paused_until: Option<Instant>,
    peers: Vec<Peer>,
}

#[derive(Debug)]
struct Peer {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    lost: bool,
}

/// Which peer sent a request; good until the next call of [`Server::forget_lost`].
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerIndex(usize);

impl Server {
    /// Listens on `path`, for the own user and root only.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let listener = local_socket::bind(path)?;
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, owner_only)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            paused_until: None,
            peers: Vec::new(),
        })
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let takes = self.paused_until.is_none();
        let listener = takes.then(|| (self.listener.as_fd(), PollFlags::IN));
        let peers = self.peers.iter().map(|peer| {
            let mut flags = PollFlags::IN;
            if !peer.outgoing.is_empty() {
                flags |= PollFlags::OUT;
            }
            (peer.stream.as_fd(), flags)
        });
        listener.into_iter().chain(peers).collect()
    }

    /// When connections are taken again, after a pause.
    pub(super) fn due(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether anybody is connected.
    pub(super) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Takes new connections, and greets each with `greeting`. Returns why one was refused.
    pub(super) fn accept(&mut self, greeting: &Message, now: Instant) -> Vec<String> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let paused = self.paused_until.take();
        let mut refused = Vec::new();
        loop {
            let error = match self.listener.accept() {
                Ok((stream, _)) => {
                    match self.admit(stream) {
                        Ok(()) => self.send(PeerIndex(self.peers.len() - 1), greeting),
                        Err(reason) => refused.push(format!("refused a connection: {reason}")),
                    }
                    continue;
                }
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::WouldBlock {
                return refused;
            }
            let gone = [io::ErrorKind::ConnectionAborted, io::ErrorKind::Interrupted];
            if gone.contains(&error.kind()) {
                // It was gone before it was taken; there may be others.
                continue;
            }
            self.paused_until = Some(now + ACCEPT_PAUSE);
            // Once, not for as long as it lasts.
            if paused.is_none() {
                refused.push(format!("could not take a connection: {error}"));
            }
            return refused;
        }
    }

    fn admit(&mut self, stream: UnixStream) -> Result<(), String> {
        let credentials = socket_peercred(&stream).map_err(|error| error.to_string())?;
        // Directory and socket admit nobody else; this holds when somebody has loosened them.
        let own = rustix::process::getuid();
        if credentials.uid != own && !credentials.uid.is_root() {
            return Err(format!("user {} is not ours", credentials.uid.as_raw()));
        }
        if self.peers.len() >= PEERS_MAX {
            return Err(format!("{PEERS_MAX} are open"));
        }
        stream
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        self.peers.push(Peer {
            stream,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            lost: false,
        });
        Ok(())
    }

    /// Reads what has come. Returns the whole requests, and why peers were lost.
    pub(super) fn requests(&mut self) -> (Vec<(PeerIndex, Request)>, Vec<String>) {
        let (mut requests, mut lost) = (Vec::new(), Vec::new());
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let result = peer.read(|request| requests.push((PeerIndex(index), request)));
            if let Err(reason) = result {
                peer.lost = true;
                lost.extend(reason.map(|reason| format!("closed a connection: {reason}")));
            }
        }
        (requests, lost)
    }

    /// Sends to one peer.
    pub(super) fn send(&mut self, to: PeerIndex, message: &Message) {
        if let Some(peer) = self.peers.get_mut(to.0) {
            peer.send(message);
        }
    }

    /// Sends to all peers.
    pub(super) fn send_all(&mut self, message: &Message) {
        for peer in &mut self.peers {
            peer.send(message);
        }
    }

    /// Sends on what waits and can go.
    pub(super) fn flush(&mut self) {
        for peer in &mut self.peers {
            peer.flush();
        }
    }

    /// Closes the connections that were lost.
    pub(super) fn forget_lost(&mut self) {
        self.peers.retain(|peer| !peer.lost);
    }
}

impl Peer {
    /// `Err(None)` when the other end has closed it.
    fn read(&mut self, mut take: impl FnMut(Request)) -> Result<(), Option<String>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(None),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Some(error.to_string())),
        };
        self.incoming.extend_from_slice(&chunk[..count]);
        let mut taken = 0;
        while let Some(length) = self.incoming[taken..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let line = &self.incoming[taken..taken + length];
            let request = serde_json::from_slice(line);
            take(request.map_err(|error| Some(format!("it sent what is no request: {error}")))?);
            taken += length + 1;
        }
        self.incoming.drain(..taken);
        if self.incoming.len() > LINE_BYTES_MAX {
            return Err(Some(format!(
                "it sent a line of more than {LINE_BYTES_MAX} bytes"
            )));
        }
        Ok(())
    }

    fn send(&mut self, message: &Message) {
        // Numbers and text only: this cannot fail, and a peer without its answer asks again.
        let Ok(line) = serde_json::to_vec(message) else {
            self.lost = true;
            return;
        };
        if self.outgoing.len() + line.len() >= WAITING_BYTES_MAX {
            self.lost = true;
            return;
        }
        self.outgoing.extend_from_slice(&line);
        self.outgoing.push(b'\n');
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => self.lost = true,
                Ok(count) => {
                    self.outgoing.drain(..count);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => self.lost = true,
            }
            return;
        }
    }
}
