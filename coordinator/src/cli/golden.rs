//! Compares a text with a file of this crate. `CALVIN_BLESS=1 cargo test` writes the files anew,
//! so that a change of wording is read as a diff.

use std::{env, fs, path::Path};

/// Compares `text` with the golden text `name`.
pub(crate) fn assert_text(name: &str, text: &str) {
    assert_file(&format!("src/cli/golden/{name}.txt"), text);
}

/// Compares `text` with the file at `path`, from the crate's directory.
pub(crate) fn assert_file(path: &str, text: &str) {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("CALVIN_BLESS").is_some() {
        fs::create_dir_all(full.parent().expect("a file has a directory")).unwrap();
        fs::write(&full, text).unwrap();
    }
    let expected = fs::read_to_string(&full).unwrap_or_default();
    assert_eq!(
        text, expected,
        "{path} differs; CALVIN_BLESS=1 writes it anew"
    );
}
