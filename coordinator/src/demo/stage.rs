//! The stage: a directory with every file of the demo, and the coordinator that uses it.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{DemoError, coordinator::Coordinator, files, operator::Operator, processes};

/// Everything of one demo.
#[derive(Debug)]
pub(super) struct Stage {
    home: PathBuf,
    pub(super) coordinator: Coordinator,
    pub(super) operator: Operator,
}

impl Stage {
    /// Writes the files. Starts nothing.
    pub(super) fn prepare() -> Result<Self, DemoError> {
        let program = env::current_exe().map_err(|source| DemoError::System {
            doing: "find this program's file",
            source,
        })?;
        // The process id is unique among those that run; a directory of an older demo with the
        // same one is passed over.
        let home = make_home(&env::temp_dir(), std::process::id())?;
        let config = home.join("calvin.toml");
        let text = files::calvin_toml(&home, free_address()?, &network(std::process::id()));
        write(&config, &text)?;
        for (version, fault) in files::WEB_VERSIONS {
            let text = files::web_image(&program, version, fault);
            write(
                &home.join(format!("images/web-{version}/image.toml")),
                &text,
            )?;
        }
        let text = files::client_image(&program);
        write(&home.join("images/client-1.0/image.toml"), &text)?;
        write(&home.join("web.toml"), &files::web_fleet())?;
        write(&home.join("client.toml"), &files::client_fleet())?;
        let operator = Operator::new(home.join("data/run/operator.sock"));
        Ok(Self {
            coordinator: Coordinator::new(program, &home, config),
            home,
            operator,
        })
    }

    /// Where all files lie.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The operator's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.home.join("data/run/operator.sock")
    }

    /// Every image's directory.
    pub(super) fn images(&self) -> Vec<PathBuf> {
        let web = files::WEB_VERSIONS.map(|(version, _)| format!("images/web-{version}"));
        let client = std::iter::once("images/client-1.0".to_owned());
        web.into_iter()
            .chain(client)
            .map(|image| self.home.join(image))
            .collect()
    }

    /// Ends everything; the number of processes that would not go.
    pub(super) async fn end_all(&mut self) -> usize {
        // The coordinator first: it would replace the machines that it misses.
        self.coordinator.stop().await;
        processes::end_all(&self.home).await
    }

    /// Lets everything outlive the demo.
    pub(super) fn leave_running(&mut self) {
        self.coordinator.leave_running();
    }
}

/// Makes a directory of its own. Its path is short: sockets lie deep inside, and the path of a
/// socket has at most 107 bytes (unix(7)).
fn make_home(parent: &Path, number: u32) -> Result<PathBuf, DemoError> {
    // So many demos with one process id leave nobody room anyway.
    const TRIES: u32 = 1000;
    let mut attempt = 0;
    loop {
        let path = parent.join(match attempt {
            0 => format!("calvin-demo-{number}"),
            more => format!("calvin-demo-{number}-{more}"),
        });
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && attempt < TRIES => {
                attempt += 1;
            }
            Err(source) => {
                return Err(DemoError::File {
                    doing: "make",
                    path,
                    source,
                });
            }
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    let failed = |source| DemoError::File {
        doing: "write",
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

/// An address for the agents' listener that was free a moment ago. It must be known beforehand: the
/// coordinator is started again on the same one.
fn free_address() -> Result<SocketAddr, DemoError> {
    let failed = |source| DemoError::System {
        doing: "find a free port",
        source,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.local_addr().map_err(failed)
}

/// A network for the machines: 254 addresses of 127.64.0.0/10, so that two demos at once rarely
/// choose the same one. (Where they do, each address still has one owner.)
fn network(number: u32) -> String {
    let [_, _, high, low] = number.to_be_bytes();
    format!("127.{}.{low}.0/24", 64 + high % 64)
}
