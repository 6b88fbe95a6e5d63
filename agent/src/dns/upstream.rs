//! One question to another DNS server on this machine.

use std::{io, net::SocketAddr, time::Duration};

use hickory_proto::{
    ProtoError,
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Time for a datagram's answer. The server is on this machine and asks others that are near; who
/// asks us gives up after a second or more.
const UDP_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for the whole answer over a stream, where it did not fit into a datagram.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest answer over UDP that is asked for: what passes every path unfragmented (RFC 9715).
const UDP_BYTES_MAX: u16 = 1232;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nobody is there, or the connection broke.
    #[error("could not ask {server}")]
    Io {
        server: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// It says nothing.
    #[error("{server} has not answered within {limit:?}")]
    Silent { server: SocketAddr, limit: Duration },
    /// It was not asked: so many questions were before this one.
    #[error("{server} answers so slowly that others were not asked within {limit:?}")]
    Crowded { server: SocketAddr, limit: Duration },
    /// It says that it cannot answer.
    #[error("{server} answered {code}")]
    Refused {
        server: SocketAddr,
        code: ResponseCode,
    },
    /// The question cannot be written or the answer not be read.
    #[error("could not understand the answer of {server}")]
    Message {
        server: SocketAddr,
        #[source]
        source: ProtoError,
    },
}

/// Asks, over UDP first, and over TCP for what does not fit. An answer says what there is, also that
/// there is nothing.
pub(super) async fn ask(server: SocketAddr, query: &Query) -> Result<Message, UpstreamError> {
    let id = fastrand::u16(..);
    let packet = question(id, query).map_err(|source| UpstreamError::Message { server, source })?;
    let answer = within(server, UDP_TIMEOUT, over_udp(server, &packet, id, query)).await?;
    let answer = if answer.metadata.truncation {
        let bytes = within(server, TCP_TIMEOUT, over_tcp(server, &packet)).await?;
        let read = Message::from_vec(&bytes);
        read.map_err(|error| UpstreamError::Message {
            server,
            source: error.into(),
        })?
    } else {
        answer
    };
    let code = answer.metadata.response_code;
    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        Ok(answer)
    } else {
        Err(UpstreamError::Refused { server, code })
    }
}

fn question(id: u16, query: &Query) -> Result<Vec<u8>, ProtoError> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX).set_version(0);
    message.edns = Some(edns);
    message.to_vec()
}

async fn within<T>(
    server: SocketAddr,
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, UpstreamError> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|source| UpstreamError::Io { server, source }),
        Err(_) => Err(UpstreamError::Silent { server, limit }),
    }
}

async fn over_udp(
    server: SocketAddr,
    packet: &[u8],
    id: u16,
    query: &Query,
) -> io::Result<Message> {
    // Of the same address: on loopback every one reaches every other.
    let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever is no answer to this question is not waited for and not believed.
        let Ok(answer) = Message::from_vec(&buffer[..length]) else {
            continue;
        };
        let metadata = &answer.metadata;
        let ours = metadata.id == id
            && metadata.message_type == MessageType::Response
            && answer.queries.first().is_none_or(|asked| asked == query);
        if ours {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(packet);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
