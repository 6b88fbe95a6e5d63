//! Which coordinator is asked. What is written on the command line counts before the environment
//! of the process, and that before the user's current context.

use std::{
    env,
    path::{Path, PathBuf},
};

use calvin_model::EnvironmentName;

use super::{
    contexts::{Context, Home},
    exit::Exit,
    failure::Failure,
};
use crate::config::{self, ServeConfig};

/// Where a coordinator listens on its own machine, if nobody says otherwise.
pub(crate) const SOCKET_DEFAULT: &str = "/run/calvin/operator.sock";

/// Where a coordinator's configuration is, if nobody says otherwise.
pub(crate) const CONFIG_DEFAULT: &str = "/etc/calvin/calvin.toml";

/// The socket in a coordinator's data directory.
const SOCKET_IN_DATA: &str = "run/operator.sock";

/// What was asked for, in the order in which it counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// `--socket`.
    pub(crate) socket_flag: Option<PathBuf>,
    /// `--context`.
    pub(crate) context_flag: Option<String>,
    /// `CALVIN_SOCKET`.
    pub(crate) socket_variable: Option<PathBuf>,
    /// `CALVIN_CONTEXT`.
    pub(crate) context_variable: Option<String>,
}

/// How a coordinator is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Over its socket on this machine.
    Socket(PathBuf),
    /// Over TLS, with a certificate.
    Tls(Box<TlsTarget>),
}

/// What a TLS connection needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsTarget {
    /// The context's name.
    pub(crate) context: String,
    /// `host:port`.
    pub(crate) address: String,
    /// The environment's name.
    pub(crate) environment: EnvironmentName,
    /// The CA certificates.
    pub(crate) ca: PathBuf,
    /// The operator's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Wish {
    /// Adds what the environment of this process says.
    pub(crate) fn with_variables(self) -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            socket_variable: set("CALVIN_SOCKET").map(PathBuf::from),
            context_variable: set("CALVIN_CONTEXT").map(|name| name.to_string_lossy().into_owned()),
            ..self
        }
    }

    /// The coordinator that is meant.
    pub(crate) fn target(&self, home: Option<&Home>) -> Result<Target, Failure> {
        if let Some(socket) = &self.socket_flag {
            return Ok(Target::Socket(socket.clone()));
        }
        if let Some(name) = &self.context_flag {
            return named(home, name);
        }
        if let Some(socket) = &self.socket_variable {
            return Ok(Target::Socket(socket.clone()));
        }
        if let Some(name) = &self.context_variable {
            return named(home, name);
        }
        let contexts = home.map(Home::load).transpose()?.unwrap_or_default();
        match &contexts.current {
            Some(name) => of_context(name, contexts.get(name)?),
            None => Ok(Target::Socket(last_resort(
                Path::new(SOCKET_DEFAULT),
                [
                    configured(Path::new(CONFIG_DEFAULT)),
                    config::dev_directory().map(|data| data.join(SOCKET_IN_DATA)),
                ],
            ))),
        }
    }

    /// The flags of this command line, to be repeated in commands that are suggested.
    pub(crate) fn flags(&self) -> String {
        if let Some(socket) = &self.socket_flag {
            return format!(" --socket {}", socket.display());
        }
        self.context_flag
            .as_ref()
            .map_or(String::new(), |context| format!(" --context {context}"))
    }
}

/// The coordinator of this machine; where it has no socket at its usual place, the first of the
/// others that has one: where this machine's `calvin.toml` keeps its data, or what
/// `calvin serve --dev` runs for this user, so that a tutorial needs no flags.
fn last_resort(machine: &Path, others: [Option<PathBuf>; 2]) -> PathBuf {
    if machine.exists() {
        return machine.to_owned();
    }
    let other = others.into_iter().flatten().find(|other| other.exists());
    other.unwrap_or_else(|| machine.to_owned())
}

/// The socket of the coordinator that this file configures, if this user may read it.
fn configured(file: &Path) -> Option<PathBuf> {
    let config = ServeConfig::load(file).ok()?;
    Some(config.data.join(SOCKET_IN_DATA))
}

