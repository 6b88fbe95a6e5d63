//! The coordinator's listeners: bound before anything is decided, so that a port in use is told at
//! once.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener};

use super::error::ServeError;
use crate::{config::ServeConfig, store::DataDirectory};

/// Longest path of a unix socket: `sun_path` has 108 bytes, the last is zero (unix(7)).
const SOCKET_PATH_BYTES: usize = 107;

/// All of them.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) agents: TcpListener,
    pub(super) operators: Option<TcpListener>,
    pub(super) http: Option<TcpListener>,
    pub(super) socket: UnixListener,
    pub(super) socket_path: PathBuf,
}

impl Listeners {
    pub(super) async fn bind(
        config: &ServeConfig,
        directory: &DataDirectory,
    ) -> Result<Self, ServeError> {
        let listen = |what, at: Option<crate::config::ListenConfig>| async move {
            match at {
                Some(at) => tcp(what, at.listen).await.map(Some),
                None => Ok(None),
            }
        };
        let socket_path = directory.run().join("operator.sock");
        Ok(Self {
            agents: tcp("agents", config.agents.listen).await?,
            operators: listen("operators", config.operators).await?,
            http: listen("health", config.http).await?,
            socket: unix(&socket_path)?,
            socket_path,
        })
    }
}

async fn tcp(what: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ServeError::Listen {
        what,
        address,
        source,
    })
}

/// The address that a listener got: where a port was left to the system, another than asked for.
pub(super) fn address(
    what: &'static str,
    listener: &TcpListener,
) -> Result<SocketAddr, ServeError> {
    let address = listener.local_addr();
    address.map_err(|source| ServeError::System { what, source })
}

fn unix(path: &Path) -> Result<UnixListener, ServeError> {
    let length = path.as_os_str().as_bytes().len();
    if length > SOCKET_PATH_BYTES {
        return Err(ServeError::SocketPath {
            path: path.to_owned(),
            length,
            max: SOCKET_PATH_BYTES,
        });
    }
    let failed = |source| ServeError::Socket {
        path: path.to_owned(),
        source,
    };
    // The data directory is ours, so what lies there is of a run that ended without a word.
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Its directory is closed to others, so nobody can have come in between.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}
