//! The two sockets' loops. A datagram is answered at once, in its turn; a connection is a task,
//! bounded in number, in time and in what it may send.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{Instrument as _, debug, info_span, warn};

use super::{
    reply::{Transport, reply},
    store::Names,
};
use crate::init::DnsSockets;

/// Largest datagram that is read. Queries take below 300 bytes; what is longer is cut and refused.
const QUERY_BYTES_MAX: usize = 4096;
/// Connections at one time. A stub resolver opens one for a long answer, for some milliseconds;
/// each holds below 70 KiB.
const CONNECTIONS_MAX: usize = 64;
/// Silence after which a connection is closed (RFC 7766 section 6.2.3 asks for some seconds).
const IDLE: Duration = Duration::from_secs(5);
/// Pause after a socket's error that says nothing of the next call (no file descriptors left).
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// The running server; dropping it ends every loop and connection.
#[derive(Debug)]
pub struct Server {
    _tasks: JoinSet<()>,
}

/// Serves `names` on the sockets. Must be called inside a tokio runtime.
///
/// # Errors
/// Where the runtime cannot take the sockets.
pub fn serve(names: Arc<Names>, sockets: DnsSockets) -> io::Result<Server> {
    let udp = UdpSocket::from_std(sockets.udp)?;
    let tcp = TcpListener::from_std(sockets.tcp)?;
    let mut tasks = JoinSet::new();
    let span = info_span!("dns", transport = "udp");
    tasks.spawn(answer_datagrams(names.clone(), udp).instrument(span));
    let span = info_span!("dns", transport = "tcp");
    tasks.spawn(accept(names, tcp).instrument(span));
    Ok(Server { _tasks: tasks })
}

async fn answer_datagrams(names: Arc<Names>, socket: UdpSocket) {
    let mut packet = vec![0; QUERY_BYTES_MAX];
    loop {
        let (length, client) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            // A client that went away shows as an error of the next call (ip(7)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                warn!(%error, "could not receive");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        if client.port() == 0 {
            continue;
        }
        if let Some(answer) = answer(&names, &packet[..length], Transport::Udp)
            && let Err(error) = socket.send_to(&answer, client).await
        {
            debug!(%error, %client, "could not answer");
        }
    }
}

async fn accept(names: Arc<Names>, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    // The semaphore is never closed: an error cannot come.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, client)) => {
                let names = names.clone();
                let connection = async move {
                    if let Err(error) = converse(&names, stream).await {
                        debug!(%error, "connection ended");
                    }
                    drop(permit);
                };
                connections.spawn(connection.instrument(connection_span(client)));
            }
            Err(error) => {
                warn!(%error, "could not accept");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

fn connection_span(client: SocketAddr) -> tracing::Span {
    tracing::debug_span!("connection", %client)
}

/// Answers query after query (RFC 7766): each is preceded by its length.
async fn converse(names: &Names, mut stream: TcpStream) -> io::Result<()> {
    let mut packet = vec![0; QUERY_BYTES_MAX];
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(query) = packet.get_mut(..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        timeout(IDLE, stream.read_exact(query)).await??;
        let Some(answer) = answer(names, query, Transport::Tcp) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

fn answer(names: &Names, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let zone = names.zone();
    // Drawn and not counted: clients ask for A and AAAA in turn, and a count would give each of
    // them every second answer only.
    let turn = fastrand::usize(..);
    reply(names.apex(), zone.as_deref(), packet, transport, turn)
}
