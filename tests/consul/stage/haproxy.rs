//! HAProxy as consumer, in the two ways that people use it with Consul: servers from a template that
//! its resolvers fill from Consul's DNS, and a configuration that consul-template writes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::program::Program;
use crate::support::until;

/// Servers that the template has room for: more than two sets of any fleet of the tests.
const SLOTS: usize = 16;

/// The header that says which server answered, as `address:port`.
pub(crate) const SERVED_BY: &str = "x-served-by";

/// Where HAProxy takes a request for one service, and by which name it finds who serves it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The DNS name of type SRV: `_web._active.service.consul`.
    pub(crate) name: String,
}

impl Route {
    /// To whoever is active.
    pub(crate) fn active(service: &str, domain: &str) -> Self {
        Self::of(format!("_{service}._active.service.{domain}"))
    }

    /// To all that are found without a tag; `_tcp` is what RFC 2782 has there.
    pub(crate) fn untagged(service: &str, domain: &str) -> Self {
        Self::of(format!("_{service}._tcp.service.{domain}"))
    }

    fn of(name: String) -> Self {
        Self {
            listen: free_address(),
            name,
        }
    }
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// What every configuration begins with.
///
/// No request is tried twice but where no connection came about: what a client would notice is to be
/// seen.
pub(crate) fn common(directory: &Path) -> String {
    format!(
        "global\n  maxconn 2000\n  hard-stop-after 10s\n  \
           stats socket {} mode 600 level admin expose-fd listeners\n\
         defaults\n  mode http\n  option redispatch 1\n  retries 3\n  retry-on conn-failure\n  \
           timeout connect 1s\n  timeout client 30s\n  timeout server 10s\n",
        socket(directory).display()
    )
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("haproxy.sock")
}

/// Names that go on for longer than any outage: Consul's silence, its errors and its empty answers take
/// nobody out. Only an answer without somebody does, after a second.
pub(crate) fn resolvers(dns: SocketAddr) -> String {
    format!(
        "resolvers consul\n  nameserver consul {dns}\n  accepted_payload_size 8192\n  \
           resolve_retries 3\n  timeout resolve 500ms\n  timeout retry 500ms\n  \
           hold valid 500ms\n  hold obsolete 1s\n  \
           hold nx 1h\n  hold timeout 1h\n  hold refused 1h\n  hold other 1h\n"
    )
}

fn frontend(number: usize, listen: SocketAddr) -> String {
    format!(
        "frontend f{number}\n  bind {listen}\n  \
           http-response set-header {SERVED_BY} %si:%sp\n  default_backend b{number}\n"
    )
}

/// A running HAProxy.
pub(crate) struct Haproxy {
    directory: PathBuf,
    pub(crate) program: Program,
}

impl Haproxy {
    /// One whose servers come from Consul's DNS at this address.
    pub(crate) async fn with_resolvers(
        directory: &Path,
        dns: SocketAddr,
        routes: &[Route],
    ) -> Self {
        let mut text = common(directory) + &resolvers(dns);
        for (number, route) in routes.iter().enumerate() {
            text += &frontend(number, route.listen);
            text += &format!(
                "backend b{number}\n  balance roundrobin\n  \
                   server-template web {SLOTS} {} resolvers consul resolve-prefer ipv4 \
                   init-addr none check inter 1s\n",
                route.name
            );
        }
        fs::write(directory.join("haproxy.cfg"), text).unwrap();
        Self::start(directory).await
    }

    /// One with the configuration that lies in `directory`.
    pub(crate) async fn start(directory: &Path) -> Self {
        let program = Program::start(
            directory,
            "haproxy",
            Path::new("/usr/sbin/haproxy"),
            &["-W", "-db", "-f", "haproxy.cfg"],
        );
        let mut haproxy = Self {
            directory: directory.to_owned(),
            program,
        };
        until("HAProxy's socket", async || {
            assert_eq!(haproxy.program.ended(), None, "{}", haproxy.program.log());
            haproxy.ask("show info").await.map(drop)
        })
        .await;
        // Not its own (`-p`), which is empty for a moment of each reload.
        let pid = haproxy.program.pid().to_string();
        fs::write(directory.join("haproxy.pid"), pid).unwrap();
        haproxy
    }

    /// Has it read its configuration anew, without a connection lost.
    pub(crate) fn reload(&self) {
        self.program.signal(Signal::SIGUSR2);
    }

    /// What it answers to a command on its socket.
    pub(crate) async fn ask(&self, command: &str) -> Result<String, std::io::Error> {
        let mut stream = UnixStream::connect(socket(&self.directory)).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The addresses that it sends the requests of a route to, in order: `address:port`.
    pub(crate) async fn servers(&self, route: usize) -> Vec<String> {
        let answer = self
            .ask(&format!("show servers state b{route}"))
            .await
            .unwrap_or_default();
        // The columns are described in its management guide, "show servers state".
        let mut found: Vec<String> = answer
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let columns: Vec<&str> = line.split(' ').collect();
                let (address, up, port) = (*columns.get(4)?, *columns.get(5)?, *columns.get(18)?);
                (up != "0" && address != "-").then(|| format!("{address}:{port}"))
            })
            .collect();
        found.sort();
        found
    }
}
