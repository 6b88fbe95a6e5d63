//! `contexts.toml`: the environments that this user works with, as `kubectl` and `docker` keep
//! them. Certificates and keys lie beside it, each context in a directory of its own.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use calvin_model::{EnvironmentName, config::nearest, parse_toml};
use serde::{Deserialize, Serialize};

use super::{exit::Exit, failure::Failure};

/// Only the user may read keys, and what says where they are.
pub(crate) const PRIVATE_FILE: u32 = 0o600;
/// Only the user may enter the directory of keys.
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Longest name of a context: a directory is named after it.
const NAME_MAX: usize = 64;

/// The content of `contexts.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used when none is named.
    pub(crate) current: Option<String>,
    /// All of them, by name.
    #[serde(default, rename = "context")]
    pub(crate) all: BTreeMap<String, Context>,
}

/// How one coordinator is reached: over its socket, or over TLS with a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The coordinator's socket on this machine. Everything else is for TLS.
    pub(crate) socket: Option<PathBuf>,
    /// The environment's name, which the coordinator's certificate must show.
    pub(crate) environment: Option<EnvironmentName>,
    /// Where the coordinator listens, `host:port`.
    pub(crate) address: Option<String>,
    /// The environment's CA certificates, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// The operator's certificate, PEM.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub(crate) key: Option<PathBuf>,
}

/// Where this user's files are.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    directory: PathBuf,
}

impl Home {
    /// `$XDG_CONFIG_HOME/calvin`, or `~/.config/calvin`; `None` where neither is set.
    pub(crate) fn find() -> Option<Self> {
        let set = |name| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(Self {
            directory: base.join("calvin"),
        })
    }

    /// The same, or why there is none.
    pub(crate) fn required() -> Result<Self, Failure> {
        Self::find().ok_or_else(|| {
            Failure::new(Exit::Usage, "could not find the directory of contexts.toml")
                .reason("neither XDG_CONFIG_HOME nor HOME is set")
        })
    }

    /// Where `contexts.toml` is.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join("contexts.toml")
    }

    /// Where the files of a context are.
    pub(crate) fn files_of(&self, name: &str) -> PathBuf {
        self.directory.join("contexts").join(name)
    }

    /// Reads `contexts.toml`; without one there are no contexts.
    pub(crate) fn load(&self) -> Result<Contexts, Failure> {
        let path = self.file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(unreadable(&path, error)),
        };
        parse_toml(&path.display().to_string(), &text).map_err(|error| {
            Failure::new(Exit::Usage, "could not read the contexts").because(error)
        })
    }

    /// Writes `contexts.toml`, whole or not at all.
    pub(crate) fn save(&self, contexts: &Contexts) -> Result<(), Failure> {
        let path = self.file();
        let tried = || format!("could not write {}", path.display());
        let text = toml::to_string(contexts)
            .map_err(|error| Failure::new(Exit::Failed, tried()).because(error))?;
        make_private_directory(&self.directory)?;
        let new = path.with_extension("toml.new");
        write_private(&new, text.as_bytes())?;
        fs::rename(&new, &path).map_err(|error| Failure::new(Exit::Failed, tried()).because(error))
    }
}

impl Contexts {
    /// The context of that name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.all.get(name).ok_or_else(|| {
            let guess = nearest(name, self.all.keys().map(String::as_str));
            let hint = guess.map_or(String::new(), |guess| format!("; did you mean {guess}?"));
            Failure::new(Exit::Usage, format!("could not use the context {name}"))
                .reason(format!("there is none of that name{hint}"))
                .next("calvin context list")
        })
    }
}

/// Checks that a text can name a context.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(fine) {
        return Ok(());
    }
    Err(
        Failure::new(Exit::Usage, format!("could not name a context {name:?}")).reason(format!(
            "a name has 1 to {NAME_MAX} letters, digits, hyphens or underscores"
        )),
    )
}

/// Reads a file that a context names.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("could not read {}", path.display())).because(error)
}

/// Makes a directory that only the user may enter, and those above it.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIRECTORY)
        .create(path)
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("could not make {}", path.display())).because(error)
        })
}

/// Writes a file that only the user may read. It is born with its mode: at no moment can anybody
/// else open it.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE_FILE)
            .open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| {
        Failure::new(Exit::Failed, format!("could not write {}", path.display())).because(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cli::{failure::Page, screen::Format};

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home {
            directory: directory.path().join("calvin"),
        };
        (directory, home)
    }

    #[test]
    fn contexts_are_read_back_as_written_and_private() {
        let (_directory, home) = home();
        let mut contexts = Contexts {
            current: Some("prod".to_owned()),
            ..Contexts::default()
        };
        let context = Context {
            address: Some("10.0.0.5:7443".to_owned()),
            environment: Some("prod".parse().unwrap()),
            ..Context::default()
        };
        contexts.all.insert("prod".to_owned(), context);
        home.save(&contexts).unwrap();
        home.save(&contexts).unwrap();
        assert_eq!(home.load().unwrap(), contexts);
        let mode = fs::metadata(home.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE_FILE);
    }

    #[test]
    fn without_a_file_there_are_no_contexts() {
        let (_directory, home) = home();
        assert_eq!(home.load().unwrap(), Contexts::default());
    }

    #[test]
    fn a_slip_in_the_file_is_shown_with_its_place_and_a_guess() {
        let (_directory, home) = home();
        make_private_directory(&home.directory).unwrap();
        write_private(&home.file(), b"[context.prod]\nadress = \"x:1\"\n").unwrap();
        let failure = home.load().unwrap_err();
        let text = failure.report(Format::Table, Page::Lines);
        assert!(
            text.contains("contexts.toml:2:1") && text.contains("`address`"),
            "{text}"
        );
        assert_eq!(failure.exit(), Exit::Usage);
    }

    #[test]
    fn a_slip_in_a_name_is_guessed() {
        let mut contexts = Contexts::default();
        contexts
            .all
            .insert("staging".to_owned(), Context::default());
        let text = contexts
            .get("stagin")
            .unwrap_err()
            .report(Format::Table, Page::Lines);
        assert!(text.contains("did you mean staging?"), "{text}");
    }

    #[test]
    fn a_name_cannot_leave_its_directory() {
        for bad in ["", "..", "a/b", "a b", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("prod-eu_1").is_ok());
    }
}
