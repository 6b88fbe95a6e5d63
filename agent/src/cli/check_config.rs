//! `calvin-agent check-config`: reads the files that people write for a machine and says where
//! they are wrong, without touching anything.

use std::path::{Path, PathBuf};

use calvin_model::{ConfigError, ImageManifest, Provision};
use serde::Serialize;

use super::{Output, render};
use crate::{disk, exit::Exit};

/// Largest file that is looked at. What people write stays far below; a device or a log given by
/// mistake is not read to its end.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Image,
    Provision,
}

#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    kind: Option<Kind>,
    ok: bool,
    line: Option<usize>,
    column: Option<usize>,
    message: Option<String>,
    guess: Option<String>,
    #[serde(skip)]
    shown: String,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    ok: bool,
    files: &'a [Checked],
}

/// Checks every file; all are looked at, also after a wrong one.
pub(super) fn run(files: &[PathBuf], output: Output) -> Exit {
    let checked: Vec<Checked> = files.iter().map(|file| check(file)).collect();
    let ok = checked.iter().all(|file| file.ok);
    let written = match output {
        Output::Json => render::json(&Summary {
            ok,
            files: &checked,
        }),
        Output::Text => {
            for file in checked.iter().filter(|file| !file.ok) {
                render::problem(&file.shown);
            }
            let right = checked.iter().filter(|file| file.ok);
            let lines: Vec<_> = right.map(|file| format!("{}\n", file.shown)).collect();
            render::bytes(lines.concat().as_bytes())
        }
    };
    if ok { written } else { Exit::Config }
}

fn check(path: &Path) -> Checked {
    let file = path.display().to_string();
    let text = match read(path, &file) {
        Ok(text) => text,
        Err(error) => return wrong(file, None, error),
    };
    let kind = match kind_of(path, &file, &text) {
        Ok(kind) => kind,
        Err(error) => return wrong(file, None, error),
    };
    let parsed = match kind {
        Kind::Image => ImageManifest::parse(&file, &text)
            .map(|image| format!("image {} is right", image.tag())),
        Kind::Provision => Provision::parse(&file, &text)
            .map(|provision| format!("provision of instance {} is right", provision.instance)),
    };
    match parsed {
        Ok(words) => Checked {
            shown: format!("{file}: {words}"),
            file,
            kind: Some(kind),
            ok: true,
            line: None,
            column: None,
            message: None,
            guess: None,
        },
        Err(error) => wrong(file, Some(kind), error),
    }
}

fn wrong(file: String, kind: Option<Kind>, error: ConfigError) -> Checked {
    Checked {
        file,
        kind,
        ok: false,
        line: error.place.as_ref().map(|place| place.line),
        column: error.place.as_ref().map(|place| place.column),
        shown: error.to_string(),
        message: Some(error.message),
        guess: error.guess,
    }
}

fn read(path: &Path, file: &str) -> Result<String, ConfigError> {
    let refuse = |message: String| ConfigError {
        file: file.to_owned(),
        place: None,
        message,
        guess: None,
    };
    let bytes = match disk::read_bounded(path, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(refuse("no such file".to_owned())),
        Err(disk::DiskError::Read { source, .. }) => {
            return Err(refuse(format!("could not be read: {source}")));
        }
        Err(error) => return Err(refuse(error.to_string())),
    };
    String::from_utf8(bytes)
        .map_err(|error| refuse(format!("is not UTF-8 text: {}", error.utf8_error())))
}

/// The name decides where it is one of ours; else the keys at the top do.
fn kind_of(path: &Path, file: &str, text: &str) -> Result<Kind, ConfigError> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name {
        Some("image.toml") => return Ok(Kind::Image),
        Some("provision.toml") => return Ok(Kind::Provision),
        Some(_) | None => {}
    }
    let table: toml::Table = calvin_model::parse_toml(file, text)?;
    let has = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
    if has(&["join_token", "coordinators", "ca_pem"]) {
        Ok(Kind::Provision)
    } else if has(&["workload", "check", "service", "hooks", "version"]) {
        Ok(Kind::Image)
    } else {
        Err(ConfigError {
            file: file.to_owned(),
            place: None,
            message: "is neither an image.toml nor a provision.toml: it has no key of either"
                .to_owned(),
            guess: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(name: &str, text: &str) -> Checked {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        check(&path)
    }

    #[test]
    fn a_file_is_known_by_its_name_or_its_content() {
        let image = "name = \"web\"\nversion = \"1.0\"\n";
        assert!(check_text("image.toml", image).ok);
        let other = check_text("web.toml", image);
        assert_eq!((other.ok, other.kind), (true, Some(Kind::Image)));
        let provision = check_text("first.toml", "join_token = \"x\"\n");
        assert_eq!(
            (provision.ok, provision.kind),
            (false, Some(Kind::Provision))
        );
        assert_eq!(check_text("other.toml", "a = 1\n").kind, None);
    }

    #[test]
    fn a_slip_is_shown_with_its_place_and_a_guess() {
        let text = "name = \"web\"\nversion = \"1.0\"\n[[check]]\nname = \"up\"\ntcp = true\nport = 1\nintervall = \"1s\"\n";
        let checked = check_text("image.toml", text);
        assert_eq!((checked.ok, checked.line), (false, Some(7)), "{checked:?}");
        assert_eq!(checked.guess.as_deref(), Some("`interval`"));
        assert!(checked.shown.contains("7 | intervall"), "{}", checked.shown);
    }

    #[test]
    fn a_missing_file_and_one_that_is_no_text_are_told_apart() {
        let missing = check(Path::new("/nonexistent/image.toml"));
        assert_eq!(missing.message.as_deref(), Some("no such file"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.toml");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(check(&path).message.unwrap().starts_with("is not UTF-8"));
    }
}
