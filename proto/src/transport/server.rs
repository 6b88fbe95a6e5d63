//! The server's end: accepts connections, does their handshakes beside each other with a bound and
//! a deadline, and hands those that passed to tonic.
//!
//! The configuration is read anew for each handshake, so a swapped one counts from the next
//! connection on. Connections that are up stay up: what they may do is judged per call.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use futures_util::Stream;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::{Server, server::Connected};
use tracing::Instrument as _;

use super::{
    explain::explain,
    peer::{PeerCertificate, PeerInfo, Shown},
};
use crate::limits;

/// A handshake that failed: for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeRefused {
    /// Whose.
    pub address: SocketAddr,
    /// Why, in words.
    pub reason: String,
}

/// Told of each handshake that failed.
pub type OnRefused = Arc<dyn Fn(HandshakeRefused) + Send + Sync>;

/// The connections that passed their handshake. Dropping it stops accepting.
#[derive(Debug)]
pub struct Incoming {
    accepted: mpsc::Receiver<Connection>,
    // Aborts the accepting task, and with it every handshake under way.
    _task: JoinSet<()>,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accepted.poll_recv(cx).map(|next| next.map(Ok))
    }
}

/// Accepts from `listener` until the stream is dropped. Must be called inside a tokio runtime.
pub fn incoming(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    refused: OnRefused,
) -> Incoming {
    let (sender, accepted) = mpsc::channel(limits::ACCEPTED_QUEUE);
    let mut task = JoinSet::new();
    let span = tracing::info_span!("accept", listener = ?listener.local_addr().ok());
    task.spawn(accept(listener, tls, refused, sender).instrument(span));
    Incoming {
        accepted,
        _task: task,
    }
}

/// A server with the limits of this crate; the caller adds services.
#[must_use]
pub fn server_builder(streams: u32) -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES)
        .max_concurrent_streams(streams)
        .http2_max_header_list_size(limits::HEADER_BYTES)
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    refused: OnRefused,
    sender: mpsc::Sender<Connection>,
) {
    let permits = Arc::new(Semaphore::new(limits::HANDSHAKES));
    let anonymous = Arc::new(Semaphore::new(limits::ANONYMOUS_CONNECTIONS));
    let mut handshakes = JoinSet::new();
    // The semaphore is never closed: an error cannot come.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, address)) => {
                let acceptor = TlsAcceptor::from(tls.load_full());
                let handshake = Handshake {
                    address,
                    refused: Arc::clone(&refused),
                    sender: sender.clone(),
                    permit,
                    anonymous: Arc::clone(&anonymous),
                };
                let span = tracing::debug_span!("handshake", peer = %address);
                handshakes.spawn(handshake.run(acceptor, stream).instrument(span));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Handshake {
    address: SocketAddr,
    refused: OnRefused,
    sender: mpsc::Sender<Connection>,
    permit: OwnedSemaphorePermit,
    anonymous: Arc<Semaphore>,
}

impl Handshake {
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        let handshake = acceptor.accept(stream).into_fallible();
        match timeout(limits::HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => {
                drop(self.permit);
                let connection = Connection::new(self.address, stream, &self.anonymous);
                let Some(connection) = connection else {
                    (self.refused)(HandshakeRefused {
                        address: self.address,
                        reason: "too many connections without a certificate".to_owned(),
                    });
                    return;
                };
                if self.sender.send(connection).await.is_err() {
                    tracing::debug!("the server is going down");
                }
            }
            Ok(Err((error, stream))) => {
                // Without a reason nobody was refused: the other side has gone, as a port scan or
                // a health check by TCP does.
                let Some(reason) = explain(&error) else {
                    tracing::debug!(%error, "the other side left in its handshake");
                    return;
                };
                (self.refused)(HandshakeRefused {
                    address: self.address,
                    reason,
                });
                linger(stream).await;
            }
            Err(_) => (self.refused)(HandshakeRefused {
                address: self.address,
                reason: format!(
                    "the handshake took longer than {:?}",
                    limits::HANDSHAKE_TIMEOUT
                ),
            }),
        }
    }
}

/// Lets the alert reach the other side: closing a socket that holds unread bytes makes TCP throw
/// away what was sent, and the client would read "connection reset" where a reason was given.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(limits::REFUSAL_LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    match timeout(limits::REFUSAL_LINGER, drain).await {
        Ok(Ok(bytes)) => tracing::trace!(bytes, "drained after a refusal"),
        Ok(Err(error)) => tracing::trace!(%error, "the other side is gone"),
        Err(_) => tracing::trace!("the other side does not close"),
    }
}

/// One connection that passed its handshake.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    /// With a connection that showed no certificate.
    anonymous: Option<Anonymous>,
}

/// Bounds the life and the number of connections without a certificate.
struct Anonymous {
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// `None` where it shows no certificate and there are too many such.
    fn new(
        address: SocketAddr,
        stream: TlsStream<TcpStream>,
        permits: &Arc<Semaphore>,
    ) -> Option<Self> {
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let shown = match certificate.map(PeerCertificate::parse) {
            None => Shown::Nothing,
            Some(Ok(certificate)) => Shown::Certificate(Arc::new(certificate)),
            Some(Err(error)) => Shown::Unreadable(error),
        };
        let anonymous = match shown {
            Shown::Certificate(_) => None,
            Shown::Nothing | Shown::Unreadable(_) => Some(Anonymous {
                end: Box::pin(sleep(limits::ANONYMOUS_LIFETIME)),
                _permit: Arc::clone(permits).try_acquire_owned().ok()?,
            }),
        };
        Some(Self {
            stream,
            peer: PeerInfo { address, shown },
            anonymous,
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(anonymous) = &mut self.anonymous
            && anonymous.end.as_mut().poll(cx).is_ready()
        {
            // End of stream: the server sees that the client has gone.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
