//! The client's end: one channel to one coordinator, over TLS or over its local socket.
//!
//! In TLS 1.3 a client's handshake is over before its certificate is looked at. So a connection
//! counts as made only when the server has said something: its HTTP/2 preface, which it sends
//! unasked (RFC 9113 section 3.4), or the alert that refuses the certificate. Without that, the
//! refusal would arrive below a call, where hyper loses its reason.

mod heard;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use self::heard::Heard;
use super::explain;
use crate::limits;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server's name is no DNS name.
    #[error("{name:?} is not a DNS name")]
    ServerName {
        /// The name.
        name: String,
    },
    /// TCP or TLS failed.
    #[error("could not connect to {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The socket could not be used.
    #[error("could not connect to {}", path.display())]
    Socket {
        /// Which socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    /// The reason in words, if TLS gave one.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        explain::explain(self)
    }
}

/// Connects to the coordinator at `address`, which must show a certificate for `server_name`
/// (see [`coordinator_dns_name`](super::coordinator_dns_name)).
///
/// # Errors
/// Where the address does not answer in time, is not that coordinator, or refuses the client's
/// certificate; [`ConnectError::explain`] has the words.
pub async fn connect(
    address: SocketAddr,
    server_name: &str,
    config: Arc<ClientConfig>,
) -> Result<Channel, ConnectError> {
    let bad_name = || ConnectError::ServerName {
        name: server_name.to_owned(),
    };
    let name = ServerName::try_from(server_name.to_owned()).map_err(|_| bad_name())?;
    let endpoint =
        Endpoint::from_shared(format!("http://{server_name}")).map_err(|_| bad_name())?;
    let connector = tower::service_fn(move |_| {
        let (name, config) = (name.clone(), Arc::clone(&config));
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(Heard::wait(stream).await?))
        }
    });
    tuned(endpoint)
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Connect { address, source })
}

/// Connects to the coordinator's socket on this machine.
///
/// # Errors
/// Where nobody listens there, or this user may not connect.
pub async fn connect_unix(path: &Path) -> Result<Channel, ConnectError> {
    let socket = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    // Only the authority of the requests: the socket is the address.
    let endpoint = Endpoint::from_static("http://coordinator.local");
    tuned(endpoint)
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Socket {
            path: path.to_owned(),
            source,
        })
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES)
        .http2_max_header_list_size(limits::HEADER_BYTES)
}
