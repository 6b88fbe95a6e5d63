//! The workload of a played machine: it takes connections and does nothing with them.

use std::{fs, io::ErrorKind, net::SocketAddr, path::PathBuf, time::Duration};

use calvin_model::Provision;
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use super::super::files::PORT;

/// Pause before it tries again to listen.
const BIND_AGAIN: Duration = Duration::from_millis(50);

/// Starts that of the machine in this folder. It runs until it is dropped.
pub(super) fn start(machine: PathBuf) -> JoinSet<()> {
    let text = fs::read_to_string(machine.join("provision.toml")).unwrap();
    let provision = Provision::parse("provision.toml", &text).unwrap();
    let address = SocketAddr::new(provision.address.unwrap(), PORT);
    let mut task = JoinSet::new();
    task.spawn(async move {
        while machine.is_dir() {
            match TcpListener::bind(address).await {
                Ok(listener) => take_connections(&listener).await,
                // The machine that had this address before is gone, and its workload not yet.
                Err(error) if error.kind() == ErrorKind::AddrInUse => sleep(BIND_AGAIN).await,
                Err(error) => panic!("could not listen on {address}: {error}"),
            }
        }
    });
    task
}

async fn take_connections(listener: &TcpListener) -> ! {
    loop {
        let _ = listener.accept().await;
    }
}
