//! `calvin serve --dev`: an environment on this machine without a file written by hand.
//!
//! The ports are chosen once and kept, in a `calvin.toml` that `dev` writes into its data
//! directory: machines that outlived a run that was killed know the coordinator by them. The file
//! is also the first example of one that a person sees, and may be changed.

use std::{
    collections::BTreeMap,
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use calvin_model::{HumanDuration, fleet::BudgetPolicy};

use super::{
    AgentsConfig, CatalogueConfig, ListenConfig, LoadError, Network, ProcessConfig,
    ProvidersConfig, ServeConfig,
};

/// The name of the environment that `--dev` makes.
const ENVIRONMENT: &str = "dev";

/// Why there is no environment to try.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Neither a directory was given nor is the user's known.
    #[error("neither XDG_STATE_HOME nor HOME is set: name a directory with --data")]
    NoHome,
    /// Something of it could not be made.
    #[error("could not {doing}")]
    Io {
        /// What was tried, on which path.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file of an earlier run is refused.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The configuration of the environment in `data`, or in the user's state directory; written at
/// its first use.
///
/// # Errors
/// The directory cannot be written, or its `calvin.toml` is wrong.
pub fn dev(data: Option<PathBuf>) -> Result<ServeConfig, DevError> {
    let data = match data {
        Some(data) => std::path::absolute(data).map_err(failed("find the working directory"))?,
        None => dev_directory().ok_or(DevError::NoHome)?,
    };
    let file = data.join("calvin.toml");
    if !file.exists() {
        write_new(&data, &file)?;
    }
    Ok(ServeConfig::load(&file)?)
}

/// Where `--dev` keeps its data unless told otherwise; `None` where the user has no home.
#[must_use]
pub fn dev_directory() -> Option<PathBuf> {
    state_directory(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))
}

/// The XDG base directory specification: state is kept under `$XDG_STATE_HOME`, else under
/// `~/.local/state`.
fn state_directory(
    state: Option<std::ffi::OsString>,
    home: Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    let given = |value: Option<std::ffi::OsString>| {
        value.map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let state = given(state).or_else(|| Some(given(home)?.join(".local/state")))?;
    Some(state.join("calvin/dev"))
}

fn write_new(data: &Path, file: &Path) -> Result<(), DevError> {
    fs::create_dir_all(data).map_err(failed(&format!("make {}", data.display())))?;
    let config = ServeConfig {
        // A constant that is a label.
        environment: ENVIRONMENT
            .parse()
            .map_err(|error| failed("name the environment")(io::Error::other(error)))?,
        data: PathBuf::from("."),
        domain: super::default_domain(),
        log: super::default_log(),
        report_interval: HumanDuration::from_secs(1),
        certificate_validity: super::default_certificate_validity(),
        agents: AgentsConfig {
            listen: free_port()?,
            advertise: Vec::new(),
        },
        operators: Some(ListenConfig {
            listen: free_port()?,
        }),
        http: Some(ListenConfig {
            listen: free_port()?,
        }),
        catalogue: CatalogueConfig {
            ttl: HumanDuration::from_secs(1),
            ..CatalogueConfig::default()
        },
        consul: None,
        provider: ProvidersConfig {
            process: ProcessConfig {
                network: Network::of_seed(fastrand::u8(..)),
                agent: None,
                zones: Vec::new(),
            },
        },
        limits: BTreeMap::new(),
        budget: BudgetPolicy::default(),
    };
    let text = toml::to_string(&config)
        .map_err(|error| failed("write the configuration as TOML")(io::Error::other(error)))?;
    let text = format!(
        "# Written by `calvin serve --dev` at its first start; read at every later one.\n\n{text}"
    );
    // By a second name, so that a crash leaves no half of it.
    let draft = file.with_extension("toml.new");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, file))
        .map_err(failed(&format!("write {}", file.display())))
}

/// A port that is free now; another process may take it before it is used, which then says so.
fn free_port() -> Result<SocketAddr, DevError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(failed("find a free port on 127.0.0.1"))
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> DevError {
    let doing = doing.to_owned();
    move |source| DevError::Io { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_start_has_the_ports_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = dev(Some(dir.path().join("env"))).unwrap();
        let second = dev(Some(dir.path().join("env"))).unwrap();
        assert_eq!(first, second);
        assert_eq!(first.data, dir.path().join("env"));
        let ports = [
            first.agents.listen.port(),
            first.operators.unwrap().listen.port(),
            first.http.unwrap().listen.port(),
        ];
        assert!(ports.iter().all(|port| *port != 0), "{ports:?}");
    }

    #[test]
    fn state_is_kept_where_the_user_keeps_it() {
        let of = |state: Option<&str>, home: Option<&str>| {
            state_directory(state.map(Into::into), home.map(Into::into))
        };
        assert_eq!(of(Some("/s"), Some("/h")), Some("/s/calvin/dev".into()));
        assert_eq!(
            of(None, Some("/h")),
            Some("/h/.local/state/calvin/dev".into())
        );
        assert_eq!(of(Some("relative"), None), None);
    }
}
