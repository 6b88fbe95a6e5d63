//! The two sockets' loops. A datagram is answered at once, in its turn, out of a snapshot, or by a
//! task that asks Consul; a connection is a task, bounded in number, in time and in what it may send.

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
    forward::{Answered, Forwarder, Target},
    reply::{Heard, Question, Transport, hear},
    store::Names,
};
use crate::init::DnsSockets;

/// Largest datagram that is read. Queries take below 300 bytes; what is longer is cut and refused.
const QUERY_BYTES_MAX: usize = 4096;
/// Connections at one time. A stub resolver opens one for a long answer, for some milliseconds;
/// each holds below 70 KiB.
const CONNECTIONS_MAX: usize = 64;
/// Datagrams that wait for Consul's answers at one time, each with some KiB. They come faster than they
/// are asked: a socket holds some 280 of them (`net.core.rmem_default`), and all of those are read
/// before the first is asked.
const WAITING_MAX: usize = 1024;
/// Silence after which a connection is closed (RFC 7766 section 6.2.3 asks for some seconds).
const IDLE: Duration = Duration::from_secs(5);
/// Pause after a socket's error that says nothing of the next call (no file descriptors left).
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// The running server; dropping it ends every loop and connection.
#[derive(Debug)]
pub struct Server {
    _tasks: JoinSet<()>,
}

/// What answers: snapshots, or another server where there is one.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The names of the snapshots that came.
    pub names: Arc<Names>,
    /// The Consul client of the machine, where it joins one.
    pub forwarder: Arc<Forwarder>,
}

/// Serves names on the sockets. Must be called inside a tokio runtime.
///
/// # Errors
/// Where the runtime cannot take the sockets.
pub fn serve(sources: &Sources, sockets: DnsSockets) -> io::Result<Server> {
    let udp = UdpSocket::from_std(sockets.udp)?;
    let tcp = TcpListener::from_std(sockets.tcp)?;
    let mut tasks = JoinSet::new();
    let span = info_span!("dns", transport = "udp");
    tasks.spawn(answer_datagrams(sources.clone(), udp).instrument(span));
    let span = info_span!("dns", transport = "tcp");
    tasks.spawn(accept(sources.clone(), tcp).instrument(span));
    Ok(Server { _tasks: tasks })
}

async fn answer_datagrams(sources: Sources, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(WAITING_MAX));
    let mut questions = JoinSet::new();
    let mut packet = vec![0; QUERY_BYTES_MAX];
    loop {
        while questions.try_join_next().is_some() {}
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
        let apex = sources.names.apex();
        let question = match hear(apex, &packet[..length], Transport::Udp) {
            Heard::Nothing => continue,
            Heard::Settled(reply) => {
                send(&socket, Some(reply), client).await;
                continue;
            }
            Heard::Question(question) => question,
        };
        if sources.forwarder.target() == Target::Snapshots {
            send(&socket, sources.at_once(*question), client).await;
        } else if let Ok(permit) = permits.clone().try_acquire_owned() {
            let (sources, socket) = (sources.clone(), socket.clone());
            questions.spawn(async move {
                send(&socket, sources.answer(*question).await, client).await;
                drop(permit);
            });
        } else {
            // So many wait for Consul that this one's time would be over before its turn.
            let known = sources.forwarder.known(&question.query);
            send(&socket, sources.settle(*question, &known), client).await;
        }
    }
}

async fn send(socket: &UdpSocket, reply: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(reply) = reply
        && let Err(error) = socket.send_to(&reply, client).await
    {
        debug!(%error, %client, "could not answer");
    }
}

async fn accept(sources: Sources, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    // The semaphore is never closed: an error cannot come.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, client)) => {
                let sources = sources.clone();
                let connection = async move {
                    if let Err(error) = converse(&sources, stream).await {
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
async fn converse(sources: &Sources, mut stream: TcpStream) -> io::Result<()> {
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
        let answer = match hear(sources.names.apex(), query, Transport::Tcp) {
            Heard::Nothing => None,
            Heard::Settled(reply) => Some(reply),
            Heard::Question(question) => sources.answer(*question).await,
        };
        let Some(answer) = answer else {
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

impl Sources {
    /// The reply to a question, out of whatever answers now.
    async fn answer(&self, question: Question) -> Option<Vec<u8>> {
        let query = &question.query;
        let answered = match self.forwarder.target() {
            Target::Snapshots => return self.at_once(question),
            // A snapshot from before Consul knows it, so nobody has to be waited for.
            Target::Memory if self.names.find(query) => self.forwarder.known(query),
            Target::Memory | Target::Client(_) => self.forwarder.answer(query).await,
        };
        self.settle(question, &answered)
    }

    /// The reply to a question where Consul is asked: what it says, and where it knows nobody, what was
    /// known before it was asked, for as long as that is not forgotten.
    fn settle(&self, question: Question, answered: &Answered) -> Option<Vec<u8>> {
        if !answered.has_records() && self.names.find(&question.query) {
            return self.at_once(question);
        }
        reply_of(question, answered)
    }

    /// The reply to a question out of the newest snapshot.
    fn at_once(&self, question: Question) -> Option<Vec<u8>> {
        let zone = self.names.zone();
        question.answer_from_zone(zone.as_deref(), turn())
    }
}

fn reply_of(question: Question, answered: &Answered) -> Option<Vec<u8>> {
    match answered {
        // Its order was drawn by the server.
        Answered::Fresh(answer) => question.answer_as(answer, 0),
        Answered::Shared(answer) | Answered::Stale(answer) => question.answer_as(answer, turn()),
        Answered::Unknown => question.failed(),
    }
}

/// Drawn and not counted: clients ask for A and AAAA in turn, and a count would give each of them
/// every second answer only.
fn turn() -> usize {
    fastrand::usize(..)
}
