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
use crate::config;

/// Where a coordinator listens on its own machine, if nobody says otherwise.
pub(crate) const SOCKET_DEFAULT: &str = "/run/calvin/operator.sock";

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
                config::dev_directory().map(|data| data.join(SOCKET_IN_DATA)),
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

/// The coordinator of this machine; where there is none, the one that `calvin serve --dev` runs for
/// this user, so that a tutorial needs no flags.
fn last_resort(machine: &Path, dev: Option<PathBuf>) -> PathBuf {
    match dev {
        Some(dev) if dev.exists() && !machine.exists() => dev,
        Some(_) | None => machine.to_owned(),
    }
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
        assert_eq!(last_resort(&machine, Some(dev.clone())), machine);
        std::fs::write(&dev, "").unwrap();
        assert_eq!(last_resort(&machine, Some(dev.clone())), dev);
        std::fs::write(&machine, "").unwrap();
        assert_eq!(last_resort(&machine, Some(dev)), machine);
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