fn named(home: Option<&Home>, name: &str) -> Result<Target, Failure> {
    let contexts = home.map(Home::load).transpose()?.unwrap_or_default();
    of_context(name, contexts.get(name)?)
}

/// What a context says, checked: the first key that is missing is named.
pub(crate) fn of_context(name: &str, context: &Context) -> Result<Target, Failure> {
    if let Some(socket) = &context.socket {
        return Ok(Target::Socket(socket.clone()));
    }
    let missing = |key: &str| {
        Failure::new(Exit::Usage, format!("could not use the context {name}"))
            .reason(format!("it has no `{key}`, and no `socket` either"))
            .next(format!("calvin context show {name}"))
    };
    let file = |path: &Option<PathBuf>, key: &str| path.clone().ok_or_else(|| missing(key));
    Ok(Target::Tls(Box::new(TlsTarget {
        context: name.to_owned(),
        address: context.address.clone().ok_or_else(|| missing("address"))?,
        environment: context
            .environment
            .clone()
            .ok_or_else(|| missing("environment"))?,
        ca: file(&context.ca, "ca")?,
        certificate: file(&context.certificate, "certificate")?,
        key: file(&context.key, "key")?,
    })))
}

impl Target {
    /// The target in words, for errors.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Socket(path) => format!("the coordinator's socket {}", path.display()),
            Self::Tls(target) => {
                format!(
                    "the coordinator at {} (context {})",
                    target.address, target.context
                )
            }
        }
    }

    /// The socket's path, if it is one.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match self {
            Self::Socket(path) => Some(path),
            Self::Tls(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_counts_before_a_variable() {
        let wish = Wish {
            socket_flag: Some("/flag".into()),
            socket_variable: Some("/variable".into()),
            ..Wish::default()
        };
        assert_eq!(wish.target(None).unwrap(), Target::Socket("/flag".into()));
        let wish = Wish {
            socket_flag: None,
            ..wish
        };
        assert_eq!(
            wish.target(None).unwrap(),
            Target::Socket("/variable".into())
        );
    }

    #[test]
    fn the_dev_coordinator_is_asked_only_where_the_machine_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let (machine, dev) = (
            directory.path().join("machine"),
            directory.path().join("dev"),
        );
        let others = [None, Some(dev.clone())];
        assert_eq!(last_resort(&machine, others.clone()), machine);
        std::fs::write(&dev, "").unwrap();
        assert_eq!(last_resort(&machine, others.clone()), dev);
        std::fs::write(&machine, "").unwrap();
        assert_eq!(last_resort(&machine, others), machine);
    }

    #[test]
    fn the_socket_in_the_data_of_this_machines_file_counts_before_the_dev_coordinators() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let file = path("calvin.toml");
        assert_eq!(configured(&file), None);
        let text = "environment = \"a\"\ndata = \"d\"\n[agents]\nlisten = \"127.0.0.1:1\"\n\
                    [provider.process]\nnetwork = \"127.99.0.0/24\"\n";
        std::fs::write(&file, text).unwrap();
        let socket = configured(&file).unwrap();
        assert_eq!(socket, path("d").join(SOCKET_IN_DATA));
        std::fs::write(path("dev"), "").unwrap();
        let others = [Some(socket.clone()), Some(path("dev"))];
        assert_eq!(last_resort(&path("machine"), others.clone()), path("dev"));
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        std::fs::write(&socket, "").unwrap();
        assert_eq!(last_resort(&path("machine"), others), socket);
    }

    #[test]
    fn a_context_flag_counts_before_the_socket_of_the_environment() {
        let wish = Wish {
            context_flag: Some("prod".to_owned()),
            socket_variable: Some("/variable".into()),
            ..Wish::default()
        };
        let failure = wish.target(None).unwrap_err();
        assert_eq!(failure.to_string(), "could not use the context prod");
    }

    #[test]
    fn a_context_without_a_key_says_which_one() {
        let context = Context {
            address: Some("x:1".to_owned()),
            ..Context::default()
        };
        let failure = of_context("prod", &context).unwrap_err();
        let text = failure.report(
            crate::cli::screen::Format::Table,
            crate::cli::failure::Page::Lines,
        );
        assert!(text.contains("it has no `environment`"), "{text}");
    }
}
